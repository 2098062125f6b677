"""Inverse folding: 1,000 variants of one backbone, and backbones embedded in batches, against one at a time.

Random weights: a small ESM-IF1, and a ProteinMPNN half as wide as published. The plain way encodes the
backbone for every variant and reads it alone; and embeds one structure at a time. Seconds of the processor,
one thread.
"""

import argparse
import time

import numpy as np
import torch

from measuring import SHARED, in_turns, keep, ratio
from protlm.data.backbones import open_backbones
from protlm.models.structure_encoder import (
    GVPTransformerStructures,
    LearnedEncoder,
    ProteinMPNNStructures,
    new_structure_encoder,
)
from protlm.scoring.inverse_folding import open_inverse_folding
from protlm.types.structure import Backbone
from protlm.types.variant import Variant, all_single_substitutions

ENCODERS = {
    "gvp-transformer": {
        "gvp_node_hidden_dim_scalar": 128,
        "gvp_node_hidden_dim_vector": 32,
        "gvp_num_encoder_layers": 2,
        "encoder_layers": 4,
        "decoder_layers": 4,
        "encoder_embed_dim": 128,
        "decoder_embed_dim": 128,
        "encoder_ffn_embed_dim": 512,
        "decoder_ffn_embed_dim": 512,
    },
    "protein-mpnn": {"hidden_dim": 64},
}


def helix(size: int, seed: int) -> Backbone:
    """Make a helix with noise, where there is no real data."""
    random, turn = np.random.default_rng(seed), np.arange(size * 4) * np.deg2rad(25)
    atoms = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 0.375 * np.arange(size * 4)], axis=1)
    atoms = (atoms + random.normal(size=atoms.shape) * 0.2).reshape(size, 4, 3)
    return Backbone(f"helix{seed}", "A" * size, atoms, np.zeros(size, int), ("A",))


def backbones(count: int) -> list[Backbone]:
    """Take real ones, as they come."""
    path = SHARED / "structures" / "cath_domains_backbone.parquet"
    if not path.exists():
        return [helix(60 + 7 * (number % 20), number) for number in range(count)]
    return list(open_backbones(path)[:count])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--plain-variants", type=int, default=40, help="of the plain way, scaled up")
    parser.add_argument("--structures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    structures = backbones(given.structures)
    target = min(structures, key=lambda each: abs(len(each) - 60))
    every = [variant for _, variant in all_single_substitutions(target.residues)]
    order = np.random.default_rng(0).permutation(len(every))[: given.variants]
    chosen = [every[number] for number in order]
    result = {}
    for kind, arguments in ENCODERS.items():
        encoder = new_structure_encoder(kind, arguments)
        result[kind] = {
            "parameters": sum(each.numel() for each in encoder.module.parameters()),
            "scoring": scoring(encoder, target, chosen, given.plain_variants, given.rounds),
            "embedding": embedding(encoder, structures, given.rounds),
        }
    facts = {
        "structures": len(structures),
        "residues": sum(len(each) for each in structures),
        "scored": {"id": target.id, "residues": len(target), "variants": len(chosen)},
    }
    keep("inverse_folding", facts | result)


def scoring(
    encoder: GVPTransformerStructures | ProteinMPNNStructures,
    target: Backbone,
    variants: list[Variant],
    num_plain: int,
    rounds: int,
) -> dict:
    """Compare one encoding for all variants with one for each."""
    found = {}

    def once() -> None:
        found["once"] = open_inverse_folding(encoder, target).scores(variants)

    ready = open_inverse_folding(encoder, target)

    def each_time() -> None:
        scores = []
        for one in variants[:num_plain]:
            with torch.inference_mode():
                encoder.encode([target])
            scores.append(ready.scores([one]))
        found["each"] = np.concatenate(scores)

    seconds = in_turns({"plain": each_time, "ours": once}, rounds=rounds, clock=time.process_time)
    seconds["plain"] = [value * len(variants) / num_plain for value in seconds["plain"]]
    return {
        "ratio": ratio(seconds, "plain", "ours"),
        "seconds_ours": min(seconds["ours"]),
        "seconds_plain_scaled": min(seconds["plain"]),
        "largest_difference": float(np.abs(found["once"][:num_plain] - found["each"]).max()),
    }


def embedding(encoder: LearnedEncoder, structures: list[Backbone], rounds: int) -> dict:
    """Compare batches of like length with one structure at a time."""
    found = {}

    def one_by_one() -> None:
        found["one"] = [encoder.embed([each])[0] for each in structures]

    def batched() -> None:
        found["batch"] = encoder.embed(structures)

    seconds = in_turns({"plain": one_by_one, "ours": batched}, rounds=rounds, clock=time.process_time)
    pairs = zip(found["one"], found["batch"], strict=True)
    return {
        "ratio": ratio(seconds, "plain", "ours"),
        "seconds_ours": min(seconds["ours"]),
        "largest_difference": max(float(np.abs(one - other).max()) for one, other in pairs),
    }


if __name__ == "__main__":
    main()
