"""What every evaluation of models on a corpus needs: records, models, parts that can be taken up again."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl
import pyarrow as pa
import yaml

from protlm.data.corpus import Corpus, names_corpus
from protlm.data.identity_facts import identity_line
from protlm.data.readers import check_file
from protlm.data.token_counts import record_counts
from protlm.errors import DataError, ModelError
from protlm.evaluation.leakage import NearTraining, near_training, overlap
from protlm.models.digest import model_digest
from protlm.models.features import feature_folder
from protlm.models.language_model import LanguageModel, Precision
from protlm.models.loading import load_members, load_model
from protlm.progress import Progress, duration
from protlm.recipes.prepare import open_source
from protlm.recipes.table_parts import TableParts
from protlm.runs import Run
from protlm.types.record import TRACK_DTYPES, Record

Say = Callable[[str], None]
RECORDS_PER_PART = 64
BASELINE_NAMES = ("position_mode", "v_gene_majority", "germline", "genes")
"""Names that no model may have in a table."""
_FORMAT = 1
"""Raise it when the meaning of a part changes, so that older parts are not taken up."""
_CHAIN_FACTS = ("locus", "v_call", "j_call")


class ChosenRecords(Sequence[Record]):
    """Some rows of a corpus as a sequence of records, each built when it is asked for.

    Parameters
    ----------
    corpus
        Where they are.
    rows
        Which, in order.
    """

    def __init__(self, corpus: Corpus, rows: np.ndarray) -> None:
        self.corpus = corpus
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self.corpus.record(int(row)) for row in self.rows[index]]
        return self.corpus.record(int(self.rows[index]))

    @property
    def num_residues(self) -> int:
        """Over all chains of all records."""
        return int(self.corpus.lengths[self.rows].sum())

    def digest(self) -> str:
        """Give a hash of all that predictions and tables depend on, in order.

        Residues and tracks, how they are parted into chains and records, roles, loci, gene calls, ids,
        groups.
        """
        digest = hashlib.sha256()
        groups, ids = (pl.Series(self.corpus.column(name)).gather(self.rows) for name in ("group", "id"))
        digest.update("\x1f".join([*groups, *ids]).encode())
        chains = pa.array(self.corpus.chain_rows(self.rows))
        for name in _CHAIN_FACTS:
            values = self.corpus.chain_column(name).take(chains).to_pylist()
            digest.update(f"\x1e{name}\x1f".encode() + "\x1f".join(map(str, values)).encode())
        for start in range(0, len(self), 4096):
            flat = self.corpus.gather(self.rows[start : start + 4096])
            digest.update(flat.residues.tobytes() + flat.chain_lengths.tobytes())
            digest.update(flat.roles.tobytes() + flat.chains_per_record.tobytes())
            for name in TRACK_DTYPES:
                digest.update(name.encode() + flat.tracks.get(name, np.zeros(0)).tobytes())
        return digest.hexdigest()


def check_source(source: Path | str) -> None:
    """Refuse an input that is neither a corpus nor a file, before anything is made.

    Parameters
    ----------
    source
        As the user gave it.
    """
    if not names_corpus(source) and not Path(source).is_dir():
        check_file(source)


def load_models(
    models: Sequence[str], device: str, precision: Precision, *, members: bool = False
) -> list[LanguageModel]:
    """Load models whose names differ, because tables go by name.

    Parameters
    ----------
    models
        Runs, folders or names.
    device, precision
        Where and how to run them.
    members
        Whether a name that stands for several models is taken for all of them, or refused.

    Raises
    ------
    ModelError
        If two have one name, or one has that of a baseline.
    """
    if members:
        loaded = load_members(models, device=device, precision=precision)
    else:
        loaded = [load_model(name, device=device, precision=precision) for name in models]
    names = [model.name for model in loaded]
    if taken := sorted(set(names) & set(BASELINE_NAMES)):
        raise ModelError(
            f"a model is called '{taken[0]}', as a baseline is", hint="rename its folder; tables go by name"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ModelError(
            f"two models are called '{repeated[0]}'", hint="rename one of the folders; tables go by name"
        )
    return loaded


def choose_rows(corpus: Corpus, rows: np.ndarray, max_records: int | None) -> np.ndarray:
    """Take at most so many rows, chosen by their content keys, in the order of the corpus.

    Parameters
    ----------
    corpus
        Where they are.
    rows
        To choose from.
    max_records
        All if `None`.

    Raises
    ------
    DataError
        If there is nothing to choose from.
    """
    if not len(rows):
        raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
    order = np.argsort(corpus.keys[rows], kind="stable")[:max_records]
    return rows[np.sort(order)]


def refuse_too_long(records: Sequence[Record], models: Sequence[LanguageModel], *, where: str = "") -> None:
    """Refuse records over the limit of a model, naming the longest.

    Parameters
    ----------
    records
        What is to be evaluated; of `ChosenRecords` only the longest is built.
    models
        That have limits.
    where
        What the records are of, for the message.

    Raises
    ------
    DataError
        If a record is too long.
    """
    if isinstance(records, ChosenRecords):
        residues = records.corpus.lengths[records.rows]
        num_chains = records.corpus.num_chains_per_record[records.rows]
    else:
        residues = np.array([len(record) for record in records])
        num_chains = np.array([len(record.chains) for record in records])
    for model in models:
        limit = model.layout.max_tokens
        counts = residues if model.layout.is_residue_level else record_counts(records, model.layout)
        needed = model.layout.num_positions(counts, num_chains)
        if limit is not None and needed.max() > limit:
            worst = records[int(needed.argmax())]
            raise DataError(
                f"{where}record '{worst.id}' has {len(worst):,} residues and needs {needed.max():,} tokens, "
                f"but model '{model.name}' takes at most {limit:,} ({int((needed > limit).sum()):,} of "
                f"{len(records):,} records are over it)",
                hint="leave such records out of the input, or use a model without a limit",
            )


def open_evaluation(
    out: Path | str, source: Path | str, settings: dict[str, Any], *, force: bool, say: Say
) -> tuple[Run, Corpus]:
    """Begin or go on with a Run of evaluate, and open its input.

    Parameters
    ----------
    out
        The Run folder.
    source
        A corpus, or a file that `prepare` reads, which is made into one inside the Run.
    settings
        Kept as the Run's configuration, the input with them.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.
    """
    check_source(source)
    run = Run.create(out, verb="evaluate", force=force)
    run.write_config(yaml.safe_dump({**settings, "input": str(source)}))
    return run, open_source(source, run.path / "data", say=say)


def known_leakage(models: Sequence[str], records: Sequence[Record], say: Say) -> dict[str, dict[str, Any]]:
    """Say what each model saw of the records, and give it for those where it is known.

    Parameters
    ----------
    models
        As the user gave them.
    records
        What they are judged on.
    say
        Tells the user.
    """
    found = {name: say_leakage(name, records, say) for name in map(str, models)}
    return {name: facts for name, facts in found.items() if facts is not None}


def evaluate_in_parts(
    model: LanguageModel,
    records: ChosenRecords,
    folder: Path,
    *,
    contexts_per_residue: float,
    predict: Callable[[slice, Callable[[int], None]], pl.DataFrame],
    what: Any,
    say: Say,
) -> TableParts:
    """Table what a model says of records, part by part; parts that are there already are taken up.

    Parameters
    ----------
    model
        For its name and weights.
    records
        All of them.
    folder
        Where the parts go.
    contexts_per_residue
        How many masked contexts `predict` runs, for the progress bar.
    predict
        Gives the rows of a slice of the records, and calls back with the number of contexts done.
    what
        Further settings that the rows depend on.
    say
        Tells the user what happens.
    """
    parts = TableParts(folder / _name_of_parts(model_digest(model), records.digest(), what))
    lengths = records.corpus.lengths[records.rows]
    slices = [slice(start, start + RECORDS_PER_PART) for start in range(0, len(records), RECORDS_PER_PART)]
    missing = [number for number in range(len(slices)) if not parts.has(number)]
    total = round(int(lengths.sum()) * contexts_per_residue)
    left = round(sum(int(lengths[slices[number]].sum()) for number in missing) * contexts_per_residue)
    say(f"{model.name}: about {total:,} masked contexts over {len(records):,} records; {model.path}")
    if len(missing) < len(slices):
        done = len(records) - sum(len(lengths[slices[number]]) for number in missing)
        say(f"{model.name}: {done:,} of {len(records):,} records were done before the interruption")
    begin = time.perf_counter()
    with Progress(model.name, total, unit="context", start=total - left) as progress:
        for number in missing:
            part = predict(slices[number], lambda done: progress.advance(units=done))
            parts.write(number, part)
    say(f"{model.name}: done in {duration(time.perf_counter() - begin)}")
    if model.padding_note:
        say(f"{model.name}: {model.padding_note}")
    return parts


def _name_of_parts(*facts: Any) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, *facts]).encode()).hexdigest()[:24]


def say_leakage(name: str, records: Sequence[Record], say: Say) -> dict[str, Any] | None:
    """Count what a model saw of the records, in training and in choosing its best weights.

    Parameters
    ----------
    name
        The model as the user gave it.
    records
        What it is judged on.
    say
        Tells the user.

    Returns
    -------
    dict or None
        `None` where the training data is not known.
    """
    if not Run.is_run(name):
        say(f"leakage, {name}: not known, because it is no Run of protlm")
        return None
    run = Run.open(name)
    if not (run.path / "data_manifest.json").is_file():
        say(f"leakage, {name}: not known, because the Run does not say what it was trained on")
        return None
    manifest = run.read_json("data_manifest.json")
    facts: dict[str, Any] = {}
    for part, purpose in (("train", "training"), ("eval", "evaluation")):
        corpora = corpora_of(run, part)
        if not corpora:
            if manifest.get(part):
                say(f"leakage, {name}: its {purpose} data are not where they were, or have changed")
            continue
        counts = overlap(records, *corpora)
        if part == "train":
            facts |= counts
        else:
            facts |= {f"eval_{key}": value for key, value in counts.items() if key.startswith("shared")}
        say(
            f"leakage, {name}: {counts['shared_chains']:,} of {counts['chains']:,} chains and "
            f"{_groups(counts)} were in its {purpose} data"
        )
        if part == "train":
            facts |= _near(name, records, corpora, say)
    return facts if "shared_chains" in facts else None


def _near(name: str, records: Sequence[Record], corpora: Sequence[Corpus], say: Say) -> dict[str, Any]:
    """Say how near chains are to training; where MMseqs2 is not there, say that."""
    try:
        near = near_training(records, corpora, folder=feature_folder())
    except DataError as error:
        near = NearTraining(note=f"identity was not searched: {error}")
    for chain, own in near.facts.items():
        say(f"leakage, {name}: {identity_line(chain, own)}")
    if near.note:
        say(f"leakage, {name}: {near.note}")
    return {"nearest": near.facts, "nearest_note": near.note}


def _groups(counts: dict[str, int]) -> str:
    if not counts["groups"]:
        return "an unknown number of groups (the input has none)"
    return f"{counts['shared_groups']:,} of {counts['groups']:,} groups"


def corpora_of(run: Run, part: str) -> list[Corpus]:
    """Open the corpora that a Run was trained or evaluated on.

    Parameters
    ----------
    run
        Of pretrain.
    part
        ``train`` or ``eval``.

    Returns
    -------
    list of Corpus
        Empty where one of them is not where it was, or has changed.
    """
    facts = run.read_json("data_manifest.json").get(part) or {}
    corpora = [_corpus_of(run, each) for each in facts.get("sources", [facts])]
    known = [corpus for corpus in corpora if corpus is not None]
    return known if len(known) == len(corpora) else []


def _corpus_of(run: Run, facts: dict[str, Any] | None) -> Corpus | None:
    if not facts:
        return None
    try:
        corpus = Corpus(run.path / facts["path"])
    except DataError:
        return None
    return corpus if corpus.digest == facts["digest"] else None
