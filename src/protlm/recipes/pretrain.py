"""pretrain: a corpus and a masking to a trained model in a Run."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import torch
import yaml
from pydantic import Field, field_validator, model_validator

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.data.corpus import Corpus
from protlm.data.family import Family
from protlm.data.layout import TokenLayout
from protlm.data.mixture import ShareOf, shares_at
from protlm.errors import ConfigError, DataError, RunError
from protlm.masking import maskings
from protlm.masking.corrupt import CorruptionConfig
from protlm.masking.policies import RegionMasking
from protlm.models.adaptation import FullAdaptation, adaptations, num_trained
from protlm.models.architectures import EsmArchitecture, architectures
from protlm.models.language_model import LanguageModel
from protlm.models.loading import pick_device
from protlm.recipes.evaluate_baselines import fit_on_sources
from protlm.recipes.prepare import open_source
from protlm.runs import Run
from protlm.schedules import ScheduledWeight, schedules_in
from protlm.training.loop import TrainingConfig, train
from protlm.training.mlm_job import MaskingTally, MlmJob
from protlm.training.processes import Processes, distribution, launch_warning
from protlm.training.sources import Source
from protlm.types.regions import Region

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
    long_records: Literal["error", "drop", "crop"] = "error"
    """Records over the model's limit: stop, leave out and count, or cut to a random window in each epoch."""
    crop_residues: int | None = Field(default=None, ge=1)
    """Residues of such a window, where they should be fewer than the model takes, or it has no limit."""

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
        if self.crop_residues is not None and self.long_records != "crop":
            raise ValueError(
                f"crop_residues {self.crop_residues} does nothing while long_records is "
                f"'{self.long_records}'; set long_records: crop"
            )
        return self

    @property
    def sources(self) -> tuple[TrainSource, ...]:
        """What to train on, as a list in any case."""
        return (TrainSource(source=self.train),) if isinstance(self.train, str) else self.train


class PretrainConfig(BaseConfig):
    """Settings of `protlm pretrain`."""

    data: DataConfig
    model: Annotated[AnyConfig, one_of(architectures, "esm")] = EsmArchitecture.Config()
    adapt: Annotated[AnyConfig, one_of(adaptations, "full")] = FullAdaptation.Config()
    """Train all weights, or low-rank adapters beside those of a model that has weights already."""
    masking: Annotated[AnyConfig, one_of(maskings, "region")] = RegionMasking.Config()
    corruption: CorruptionConfig = CorruptionConfig()
    training: TrainingConfig = TrainingConfig()
    seed: int = 0
    """Of initial weights, order of records, masks and dropout."""


def pretrain(
    config: PretrainConfig, out: Path | str, *, device: str = "auto", force: bool = False, say: Say = print
) -> Run:
    """Train a masked language model; the same call resumes an interrupted Run.

    Parameters
    ----------
    config
        What to do.
    out
        The Run folder.
    device
        ``"auto"`` takes a GPU if there is one.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    RunError
        If the Run is finished, or training fails.
    """
    processes = Processes(pick_device(device))
    say = processes.say(say)
    if warning := launch_warning():
        say(warning)
    with processes.main_first():
        run = Run.create(out, verb="pretrain", force=force, writes=processes.is_main)
        _same_config(run, config)
        run.write_config(config.dump())
    parts = assemble(config, run, processes=processes, say=say)
    say(f"{counted(parts.model)}; {parts.model.path}; {distribution()}")
    run.note(
        device=str(processes.device),
        threads=torch.get_num_threads(),
        processes=processes.count,
        computation=parts.model.path,
    )
    train(parts.model, parts.job, config.training, run, processes=processes, seed=config.seed)
    if processes.is_main:
        sources = [(each.corpus, each.rows) for each in parts.job.sources.sources]
        for name, table in fit_on_sources(sources, say).items():
            table.write_parquet(run.table_path(name))
        rates_table(parts.job.tally).write_parquet(run.table_path("masking_rates"))
        _report_sources(parts.job, run, say)
    run.finish()
    return run


def _same_config(run: Run, config: PretrainConfig) -> None:
    """Refuse to resume with other settings than the interrupted Run had."""
    if changed := changed_settings(run, config):
        raise RunError(
            f"{run.path} was interrupted under other settings: {', '.join(changed)} changed",
            hint="choose another --out, or pass --force to start over",
        )


