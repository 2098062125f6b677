"""All variants of the four-site library of GB1 under ``joint``, against scoring them one by one.

    python benchmarks/joint_library.py

A model of the 8M ESM-2 shape with random weights. The plain way masks the sites of one variant, runs that
context alone, reads the change of log-probabilities, and goes on to the next; 500 variants are timed and
scaled up. Ours reads and parses nothing either: both start from parsed variants. CPU seconds. The 149,361
variants are those of Wu et al. 2016 from the developers' data, else a library of 4 x 20 letters.
"""

import gzip
import random
import time

import numpy as np
import torch

from measuring import SHARED, esm2_8m, in_turns, keep, ratio
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.models.language_model import LanguageModel
from protlm.scoring.libraries import combinations
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import VariantScores, score_variants
from protlm.scoring.wild_type import WildType
from protlm.types.record import Chain, Record
from protlm.types.variant import Variant, VariantParser

GB1 = "MQYKLILNGKTLKGETTTEAVDAATAEKVFKQYANDNGVDGEWTYDDATKTFTVTE"
SITES = "39,40,41,54"
ONE_BY_ONE = 500


def main() -> None:
    model, variants = esm2_8m(), library()
    record = Record("GB1", (Chain(GB1),))
    sample = random.Random(0).sample(range(len(variants)), ONE_BY_ONE)
    plan = make_plan("masked_marginal", fill="joint")
    kept: dict[str, np.ndarray] = {}
    results: list[VariantScores] = []

    def ours() -> None:
        results.append(score_variants(model, plan, record, variants))
        kept["ours"] = results[-1].scores[sample]

    def plain() -> None:
        kept["plain"] = np.array([score_alone(model, record, variants[row]) for row in sample])

    seconds = in_turns({"ours": ours, "plain": plain}, clock=time.process_time)
    scaled = {**seconds, "plain": [each * len(variants) / ONE_BY_ONE for each in seconds["plain"]]}
    keep(
        "joint_library",
        {
            "variants": len(variants),
            "masked contexts": results[-1].num_masked_contexts,
            "CPU seconds for all": {name: min(times) for name, times in scaled.items()},
            f"ratio, the plain way scaled up from {ONE_BY_ONE}": ratio(scaled, "plain", "ours"),
            "largest difference of scores": float(np.abs(kept["ours"] - kept["plain"]).max()),
            "spread of scores (sd)": float(kept["plain"].std()),
        },
    )


def score_alone(model: LanguageModel, record: Record, variant: Variant) -> float:
    """Equation 1 of Meier et al. 2021 for one variant in one pass."""
    if not variant.mutations:
        return 0.0
    batch, ids = collate(flatten_records([record]), model.layout), model.layout.ids
    rows = torch.tensor([1 + each.index for each in variant.mutations])
    batch.tokens[rows] = model.layout.mask_id
    with torch.inference_mode():
        logprobs = torch.log_softmax(model.logits(batch, rows), dim=-1)
    return sum(
        float(row[ids[each.mutant]] - row[ids[each.wild_type]])
        for row, each in zip(logprobs, variant.mutations, strict=True)
    )


def library() -> list[Variant]:
    path = SHARED / "dms" / "gb1_four_site.tsv.gz"
    if not path.exists():
        table = combinations(WildType(Record("GB1", (Chain(GB1),))), SITES)
        return [variant for variant in table.variants if variant is not None]
    parse = VariantParser(GB1)
    with gzip.open(path, "rt") as lines:
        next(lines)
        return [parse(line.split("\t")[0]) for line in lines]


if __name__ == "__main__":
    main()
