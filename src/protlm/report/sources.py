"""What a report is made from: Run folders and score tables, told apart and checked."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from protlm.errors import DataError, RunError
from protlm.runs import Run

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv")
_NOT_A_SOURCE = "a report reads Run folders, and score tables written by protlm score"


@dataclass(frozen=True)
class RunSource:
    """A Run under the name that the page uses for it."""

    label: str
    run: Run


@dataclass(frozen=True)
class ScoreSource:
    """A score table under the name that the page uses for it."""

    label: str
    path: Path
    frame: pl.DataFrame
    facts: dict[str, Any]
    """Provenance as `protlm score` wrote it."""

    @property
    def mutant_column(self) -> str | None:
        """Which column holds the variants; `None` where an older table does not say."""
        return self.facts.get("mutant_column")


@dataclass(frozen=True)
class Sources:
    """All that one report is about, in the order given."""

    runs: tuple[RunSource, ...]
    scores: tuple[ScoreSource, ...]
    structures: tuple[str, ...] = ()
    """To show score tables on, as ``[TABLE=]FILE[:CHAIN]``."""

    @property
    def labels(self) -> list[str]:
        """Names of Runs, then of score tables."""
        return [source.label for source in (*self.runs, *self.scores)]


def read_sources(paths: Sequence[Path | str], structures: Sequence[str] = ()) -> Sources:
    """Open Runs and score tables; a path given twice counts once.

    Parameters
    ----------
    paths
        Run folders, or ``.parquet``, ``.csv`` and ``.tsv`` files that `protlm score` wrote.
    structures
        As in `Sources`; read later, by whoever shows them.

    Raises
    ------
    RunError
        If there is no path, or a folder is no Run.
    DataError
        If a path does not exist, or a file is no score table.
    """
    unique = list({Path(path).resolve(): Path(path) for path in paths}.values())
    if not unique:
        raise RunError("there is nothing to report on", hint=_NOT_A_SOURCE)
    labels = _labels(unique)
    runs, scores = [], []
    for path in unique:
        if path.is_dir():
            runs.append(RunSource(labels[path], Run.open(path)))
        else:
            scores.append(_open_scores(path, labels[path]))
    return Sources(tuple(runs), tuple(scores), tuple(structures))


def read_table(run: Run, name: str, columns: Sequence[str]) -> pl.DataFrame | None:
    """Read a table of a Run.

    Parameters
    ----------
    run
        Where to look.
    name
        Without the suffix.
    columns
        Those that must be there.

    Returns
    -------
    polars.DataFrame or None
        `None` where the Run has no such table or no line in it.

    Raises
    ------
    RunError
        If the file cannot be read or lacks a column.
    """
    path = run.tables().get(name)
    if path is None:
        return None
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"cannot read {path}: {error}", hint="run the command that made it again") from error
    if frame.is_empty():
        return None
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise RunError(
            f"{path} has no column {', '.join(missing)}",
            hint="it was written by another version of protlm; run the command that made it again",
        )
    return frame


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Name each path by its last part, with the folder above where two are alike."""
    names = {path: path.resolve().stem if path.is_file() else path.resolve().name for path in paths}
    counts = Counter(names.values())
    return {
        path: name if counts[name] == 1 else f"{path.resolve().parent.name}/{path.resolve().name}"
        for path, name in names.items()
    }


def _open_scores(path: Path, label: str) -> ScoreSource:
    if not path.exists():
        raise DataError(f"no such file or folder: {path}", hint=_NOT_A_SOURCE)
    if path.suffix not in TABLE_SUFFIXES:
        raise DataError(f"{path} is neither a Run folder nor a score table", hint=_NOT_A_SOURCE)
    facts = _provenance(path)
    frame = _read_frame(path)
    if facts.get("verb") != "score" or "score" not in frame.columns:
        raise DataError(f"{path} was not written by protlm score", hint=_NOT_A_SOURCE)
    if not (facts.get("wild_type") or {}).get("residues"):
        raise DataError(f"{path} does not say what its wild type is", hint="score the variants again")
    if (column := facts.get("mutant_column")) is not None and column not in frame.columns:
        raise DataError(f"{path} has no column '{column}', where its variants were", hint=_NOT_A_SOURCE)
    return ScoreSource(label, path, frame, facts)


def _provenance(path: Path) -> dict[str, Any]:
    beside = Path(f"{path}.meta.json")
    try:
        if path.suffix == ".parquet":
            return json.loads((pq.read_schema(path).metadata or {}).get(b"protlm", b"{}"))
        if beside.exists():
            return json.loads(beside.read_text(encoding="utf-8"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"cannot read where {path} comes from: {error}", hint=_NOT_A_SOURCE) from error
    raise DataError(
        f"{path} has no {beside.name} beside it, which says how it was made",
        hint="keep the two files together; protlm score writes both",
    )


def _read_frame(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        # as text: a mask of 120 digits is no number, and what is needed as one is cast
        return pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"cannot read {path} as a table: {error}") from error
