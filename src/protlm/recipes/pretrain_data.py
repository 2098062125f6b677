"""What pretrain trains on: settings, the rows that fit the model, and the facts that a Run keeps of them."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from protlm.config import BaseConfig
from protlm.data.corpus import Corpus
from protlm.data.crops import Crop
from protlm.data.family import Family
from protlm.data.layout import TokenLayout
from protlm.data.mixture import ShareOf, shares_at
from protlm.data.token_counts import corpus_counts
from protlm.errors import ConfigError, DataError, RunError
from protlm.models.language_model import LanguageModel
from protlm.runs import Run
from protlm.schedules import ScheduledWeight

Say = Callable[[str], None]


class TrainSource(BaseConfig):
    """One of several corpora to train on."""

    source: str
    """A corpus, ``FOLDER:SUBSET`` of one, or any file that `prepare` reads."""
    share: ScheduledWeight | None = None
    """Share of the drawn records, a number or a schedule; one corpus may have none and gets the rest."""
    name: str = ""
    """For logs and tables; the corpus' own where not said."""


class DataConfig(BaseConfig):
    """What to train and evaluate on."""

    train: str | tuple[TrainSource, ...]
    """A corpus, ``FOLDER:SUBSET`` of one, or any file that `prepare` reads; or a list of
    ``{source, share}`` to mix."""
    share_of: ShareOf = "records"
    """Whether the shares of a list count records (as CurrAb does) or tokens."""
    eval: str | None = None
    """The same, for evaluation during training."""
    eval_records: int = Field(default=2000, ge=1)
    """Evaluate on at most this many records, chosen by their content keys."""
    long_records: Literal["error", "drop", "crop", "window"] = "error"
    """Records over the model's limit: stop, leave out and count, or cut to a random window in each epoch;
    of several chains, ``crop`` cuts each that is long, and ``window`` takes one window of them end to end."""
    crop_residues: int | None = Field(default=None, ge=1)
    """Residues of a cut record, where they should be fewer than the model takes, or it has no limit."""

    @field_validator("train", mode="before")
    @classmethod
    def _source_or_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if not isinstance(value, list | tuple) or not value:
            raise ValueError("expected a source, or a list of {source: …, share: …}")
        try:
            return tuple(
                each
                if isinstance(each, TrainSource)
                else TrainSource.from_dict(each, source=f"train.{number}")
                for number, each in enumerate(value)
            )
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("train")
    @classmethod
    def _shares_fit(cls, value: str | tuple[TrainSource, ...]) -> str | tuple[TrainSource, ...]:
        if isinstance(value, str):
            return value
        shares = [each.share for each in value]
        if shares.count(None) > 1:
            raise ValueError("only one of the sources may be without a share, and gets the rest of 1")
        try:
            for percent in range(101):
                shares_at(shares, percent / 100)
        except ConfigError as error:
            raise ValueError(str(error).replace("\nhint: ", "; ")) from None
        return value

    @model_validator(mode="after")
    def _crop_is_asked_for(self) -> "DataConfig":
        if self.crop_residues is not None and self.long_records not in ("crop", "window"):
            raise ValueError(
                f"crop_residues {self.crop_residues} does nothing while long_records is "
                f"'{self.long_records}'; set long_records: crop"
            )
        return self

    @property
    def sources(self) -> tuple[TrainSource, ...]:
        """What to train on, as a list in any case."""
        return (TrainSource(source=self.train),) if isinstance(self.train, str) else self.train


def family_of(corpora: Sequence[Corpus]) -> Family | None:
    """Give the family that residues are aligned to, covered where any corpus covers it; or `None`.

    Parameters
    ----------
    corpora
        To train on.

    Raises
    ------
    ConfigError
        If they are aligned to different wild types.
    """
    facts = [each.manifest["family"] for each in corpora if "family" in each.manifest]
    families = [Family.of(each) for each in facts if each["as"] == "aligned"]
    wild_types = {family.wild_type for family in families}
    if len(wild_types) > 1:
        raise ConfigError(
            "the corpora are aligned to different wild types",
            hint="train a model for each, or prepare them with --as sequences",
        )
    covered = sorted({index for family in families for index in family.covered})
    return Family(wild_types.pop(), tuple(covered)) if families else None


