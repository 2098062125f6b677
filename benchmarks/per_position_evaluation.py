"""Per-position evaluation of an antibody pair with a model of the 8M ESM-2 shape, against a batch of one.

    python benchmarks/per_position_evaluation.py [HEAVY LIGHT]

The plain way is that of the published notebook (Ng & Briney, per-position inference): the same model called
through Hugging Face once per residue, at batch size 1, log-softmax over the whole head. Beside it, our own
flat path at batch size 1. Ours is what `evaluate regions` runs: the engine and the table of residues. Weights
are random and the same for all, so the log-probabilities must agree.
"""

import sys

import numpy as np
import torch

from measuring import esm2_8m, in_turns, keep, ratio
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.simulate import simulate_repertoire
from protlm.evaluation.residues import over_twenty, predict_residues, residue_facts, residue_table
from protlm.types.record import Chain, Record, Role


def main(record: Record) -> None:
    model = esm2_8m()
    base = collate(flatten_records([record]), model.layout)
    places = torch.nonzero(base.chain_index >= 0)[:, 0].tolist()
    kept: dict[str, np.ndarray] = {}

    def masked(place: int) -> torch.Tensor:
        tokens = base.tokens.clone()
        tokens[place] = model.layout.mask_id
        return tokens

    def one_at_a_time(name: str) -> None:
        rows = []
        with torch.inference_mode():
            for place in places:
                if name == "batch of one, Hugging Face":
                    logits = model.module(input_ids=masked(place)[None]).logits[0, place]
                else:
                    batch = collate(flatten_records([record]), model.layout)
                    batch.tokens[place] = model.layout.mask_id
                    logits = model.logits(batch)[place]
                rows.append(torch.log_softmax(logits, dim=-1))
        reads = over_twenty(torch.stack(rows).numpy(), model.layout)
        kept[name] = residue_table(model.name, residue_facts([record]), reads)["logprob"].to_numpy()

    def ours() -> None:
        kept["ours"] = predict_residues(model, [record], max_tokens=model.token_budget)["logprob"].to_numpy()

    plain = ("batch of one, Hugging Face", "batch of one, flat tokens")
    ways = {name: (lambda name=name: one_at_a_time(name)) for name in plain}
    seconds = in_turns({**ways, "ours": ours}, rounds=2)
    keep(
        "per_position_evaluation",
        {
            "residues": len(record),
            "seconds": {name: min(times) for name, times in seconds.items()},
            **{f"ratio to {name}": ratio(seconds, name, "ours") for name in plain},
            "largest difference of log-probabilities": {
                name: float(np.abs(kept[name] - kept["ours"]).max()) for name in plain
            },
        },
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        roles = (Role.HEAVY, Role.LIGHT)
        heavy, light = (Chain(text, role=role) for text, role in zip(sys.argv[1:], roles, strict=True))
        main(Record("given", (heavy, light)))
    else:
        main(next(simulate_repertoire(1, seed=0)))
