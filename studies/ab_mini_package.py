"""Put a trained model in the package: half-precision weights and a card made from its Run and evaluation.

python studies/ab_mini_package.py RUN EVALUATION_RUN src/protlm/models/box/protlm-ab-mini
"""

import shutil
import sys
from pathlib import Path

import polars as pl

from protlm.data.corpus import Corpus
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.runs import Run
from protlm.training.sources import token_lengths
from protlm.types.regions import REGIONS

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
{precision} on two CPU cores. Best evaluation loss {loss:.3f} nats.

## Figures
Held-out records, every residue masked once; means over residues with 95 % intervals that resample groups.
(a) residue frequency at the IMGT position; (b) the nearest germline residue mixed with (a); (c) residue
frequency given the true V or J gene; all fitted on the training chains.
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
    return CARD.format(
        parameters=model.num_parameters,
        short="\n".join(shortcomings(summary, run.name) or [FINE]),
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


def _cell(row: dict, metric: str) -> str:
    return f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"


if __name__ == "__main__":
    main(Run.open(Path(sys.argv[1])), Run.open(Path(sys.argv[2])), Path(sys.argv[3]))
