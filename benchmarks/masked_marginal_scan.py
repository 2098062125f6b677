"""Masked-marginal scan of a protein with a model of the 8M ESM-2 shape, against the reference script's way.

    python benchmarks/masked_marginal_scan.py [SEQUENCE]

The plain way is that of fair-esm's `predict.py`: the fair-esm model in float32, one forward pass at batch
size 1 for every token, begin and end included, the whole head, log-softmax over it. Ours runs the engine.
Weights are random and the same on both sides, so the scores must agree. By default the sequence is mature
TEM-1 beta-lactamase (263 residues) from the developers' data, else a random one of that length.
"""

import copy
import random
import sys

import esm
import numpy as np
import polars as pl
import torch

from measuring import SHARED, esm2_8m, in_turns, keep, matmul_ceiling, ratio
from protlm.models.language_model import LanguageModel
from protlm.scoring.marginals import MaskedMarginal
from protlm.scoring.variants import score_variants
from protlm.statistics.metrics import spearman
from protlm.types.alphabet import STANDARD
from protlm.types.record import Chain, Record
from protlm.types.variant import all_single_substitutions, parse_variant


def main(sequence: str) -> None:
    ours = esm2_8m()
    reference = _fair_esm(ours)
    half = LanguageModel(copy.deepcopy(ours.module), ours.layout, name="bfloat16").cast("bfloat16")
    wild_type = Record("wild type", (Chain(sequence),))
    variants = [variant for _, variant in all_single_substitutions(sequence)]
    tokens = torch.tensor([[0, *(ours.layout.ids[letter] for letter in sequence), 2]])
    kept: dict[str, np.ndarray] = {}

    def plain() -> None:
        rows = []
        with torch.no_grad():
            for index in range(tokens.shape[1]):
                masked = tokens.clone()
                masked[0, index] = ours.layout.mask_id
                rows.append(torch.log_softmax(reference(masked)["logits"], dim=-1)[:, index])
        logprobs = torch.cat(rows)[1:-1].numpy()
        ids = {letter: ours.layout.ids[letter] for letter in STANDARD}
        kept["plain"] = np.array(
            [
                logprobs[m.index, ids[m.mutant]] - logprobs[m.index, ids[m.wild_type]]
                for (m,) in (variant.mutations for variant in variants)
            ]
        )

    def engine(model: LanguageModel, name: str) -> None:
        kept[name] = score_variants(model, MaskedMarginal(), wild_type, variants).scores

    seconds = in_turns(
        {
            "plain": plain,
            "float32": lambda: engine(ours, "float32"),
            "bfloat16": lambda: engine(half, "bfloat16"),
        }
    )
    few = [
        parse_variant(f"{sequence[i]}{i + 1}{'A' if sequence[i] != 'A' else 'G'}", sequence) for i in range(4)
    ]
    ceilings = {"float32": matmul_ceiling(torch.float32), "bfloat16": matmul_ceiling(torch.bfloat16)}
    flops = _flops(len(sequence)) * len(sequence)
    keep(
        "masked_marginal_scan",
        {
            "residues": len(sequence),
            "variants": len(variants),
            "seconds": {name: min(times) for name, times in seconds.items()},
            "ratio, float32": ratio(seconds, "plain", "float32"),
            "ratio, bfloat16": ratio(seconds, "plain", "bfloat16"),
            "largest difference of scores, float32": float(np.abs(kept["float32"] - kept["plain"]).max()),
            "largest difference of scores, bfloat16": float(np.abs(kept["bfloat16"] - kept["plain"]).max()),
            "spread of scores (sd)": float(kept["plain"].std()),
            "spearman, bfloat16 to float32": spearman(kept["bfloat16"], kept["float32"]),
            "matrix product ceiling, GFLOP/s": ceilings,
            "share of the ceiling": {
                name: flops / min(seconds[name]) / 1e9 / ceilings[name] for name in ceilings
            },
            "masked contexts for variants at 4 positions": score_variants(
                ours, MaskedMarginal(), wild_type, few
            ).num_masked_contexts,
        },
    )


def _flops(residues: int) -> float:
    """Floating-point operations the unpruned model needs for one context: what both ways are rated by."""
    tokens, width, layers = residues + 2, 320, 6
    per_layer = 2 * 12 * width**2 * tokens + 4 * tokens**2 * width
    return layers * per_layer + 2 * (width**2 + 33 * width) * tokens


def _fair_esm(model: LanguageModel) -> torch.nn.Module:
    """Give the fair-esm model with the same weights."""
    theirs = esm.model.esm2.ESM2(num_layers=6, embed_dim=320, attention_heads=20, alphabet="ESM-1b").eval()
    state = model.module.state_dict()
    names = {
        "embed_tokens": "esm.embeddings.word_embeddings",
        "emb_layer_norm_after": "esm.encoder.emb_layer_norm_after",
        "lm_head.dense": "lm_head.dense",
        "lm_head.layer_norm": "lm_head.layer_norm",
    }
    inside = {
        "self_attn.k_proj": "attention.self.key",
        "self_attn.v_proj": "attention.self.value",
        "self_attn.q_proj": "attention.self.query",
        "self_attn.out_proj": "attention.output.dense",
        "self_attn_layer_norm": "attention.LayerNorm",
        "fc1": "intermediate.dense",
        "fc2": "output.dense",
        "final_layer_norm": "LayerNorm",
    }
    for layer in range(6):
        names |= {f"layers.{layer}.{a}": f"esm.encoder.layer.{layer}.{b}" for a, b in inside.items()}
    wanted = theirs.state_dict()
    for mine, other in names.items():
        for part in ("weight", "bias"):
            if f"{mine}.{part}" in wanted:
                wanted[f"{mine}.{part}"] = state[f"{other}.{part}"]
    wanted["lm_head.bias"] = state["lm_head.bias"]
    wanted["lm_head.weight"] = state["esm.embeddings.word_embeddings.weight"]
    theirs.load_state_dict(wanted)
    return theirs


def default_sequence() -> str:
    table = SHARED / "dms" / "dms_reference.tsv"
    if not table.exists():
        return "".join(random.Random(0).choices(STANDARD, k=263))
    frame = pl.read_csv(table, separator="\t")
    return frame.filter(pl.col("assay").str.contains("Ranganathan"))["wt_sequence"][0]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else default_sequence())
