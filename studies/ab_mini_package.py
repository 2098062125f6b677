"""Put a trained model in the package: half-precision weights and a card made from its Run and evaluation.

python studies/ab_mini_package.py RUN EVALUATION_RUN src/protlm/models/box/protlm-ab-mini
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.groups import cdr3_of
from protlm.evaluation.regions import region_cells, summarise
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.runs import Run
from protlm.training.sources import token_lengths
from protlm.types.record import Role
from protlm.types.regions import REGIONS

SAME_CLONE = 0.8
"""Identity of CDR3s above which chains may be of one clone."""
BASELINES = {"position_mode": "(a) position", "germline": "(b) germline", "genes": "(c) genes"}


CARD = """# protlm-ab-mini

A masked language model of antibody variable domains, for single chains and heavy/light pairs.
{parameters:,} parameters; ESM architecture with rotary positions; pairs parted by `<cls><cls>`; preferential
masking of CDR3 (Ng & Briney 2025). Weights are stored in float16 and computed in float32.

## Where it falls short
{short}

It is small and trained on few sequences, human for the most part, and knows no T-cell receptors. The sources
below were in its training: a task on their sequences with this model as encoder is not blind to them.

## Data
{records:,} records in training, from `studies/ab_mini_corpus.py`; one group in twenty (heavy CDR3, else
light CDR3) was held out.

| source | records in training | licence of the sequences | attribution |
|---|---|---|---|
{sources}

## Recipe
`configs/pretrain/protlm-ab-mini.yaml` with max_steps {max_steps}, learning_rate {learning_rate}, warmup_steps
{warmup_steps}; seed {seed}; {tokens:.1f} M tokens, {passes:.1f} passes over the training records, in
{precision} on CPU. Best evaluation loss {loss:.3f} nats.

## Figures
Held-out records, every residue masked once; means over residues with 95 % intervals that resample groups.
(a) residue frequency at the IMGT position; (b) the nearest germline residue mixed with (a); (c) residue
frequency given the true V or J gene, or (a) where the source names none; all fitted on the training
chains.
{tables}

