"""Embeddings of structures: the first run computes and keeps them, the second reads them.

    python benchmarks/embedding_store.py [BACKBONES.parquet]

Both runs open a file of backbones, hash each and touch every number of its embedding; the second opens a
fresh store. CPU time, because the machine may be busy. Encoders have random weights: ProteinMPNN's at its
published size, ESM-IF1's with one layer of its eight. Results are compared bit by bit.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring import SHARED, keep
from protlm.data.backbone_tables import BackboneWriter
from protlm.data.backbones import open_backbones
from protlm.models.structure_encoder import LearnedEncoder, new_structure_encoder
from protlm.models.structure_features import structure_features

NUM_STRUCTURES, MOST_RESIDUES = 16, 150


def main(source: Path) -> None:
    torch.set_num_threads(1)
    encoders = {
        "protein-mpnn": new_structure_encoder("protein-mpnn", {"num_decoder_layers": 0}),
        "gvp-transformer, 1 layer": new_structure_encoder(
            "gvp-transformer", {"encoder_layers": 1, "decoder_layers": 0}
        ),
    }
    every = open_backbones(source)
    chosen = np.flatnonzero(every.lengths <= MOST_RESIDUES)[:NUM_STRUCTURES]
    result: dict[str, Any] = {
        "input": source.name,
        "structures": len(chosen),
        "residues": int(every.lengths[chosen].sum()),
        "load": os.getloadavg()[0],
    }
    for name, encoder in encoders.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            with BackboneWriter(folder / "some.parquet") as writer:
                for backbone in every.take(chosen):
                    writer.add(backbone)
            first, expected = _run(encoder, folder)
            seconds, found = zip(*(_run(encoder, folder) for _ in range(3)), strict=True)
        assert all(each == expected for each in found)
        result[name] = {
            "first, CPU seconds": first,
            "second, CPU seconds": sorted(seconds),
            "ratio": first / sorted(seconds)[1],
        }
    keep("embedding_store", result)


def _run(encoder: LearnedEncoder, folder: Path) -> tuple[float, list[bytes]]:
    begin = time.process_time()
    found = structure_features(encoder, open_backbones(folder / "some.parquet"), folder)
    total = float(sum(each.sum() for each in found))
    seconds = time.process_time() - begin
    assert np.isfinite(total)
    return seconds, [each.tobytes() for each in found]


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0]) if given else SHARED / "structures" / "cath_domains_backbone.parquet")