def changed_settings(run: Run, config: PretrainConfig) -> list[str]:
    """Name the settings that differ from those a model was trained with so far.

    Parameters
    ----------
    run
        Of pretrain, at any stage.
    config
        What is asked for now.

    Returns
    -------
    list of str
        Keys at the top, sorted; empty where nothing was trained yet.
    """
    if not run.is_done and not any(run.checkpoints_path.glob("step-*")):
        return []
    old, new = run.read_config(), yaml.safe_load(config.dump())
    with contextlib.suppress(ConfigError):  # settings that are new since then had their defaults
        old = yaml.safe_load(PretrainConfig.from_dict(old).dump())
    return sorted(key for key in old.keys() | new.keys() if old and old.get(key) != new.get(key))


@dataclass(frozen=True)
class Parts:
    """What a configuration builds."""

    model: LanguageModel
    job: MlmJob


def assemble(
    config: PretrainConfig,
    run: Run,
    *,
    processes: Processes,
    say: Say,
    build_on: torch.device | None = None,
) -> Parts:
    """Build model and job of a configuration, and record the data in the Run.

    Parameters
    ----------
    config
        What to do.
    run
        Where corpora made from files go.
    processes
        Who trains, and on which devices.
    build_on
        Where the model is laid out, if not on the device that trains it: ``meta`` takes no memory.
    say
        Tells the user what happens.
    """
    with processes.main_first():  # a corpus made from a file is made once
        corpora = [
            open_source(each.source, run.path / "data" / folder, say=say)
            for each, folder in zip(config.data.sources, _folders(config.data), strict=True)
        ]
        held_out = None
        if config.data.eval is not None:
            held_out = open_source(config.data.eval, run.path / "data" / "eval", say=say)
        manifest = _manifest(config, run, corpora, held_out)
        _same_data(run, manifest)
        run.write_json("data_manifest.json", manifest)
    with build_on or torch.device("cpu"):
        model = config.model.build(seed=config.seed, name=run.name)  # type: ignore[attr-defined]
        config.adapt.apply(model, seed=config.seed)  # type: ignore[attr-defined]
    model = model.to(build_on or processes.device)
    model.family = _family(corpora) or model.family
    crop = _crop(config.data, model.layout)
    if crop is None and config.data.long_records == "crop":
        say("no record is cut: the model has no limit; data.crop_residues sets the length of windows")
    sources = [
        Source(name, corpus, _fitting_rows(corpus, model, config.data, say), each.share)
        for name, corpus, each in zip(_names(config.data, corpora), corpora, config.data.sources, strict=True)
    ]
    job = MlmJob(
        sources=sources,
        evaluation=held_out,
        masking=config.masking.build(),  # type: ignore[attr-defined]
        model=model,
        settings=config.training,
        run=run,
        corruption=config.corruption,
        seed=config.seed,
        share_of=config.data.share_of,
        schedules=dict(schedules_in(config.masking, "masking")),
        eval_rows=None if held_out is None else _eval_rows(held_out, model, config.data, say),
        crop=crop,
        process=processes.index,
        num_processes=processes.count,
    )
    say(
        f"{job.sources.num_records:,} training records, {job.sources.num_tokens:,} tokens per epoch; "
        f"{config.training.max_steps:,} steps of {_step_size(config.training)}"
    )
    return Parts(model, job)


def counted(model: LanguageModel) -> str:
    """Say how many parameters there are, and how many of them are trained.

    Parameters
    ----------
    model
        Adapted or not.
    """
    trained = num_trained(model)
    share = f"{trained / model.num_parameters:.1%}"
    return f"{model.num_parameters:,} parameters, of which {trained:,} ({share}) are trained"


def _step_size(training: TrainingConfig) -> str:
    if training.step_records is not None:
        return f"{training.step_records:,} records"
    return f"{training.step_tokens:,} tokens"


def rates_table(tally: MaskingTally) -> pl.DataFrame:
    """Table asked and observed masking rates by region.

    Parameters
    ----------
    tally
        Counted during training.
    """
    asked, observed, maskable = (
        np.append(values, values.sum()) for values in (tally.asked, tally.observed, tally.maskable)
    )
    names = [region.name if region else "outside" for region in Region] + ["all"]
    seen = maskable > 0
    return pl.DataFrame(
        {
            "region": np.array(names)[seen],
            "asked": asked[seen] / maskable[seen],
            "observed": observed[seen] / maskable[seen],
            "n_residues": maskable[seen].astype(np.int64),
        }
    )


def _family(corpora: Sequence[Corpus]) -> Family | None:
    """Give the family that residues are aligned to, covered where any corpus covers it."""
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