def source_names(data: DataConfig, corpora: Sequence[Corpus]) -> list[str]:
    """Name each source, all different.

    Parameters
    ----------
    data
        Settings.
    corpora
        One per source.
    """
    names = [each.name or corpus.name for each, corpus in zip(data.sources, corpora, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name}#{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def source_folders(data: DataConfig) -> list[str]:
    """Name the folder of each corpus that is made from a file.

    Parameters
    ----------
    data
        Settings.
    """
    count = len(data.sources)
    return ["train"] if count == 1 else [f"train-{number}" for number in range(1, count + 1)]


def crop_of(data: DataConfig, layout: TokenLayout) -> Crop | None:
    """Say how long records are cut; `None` where none is.

    Parameters
    ----------
    data
        Settings.
    layout
        The model's.
    """
    if data.long_records not in ("crop", "window"):
        return None
    if data.crop_residues is None and layout.max_tokens is None:
        return None
    return Crop(data.crop_residues, layout, data.long_records)


def fitting_rows(corpus: Corpus, model: LanguageModel, data: DataConfig, say: Say) -> np.ndarray:
    """Give the rows of a corpus that the model takes, or takes windows of.

    Parameters
    ----------
    corpus
        To train or evaluate on.
    model
        For its limit.
    data
        What is done with longer records.
    say
        Tells the user what is left out or cut.

    Raises
    ------
    DataError
        If there is no record, or a longer one where that is an error.
    """
    rows = np.arange(len(corpus))
    if not len(rows):
        raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
    crop = crop_of(data, model.layout)
    if crop is not None:
        return _cut_rows(corpus, crop, say)
    limit = model.layout.max_tokens
    if limit is None:
        return rows
    lengths = model.layout.num_positions(corpus_counts(corpus, model.layout), corpus.num_chains_per_record)
    too_long = np.flatnonzero(lengths > limit)
    if not len(too_long):
        return rows
    if data.long_records == "error":
        row = int(too_long[0])
        raise DataError(
            f"{len(too_long):,} records of {corpus.name} are over the model's limit of {limit} tokens; "
            f"the first is '{corpus.record(row).id}' with {lengths[row]:,}",
            hint="raise model.max_tokens, or pass --set data.long_records=drop, or =crop, or =window",
        )
    say(f"{len(too_long):,} records of {corpus.name} left out: over the limit of {limit} tokens")
    return rows[lengths <= limit]


def _cut_rows(corpus: Corpus, crop: Crop, say: Say) -> np.ndarray:
    """Give all rows and say how many are cut."""
    limits = crop.limits(corpus.num_chains_per_record)
    is_long = corpus.lengths > limits
    if is_long.any():
        seen = np.minimum(corpus.lengths, limits).sum() / corpus.lengths.sum()
        most = limits[is_long].max()
        several = int((is_long & (corpus.num_chains_per_record > 1)).sum())
        how = "cut chain by chain" if crop.kind == "crop" else "cut to one window of the chains end to end"
        of_several = f" ({several:,} of several chains, {how})" if several else ""
        say(
            f"{is_long.sum():,} records of {corpus.name} cut to random windows of {most:,} residues"
            f"{of_several}, which leaves {seen:.0%} of all residues in an epoch"
        )
    return np.arange(len(corpus))


def eval_rows(corpus: Corpus, model: LanguageModel, data: DataConfig, say: Say) -> np.ndarray:
    """Give the rows to evaluate on during training, at most ``data.eval_records``.

    Parameters
    ----------
    corpus, model, data, say
        As for `fitting_rows`.
    """
    rows = fitting_rows(corpus, model, data, say)
    order = np.argsort(corpus.keys[rows], kind="stable")  # keys are hashes, so this is a fair sample
    return np.sort(rows[order[: data.eval_records]])


def data_manifest(
    data: DataConfig, run: Run, corpora: Sequence[Corpus], held_out: Corpus | None
) -> dict[str, Any]:
    """Describe the data, for the Run.

    Parameters
    ----------
    data
        Settings.
    run
        To which paths are relative.
    corpora, held_out
        To train and to evaluate on.
    """

    def facts(source: str | None, each: Corpus | None) -> dict[str, Any] | None:
        if each is None:
            return None
        subset = f":{each.subset}" if each.subset else ""
        return {
            "source": source,
            "path": os.path.relpath(each.path, run.path) + subset,
            "subset": each.subset,
            "num_records": len(each),
            "digest": each.digest,
            "corpus": each.manifest,
        }

    parts = [facts(each.source, corpus) for each, corpus in zip(data.sources, corpora, strict=True)]
    train = parts[0]
    if len(parts) > 1:
        train = {
            "source": " + ".join(each.source for each in data.sources),
            "num_records": sum(len(corpus) for corpus in corpora),
            "digest": "+".join(corpus.digest for corpus in corpora),
            "sources": parts,
        }
    return {"train": train, "eval": facts(data.eval, held_out)}


def refuse_other_data(run: Run, manifest: dict[str, Any]) -> None:
    """Refuse to resume on other data than the interrupted Run had.

    Parameters
    ----------
    run
        Possibly interrupted.
    manifest
        From `data_manifest`.

    Raises
    ------
    RunError
        Naming the part that differs.
    """
    if not any(run.checkpoints_path.glob("step-*")):
        return
    old = run.read_json("data_manifest.json")
    for part, facts in manifest.items():
        if (old.get(part) or {}).get("digest") != (facts or {}).get("digest"):
            source = (facts or {}).get("source")
            raise RunError(
                f"{run.path} was interrupted with other {part} data than {source} holds now",
                hint="bring the data back, or pass --force to start over",
            )
