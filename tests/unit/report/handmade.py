"""Tiny Runs and score tables, written by hand: making them needs no torch."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl

REGIONS = ("FR1", "CDR1", "FR2", "CDR2", "FR3", "CDR3", "FR4")
WILD_TYPE = "EVQLVESGGG"
AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"


def write_run(path: Path, verb: str, *, is_done: bool = True, **files: object) -> Path:
    (path / "tables").mkdir(parents=True)
    environment = {
        "format_version": 1,
        "verb": verb,
        "started": "2026-01-02T03:04:05+00:00",
        "arguments": ["/bin/protlm", verb, "--out", path.name],
        "python": "3.11.7",
        "platform": "Linux",
        "processor": "Abacus 3000",
        "cpus": 2,
        "versions": {"protlm": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789abcdef",
    }
    (path / "environment.json").write_text(json.dumps(environment))
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text if isinstance(text, str) else json.dumps(text))
    if is_done:
        (path / "DONE").write_text("2026-01-02T04:05:06+00:00\n")
    return path


def metric_lines(slope: float) -> list[dict]:
    """Steps 1 to 4 of 100 tokens each, evaluated at 0, 2 and 4."""
    lines = [{"step": 0, "split": "eval", "loss": 3.0, "accuracy": 0.05, "loss_CDR3": 3.0}]
    for step in (1, 2, 3, 4):
        loss = 3.0 - slope * step
        train = {"loss": loss, "accuracy": 0.1 * step, "tokens": 100, "tokens_per_second": 1000.0 * step}
        lines.append({"step": step, "split": "train", **train, "learning_rate": 0.001 * step})
        if step % 2 == 0:
            evaluation = {"loss": loss + 0.1, "accuracy": 0.08 * step, "loss_CDR3": loss + 0.3}
            lines.append({"step": step, "split": "eval", **evaluation})
    return lines


def masking_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "region": ["FR1", "CDR3", "all"],
            "asked": [0.14, 0.25, 0.15],
            "observed": [0.1391, 0.2513, 0.1502],
            "n_residues": [5000, 1200, 9000],
        }
    )


def summary_table(values: dict[str, dict[str, float]], *, chain: str = "heavy") -> pl.DataFrame:
    """Lines of regions_summary from accuracy by model and region; cross-entropy is 3 (1 - accuracy)."""
    rows = []
    for region in [*REGIONS, "framework", "all"]:
        for residues, lowered in (("all", 0.0), ("germline", -0.01), ("mutated", 0.1)):
            for model, by_region in values.items():
                accuracy = by_region.get(region, by_region["other"]) - lowered
                entropy = 3 * (1 - accuracy)
                rows.append(
                    {
                        "model": model,
                        "chain": chain,
                        "region": region,
                        "residues": residues,
                        "n_residues": 1234,
                        "n_records": 12,
                        "n_groups": 11,
                        "accuracy": accuracy,
                        "accuracy_low": accuracy - 0.05,
                        "accuracy_high": accuracy + 0.04,
                        "cross_entropy": entropy,
                        "cross_entropy_low": entropy - 0.2,
                        "cross_entropy_high": entropy + 0.2,
                        "perplexity": math.exp(entropy),
                    }
                )
    return pl.DataFrame(rows)


def comparison_table(first: str, second: str, *, p_adjusted: float = 0.003) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "first": first,
                "second": second,
                "chain": "heavy",
                "region": region,
                "residues": residues,
                "metric": metric,
                "first_value": 0.6,
                "second_value": 0.5,
                "difference": 0.1,
                "difference_low": 0.05,
                "difference_high": 0.16,
                "p_value": p_adjusted / 7,
                "n_groups": 12,
                "p_adjusted": p_adjusted,
                "stars": "**",
            }
            for residues in ("all", "germline")
            for metric in ("accuracy", "cross_entropy")
            for region in REGIONS
        ]
    )


VALUES = {
    "cdr3": {"other": 0.8, "CDR3": 0.2},
    "uniform": {"other": 0.7, "CDR3": 0.4},
    "position_mode": {"other": 0.3, "CDR3": 0.1},
    "v_gene_majority": {"other": 0.6, "CDR3": 0.3},
}


def write_pretrain(path: Path, *, slope: float = 0.3, is_done: bool = True, corpus: str = "aa") -> Path:
    part = {
        "source": "corpus:train",
        "subset": "train",
        "num_records": 240,
        "corpus": {"inputs": [{"name": "r.fasta", "sha256": corpus}], "dropped": {"not a residue": 7}},
    }
    lines = "".join(json.dumps(line) + "\n" for line in metric_lines(slope))
    run = write_run(
        path,
        "pretrain",
        is_done=is_done,
        config__yaml="masking: {kind: region}\ntraining: {max_steps: 8}\nseed: 5\n",
        data_manifest__json={"train": part, "eval": {**part, "source": "corpus:holdout", "num_records": 60}},
        metrics__jsonl=lines,
    )
    masking_table().write_parquet(run / "tables" / "masking_rates.parquet")
    return run


def write_evaluation(path: Path) -> Path:
    leakage = {"runs/cdr3": {"shared_chains": 1, "shared_groups": 0, "chains": 24, "groups": 12}}
    run = write_run(
        path,
        "evaluate",
        config__yaml="models: [runs/cdr3, runs/uniform]\ninput: corpus:holdout\n",
        data_manifest__json={"num_records": 12, "corpus": {}, "leakage": leakage},
    )
    summary_table(VALUES).write_parquet(run / "tables" / "regions_summary.parquet")
    comparison_table("cdr3", "uniform").write_parquet(run / "tables" / "comparisons.parquet")
    return run


def scan_table() -> pl.DataFrame:
    rows = [
        {
            "mutant": f"{wild}{index + 11}{mutant}",
            "imgt_position": str(index + 1),
            "region": "FR1" if index < 6 else "CDR1",
            "score": -0.25 * index if mutant != "W" else 1.0,
        }
        for index, wild in enumerate(WILD_TYPE)
        for mutant in AMINO_ACIDS
        if mutant != wild
    ]
    return pl.DataFrame(rows)


def provenance() -> dict:
    return {
        "format_version": 1,
        "verb": "score",
        "plan": "masked_marginal",
        "offset": 10,
        "wild_type": {"id": "wt", "residues": WILD_TYPE},
        "models": [{"name": "cdr3", "parameters": 1000}],
        "versions": {"protlm": "0.1.0"},
    }


def write_scan(path: Path, facts: dict | None = None) -> Path:
    scan_table().write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    Path(f"{path}.meta.json").write_text(json.dumps(facts or provenance()))
    return path


BACKBONE = {"N": (-0.9, 0.7, 0.0), "CA": (0.0, 0.0, 0.0), "C": (0.9, 0.7, 0.0), "O": (0.9, 1.9, 0.0)}
THREE_LETTERS = "ALACYSASPGLUPHEGLYHISILELYSLEUMETASNPROGLNARGSERTHRVALTRPTYR"
NAMES = {letter: THREE_LETTERS[3 * place : 3 * place + 3] for place, letter in enumerate(AMINO_ACIDS)}


def write_pdb(path: Path, chains: dict[str, str], *, missing: tuple[int, ...] = (), first: int = 101) -> Path:
    """Write chains along x, 3.8 Å a residue, with SEQRES; residues of `missing` (0-based) have no atoms."""
    lines = []
    for chain_id, residues in chains.items():
        for start in range(0, len(residues), 13):
            names = " ".join(NAMES[letter] for letter in residues[start : start + 13])
            lines.append(f"SEQRES {start // 13 + 1:3d} {chain_id} {len(residues):4d}  {names}")
    serial = 0
    for number, (chain_id, residues) in enumerate(chains.items()):
        for index, letter in enumerate(residues):
            for atom, (x, y, z) in BACKBONE.items() if index not in missing else ():
                serial += 1
                place = f"{3.8 * index + x:8.3f}{12.0 * number + y:8.3f}{z + 0.5 * (index % 2):8.3f}"
                lines.append(
                    f"ATOM  {serial:5d}  {atom:<3s} {NAMES[letter]} {chain_id}{first + index:4d}    {place}"
                    f"  1.00 20.00           {atom[0]}"
                )
        lines.append("TER")
    path.write_text("\n".join([*lines, "END", ""]))
    return path


VARIANT_METRICS = ("spearman", "auroc", "mcc", "ndcg", "top_recall")
MODELS = {"m<1>": 0.4, "weak": 0.1, "blosum62": 0.2, "site_independent": 0.5}


def intervals():
    rows = [
        {
            "subset": "all",
            "metric": metric,
            "model": model,
            "average": value,
            "low": value - 0.05 if model != "site_independent" else None,
            "high": value + 0.04 if model != "site_independent" else None,
            "n_assays": 1 if model == "site_independent" else 3,
            "n_proteins": 1 if model == "site_independent" else 2,
        }
        for metric in VARIANT_METRICS
        for model, value in sorted(MODELS.items(), key=lambda each: -each[1])
    ]
    return pl.DataFrame(rows)


def assays(names=("a", "b", "c")):
    rows = [
        {
            "assay": assay,
            "model": model,
            "subset": "all",
            "depth": depth,
            "n": 3000,
            "n_skipped": 0,
            **dict.fromkeys(VARIANT_METRICS, value + 0.01 * number),
            "spearman": None if (model, assay) == ("weak", "c") else value + 0.01 * number,
        }
        for number, assay in enumerate(names)
        for model, value in MODELS.items()
        if model != "site_independent" or number == 0
        for depth in ("all", "1")
    ]
    return pl.DataFrame(rows)


def scores(size, seed=0):
    rng = np.random.default_rng(seed)
    value = rng.normal(size=size)
    columns = {"mutant": [f"A{n}C" for n in range(1, size + 1)], "value": value, "is_fit": value > 0}
    columns |= {model: value + rng.normal(size=size) for model in ("m<1>", "weak", "blosum62")}
    return pl.DataFrame(columns)


def write_variants(path, names=("a", "b", "c"), size=30):
    run = write_run(
        path,
        "evaluate",
        config__yaml="{plan: masked_marginal, fill: joint, sample: 3000, seed: 4, folder: dms}\n",
        data_manifest__json={"assays": len(names), "left_out": {"msa": "a folder"}},
    )
    averages = (
        intervals()
        .select("subset", "metric", "model", "average")
        .with_columns(n_missing=pl.lit(0), function_Activity=pl.lit(0.25), function_Binding=pl.lit(0.35))
    )
    missing = pl.DataFrame({"subset": ["all"], "metric": ["spearman"], "model": ["weak"], "assay": ["c"]})
    tables = {"intervals": intervals(), "assays": assays(names), "averages": averages, "missing": missing}
    for name, table in tables.items():
        table.write_parquet(run / "tables" / f"{name}.parquet")
    (run / "scores").mkdir()
    for number, name in enumerate(names):
        scores(size, number).write_parquet(run / "scores" / f"{name}.parquet")
    return run