Licence of the weights: MIT, with attribution of the sources above, as CC BY asks.
"""
FINE = "It beats baselines (a) and (b) in all regions of held-out heavy chains, and (c) in CDR3."


def main(run: Run, evaluation: Run, out: Path) -> None:
    """Write weights in float16 (loaded as float32) and ``README.md``."""
    model = load_model(run.path, device="cpu")
    if out.exists():
        shutil.rmtree(out)
    model.module.half()
    model.save(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    (out / "README.md").write_text(card(run, evaluation, model), encoding="utf-8")
    print(f"{out}: {size / 1e6:.1f} MB")


def card(run: Run, evaluation: Run, model: LanguageModel) -> str:
    """Give the model card: where it falls short first, then data, recipe and figures."""
    config = run.read_config()
    metrics = pl.read_ndjson(run.path / "metrics.jsonl", infer_schema_length=None)
    corpus, training = Corpus(config["data"]["train"]), config["training"]
    optimizer = training["optimizer"]
    summary = pl.read_parquet(evaluation.table_path("regions_summary")).filter(pl.col("residues") == "all")
    num_tokens = training["max_steps"] * training["step_tokens"]
    tables = [line for chain in ("heavy", "light") for line in table(summary, run.name, chain)]
    short = shortcomings(summary, run.name) or [FINE]
    for title, part in subsets(evaluation, corpus, Corpus(config["data"]["eval"])).items():
        own = table(part, run.name, "heavy")
        tables += ["", f"{title}: {own[1].split(': ')[1]}", *own[2:]]
        short += [f"- {title}: {line[2:]}" for line in shortcomings(part, run.name)]
    return CARD.format(
        parameters=model.num_parameters,
        short="\n".join(short),
        records=len(corpus),
        sources="\n".join(sources(corpus)),
        max_steps=training["max_steps"],
        learning_rate=optimizer["learning_rate"],
        warmup_steps=optimizer["warmup_steps"],
        seed=config["seed"],
        tokens=num_tokens / 1e6,
        passes=num_tokens / token_lengths(corpus, model_layout=model.layout).sum(),
        precision=training["precision"],
        loss=best_loss(metrics),
        tables="\n".join(tables),
    )


def sources(corpus: Corpus) -> list[str]:
    """List the sources with their licences and counts."""
    counts = corpus.manifest["counts"]
    return [
        f"| {name} | {counts.get(f'{name}|train', 0):,} | {facts['licence']} | {facts['attribution']} |"
        for name, facts in corpus.manifest["sources"].items()
    ]


def best_loss(metrics: pl.DataFrame) -> float:
    """Give the lowest evaluation loss."""
    return metrics.filter(pl.col("split") == "eval")["loss"].min()  # type: ignore[return-value]


def shortcomings(summary: pl.DataFrame, model: str) -> list[str]:
    """Name the regions of heavy chains where a baseline that should be beaten is not, by loss or accuracy."""
    lines = []
    for metric, better in (("cross_entropy", -1), ("accuracy", 1)):
        value = {(row["model"], row["region"]): better * row[metric] for row in heavy(summary)}
        for baseline, title in BASELINES.items():
            wanted = ["CDR3"] if baseline == "genes" else [region.name for region in REGIONS]
            lost = [name for name in wanted if value[model, name] <= value[baseline, name]]
            if lost:
                words = metric.replace("_", "-")
                lines.append(f"- In {words} it does not beat baseline {title} in: {', '.join(lost)}.")
    return lines


def heavy(summary: pl.DataFrame) -> list[dict]:
    """Give the rows on heavy chains."""
    return list(summary.filter(pl.col("chain") == "heavy").iter_rows(named=True))


def table(summary: pl.DataFrame, model: str, chain: str) -> list[str]:
    """Write accuracy and loss of a chain's regions beside the baselines."""
    rows = {
        (row["model"], row["region"]): row
        for row in summary.filter(pl.col("chain") == chain).iter_rows(named=True)
    }
    names = [model, *BASELINES]
    regions = [*(region.name for region in REGIONS), "all"]
    first = rows[model, "all"]
    lines = ["", f"{chain.capitalize()} chains: {first['n_records']:,} in {first['n_groups']:,} groups."]
    for metric, title in (("accuracy", "accuracy"), ("cross_entropy", "cross-entropy, nats")):
        heads = ["protlm-ab-mini", *BASELINES.values()]
        lines += ["", f"| {title} | n | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
        for region in regions:
            cells = [_cell(rows[name, region], metric) for name in names]
            lines.append(f"| {region} | {rows[model, region]['n_residues']:,} | " + " | ".join(cells) + " |")
    return lines


def subsets(evaluation: Run, training: Corpus, held_out: Corpus) -> dict[str, pl.DataFrame]:
    """Judge heavy chains again: those with a V call, and those whose CDR3 is new."""
    cells = region_cells(pl.scan_parquet(evaluation.table_path("regions")))
    cells = cells.with_columns(pl.col("model", "chain").cast(pl.String)).filter(pl.col("chain") == "heavy")
    known = _by_length(cdr3 for _, cdr3 in heavy_cdr3s(training))
    apart = {name for name, cdr3 in heavy_cdr3s(held_out) if _nearest(cdr3, known) < SAME_CLONE}
    chosen = {
        "Heavy chains whose source names their V gene, for which (c) is what it says": with_v_call(held_out),
        f"Heavy chains whose CDR3 is below {SAME_CLONE:.0%} identical to any in training": apart,
    }
    return {
        title: summarise(cells.filter(pl.col("id").is_in(sorted(names)))).filter(pl.col("residues") == "all")
        for title, names in chosen.items()
    }


def with_v_call(corpus: Corpus) -> set[str]:
    """Give the ids of records with a heavy chain whose V gene is known."""
    return {
        record.id
        for record in map(corpus.record, range(len(corpus)))
        if any(chain.role == Role.HEAVY and chain.v_call for chain in record.chains)
    }


def heavy_cdr3s(corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Give id and CDR3 of each heavy chain."""
    for row in range(len(corpus)):
        record = corpus.record(row)
        for chain in record.chains:
            if chain.role == Role.HEAVY and (cdr3 := cdr3_of(chain)):
                yield record.id, cdr3


def _by_length(cdr3s: Iterable[str]) -> dict[int, np.ndarray]:
    lengths: dict[int, set[str]] = {}
    for cdr3 in cdr3s:
        lengths.setdefault(len(cdr3), set()).add(cdr3)
    return {length: np.array([list(each) for each in sorted(found)]) for length, found in lengths.items()}


def _nearest(cdr3: str, known: dict[int, np.ndarray]) -> float:
    if len(cdr3) not in known:
        return 0.0
    return float((known[len(cdr3)] == np.array(list(cdr3))).mean(axis=1).max())


def _cell(row: dict, metric: str) -> str:
    return f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"


if __name__ == "__main__":
    main(Run.open(Path(sys.argv[1])), Run.open(Path(sys.argv[2])), Path(sys.argv[3]))