def _names(data: DataConfig, corpora: Sequence[Corpus]) -> list[str]:
    """Name each source, all different."""
    names = [each.name or corpus.name for each, corpus in zip(data.sources, corpora, strict=True)]
    return [
        name if names.count(name) == 1 else f"{name}#{names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _folders(data: DataConfig) -> list[str]:
    """Name the folder of each corpus that is made from a file."""
    count = len(data.sources)
    return ["train"] if count == 1 else [f"train-{number}" for number in range(1, count + 1)]


def _report_sources(job: MlmJob, run: Run, say: Say) -> None:
    """Keep and say what was drawn from each corpus, and how many records fell back to another masking."""
    table = job.sources.table(job.settings.max_steps)
    if table is not None:
        table.write_parquet(run.table_path("sources"))
        for row in table.iter_rows(named=True):
            say(
                f"{row['source']}: {row['records']:,} records ({row['record_share']:.1%}; "
                f"asked {row['asked_share']:.1%}), {row['tokens']:,} tokens ({row['token_share']:.1%}), "
                f"{row['epochs']:.2f} epochs"
            )
    fallen, total = job.tally.records.tolist()
    if fallen:
        say(
            f"{fallen:,.0f} of {total:,.0f} drawn records lacked what the masking policy needs and were "
            "treated as its settings say for such records"
        )


def _crop(data: DataConfig, layout: TokenLayout) -> int | None:
    """Give the most residues of a window of a long record; `None` where none is cut."""
    if data.long_records != "crop":
        return None
    limits = [] if data.crop_residues is None else [data.crop_residues]
    if layout.max_tokens is not None:
        limits.append(layout.max_tokens - layout.num_positions(0, 1))
    return min(limits, default=None)


def _fitting_rows(corpus: Corpus, model: LanguageModel, data: DataConfig, say: Say) -> np.ndarray:
    rows = np.arange(len(corpus))
    if not len(rows):
        raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
    crop = _crop(data, model.layout)
    if crop is not None:
        return _cut_rows(corpus, crop, say)
    limit = model.layout.max_tokens
    if limit is None:
        return rows
    lengths = model.layout.num_positions(corpus.lengths, corpus.num_chains_per_record)
    too_long = np.flatnonzero(lengths > limit)
    if not len(too_long):
        return rows
    if data.long_records == "error":
        row = int(too_long[0])
        raise DataError(
            f"{len(too_long):,} records of {corpus.name} are over the model's limit of {limit} tokens; "
            f"the first is '{corpus.record(row).id}' with {lengths[row]:,}",
            hint="raise model.max_tokens, or pass --set data.long_records=drop, or =crop for random windows",
        )
    say(f"{len(too_long):,} records of {corpus.name} left out: over the limit of {limit} tokens")
    return rows[lengths <= limit]


def _cut_rows(corpus: Corpus, crop: int, say: Say) -> np.ndarray:
    """Give all rows and say how many are cut; records of several chains cannot be."""
    is_long = corpus.lengths > crop
    several = np.flatnonzero(is_long & (corpus.num_chains_per_record > 1))
    if len(several):
        row = int(several[0])
        raise DataError(
            f"{len(several):,} records of {corpus.name} have several chains and over {crop:,} residues, and "
            f"only single chains are cut to windows; the first is '{corpus.record(row).id}' with "
            f"{corpus.lengths[row]:,}",
            hint="raise data.crop_residues or model.max_tokens, or pass --set data.long_records=drop",
        )
    if is_long.any():
        seen = np.minimum(corpus.lengths, crop).sum() / corpus.lengths.sum()
        say(
            f"{is_long.sum():,} records of {corpus.name} cut to random windows of {crop:,} residues, which "
            f"leaves {seen:.0%} of all residues in an epoch"
        )
    return np.arange(len(corpus))


def _eval_rows(corpus: Corpus, model: LanguageModel, data: DataConfig, say: Say) -> np.ndarray:
    rows = _fitting_rows(corpus, model, data, say)
    order = np.argsort(corpus.keys[rows], kind="stable")  # keys are hashes, so this is a fair sample
    return np.sort(rows[order[: data.eval_records]])


def _manifest(
    config: PretrainConfig, run: Run, corpora: Sequence[Corpus], held_out: Corpus | None
) -> dict[str, Any]:
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

    parts = [facts(each.source, corpus) for each, corpus in zip(config.data.sources, corpora, strict=True)]
    train = parts[0]
    if len(parts) > 1:
        train = {
            "source": " + ".join(each.source for each in config.data.sources),
            "num_records": sum(len(corpus) for corpus in corpora),
            "digest": "+".join(corpus.digest for corpus in corpora),
            "sources": parts,
        }
    return {"train": train, "eval": facts(config.data.eval, held_out)}


def _same_data(run: Run, manifest: dict[str, Any]) -> None:
    """Refuse to resume on other data than the interrupted Run had."""
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


__all__ = ["PretrainConfig", "pretrain"]
