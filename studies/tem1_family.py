"""Does a language model of one family tell more than its columns do? Trains, scores, judges; resumes.

    python studies/tem1_family.py OUT [DATA_FOLDER]

The family is that of TEM-1 beta-lactamase. Nothing is chosen by an assay: the language model learns from the
alignment with more effective sequences, stops by held-out homologues, and is combined with equal weight. The
three assays are put on the numbering of the whole protein first. OUT/table.csv and OUT/differences.csv are
the result; intervals resample the sites of the protein, since substitutions at one site are alike.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from steps import protlm

from protlm.scoring.ensembles import combine
from protlm.statistics.bootstrap import bootstrap_metric
from protlm.statistics.metrics import spearman
from protlm.types.variant import parse_variant

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared/data"
CONFIG = HERE.parent / "configs/pretrain/family-cpu.yaml"
PLACES = {"BLAT_ECOLX_Ranganathan2015": 23, "BLAT_ECOLX_Jacquier2013": 0, "tem-1": 0}
"""Assays, and the residues of the whole protein before the first of the assay's wild type."""
ALIGNMENTS = {"colabfold": "BLAT_ECOLX_ColabFold_2202.a3m.gz", "eve": "BLAT_ECOLX.a2m.gz"}
LEARNED = "colabfold"
"""3,244 effective sequences against 2,604."""
NUM_SEEDS = 3
SITES, BLOSUM62, POTTS = "site_independent", "site_independent_blosum62", "potts"


def main(out: Path, data: Path) -> None:
    """Run what is not finished, then judge."""
    whole = write_assays(out / "assays", data / "dms")
    corpus = out / "corpus"
    if not corpus.exists():
        source = data / "dms/msa" / ALIGNMENTS[LEARNED]
        protlm("prepare", source, "--wild-type", whole, "--holdout", 0.05, "--out", corpus)
    subsets = (f"data.train={corpus}:train", f"data.eval={corpus}:holdout")
    settings = [argument for each in subsets for argument in ("--set", each)]
    protlm("pretrain", "--config", CONFIG, *settings, "--seeds", NUM_SEEDS, "--out", out / "mlm")
    for name, file in ALIGNMENTS.items():
        chosen = [f"--alignment={assay}={data / 'dms/msa' / file}" for assay in PLACES]
        judged(out, name, "--plan", POTTS, *chosen)
    judged(out, "mlm", "--model", out / "mlm")
    table, differences = judge(out)
    for name, frame in (("table", table), ("differences", differences)):
        frame.write_csv(out / f"{name}.csv", float_precision=4)
        print(frame)


def judged(out: Path, name: str, *options: object) -> None:
    """Score the assays, unless that is done."""
    run = out / f"judged-{name}"
    if not (run / "DONE").exists():
        protlm("evaluate", "variants", out / "assays", *options, "--out", run)


def write_assays(folder: Path, dms: Path) -> str:
    """Write the assays on the numbering of the whole protein, and their reference; give its sequence."""
    reference = pl.read_csv(dms / "dms_reference.tsv", separator="\t")
    wild_types = dict(reference.select("assay", "wt_sequence").iter_rows())
    whole = wild_types["tem-1"]
    folder.mkdir(parents=True, exist_ok=True)
    for assay, before in PLACES.items():
        own = wild_types[assay]
        if whole[before : before + len(own)] != own:
            raise SystemExit(f"{assay} is not where it was expected in the whole protein")
        frame = pl.read_csv(dms / f"{assay}.tsv.gz", separator="\t", infer_schema_length=None)
        moved = [_moved(text or "", own, before) for text in frame["mutant"]]
        pl.DataFrame({"mutant": moved, "DMS_score": frame["score"]}).write_csv(folder / f"{assay}.csv")
    rows = [(assay, f"{assay}.csv", "BLAT_ECOLX", whole, "Activity") for assay in PLACES]
    columns = ["DMS_id", "DMS_filename", "UniProt_ID", "target_seq", "coarse_selection_type"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(folder / "reference.csv")
    return whole


def _moved(text: str, wild_type: str, before: int) -> str:
    mutations = parse_variant(text, wild_type).mutations
    return ":".join(f"{each.wild_type}{each.index + 1 + before}{each.mutant}" for each in mutations)


def judge(out: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give Spearman by assay, subset and model, and paired differences, with 95 % intervals."""
    rows, differences = [], []
    for assay in PLACES:
        scores = collect(out, assay)
        values = scores.pop("value")
        sites, is_covered = scores.pop("site"), scores.pop("covered_by_both") == 1
        for subset, chosen in (("both alignments", is_covered), ("all", np.ones(len(values), dtype=bool))):
            for name, own in scores.items():
                found = interval(spearman, [own, values], sites, chosen)
                rows.append((assay, subset, name, found.n, found.value, found.low, found.high))
            best = max((f"(i) {name}" for name in ALIGNMENTS), key=lambda name: _of(rows, name))
            rivals = {best: "(i) the better", best.replace("(i)", "(ii)"): "(ii) the better + BLOSUM62"}
            for name in scores:
                if not name.startswith(("(iv)", "(v)")):
                    continue
                for rival, shown in rivals.items():
                    found = interval(_gain, [scores[name], scores[rival], values], sites, chosen)
                    differences.append((assay, subset, name, shown, found.value, found.low, found.high))
    columns = ["assay", "subset", "model", "n", "spearman", "low", "high"]
    paired = ["assay", "subset", "model", "minus", "difference", "low", "high"]
    return pl.DataFrame(rows, columns, orient="row"), pl.DataFrame(differences, paired, orient="row")


def _of(rows: list[tuple], name: str) -> float:
    """Give the value of a model that was written last."""
    return next(row[4] for row in reversed(rows) if row[2] == name)


def _gain(first: np.ndarray, second: np.ndarray, values: np.ndarray) -> float:
    return spearman(first, values) - spearman(second, values)


def interval(metric, arrays, sites, chosen):
    """Give a metric with an interval over resampled sites."""
    return bootstrap_metric(metric, *(each[chosen] for each in arrays), clusters=sites[chosen], num_draws=400)


def collect(out: Path, assay: str) -> dict[str, np.ndarray]:
    """Give all scores of an assay; a site that an alignment does not cover counts as no change (0)."""
    runs = (*ALIGNMENTS, "mlm")
    frames = {name: pl.read_parquet(out / f"judged-{name}/scores/{assay}.parquet") for name in runs}
    learned, aligned = frames.pop("mlm"), frames
    covered = [frame[SITES].is_not_null().to_numpy() for frame in aligned.values()]
    mutants = learned["mutant"].to_list()
    scores = {
        "value": learned["value"].to_numpy(),
        "site": np.array([int(text.split(":")[0][1:-1]) if text else 0 for text in mutants]),
        "covered_by_both": np.logical_and.reduce(covered).astype(float),
    }
    for column, number in ((SITES, "(i)"), (BLOSUM62, "(ii)"), (POTTS, "(iii)")):
        for name, frame in aligned.items():
            scores[f"{number} {name}"] = frame[column].fill_null(0.0).to_numpy()
    sites = scores[f"(i) {LEARNED}"]
    for seed in range(NUM_SEEDS):
        scores[f"(iv) seed {seed}"] = learned[f"mlm-seed-{seed}"].to_numpy()
    scores["(iv) mean of seeds"] = learned["mlm-mean"].to_numpy()
    for name in [name for name in scores if name.startswith("(iv)")]:
        scores[name.replace("(iv)", "(v)")] = combine([sites, scores[name]], "rank").scores
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path, nargs="?", default=DATA)
    options = parser.parse_args()
    main(options.out, options.data)
