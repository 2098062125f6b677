"""pretrain: a corpus and a masking to a trained model in a Run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import torch

from protlm.config import AnyConfig, BaseConfig, one_of
from protlm.data.corpus import Corpus
from protlm.data.layout import TokenLayout
from protlm.data.token_counts import corpus_counts, is_counted
from protlm.masking import maskings
from protlm.masking.corrupt import CorruptionConfig
from protlm.masking.policies import RegionMasking
from protlm.models.adaptation import FullAdaptation, adaptations, num_trained
from protlm.models.architectures import EsmArchitecture, architectures
from protlm.models.language_model import LanguageModel
from protlm.models.loading import pick_device
from protlm.progress import Progress
from protlm.recipes.evaluate_baselines import fit_on_sources
from protlm.recipes.prepare import open_source
from protlm.recipes.pretrain_data import (
    DataConfig,
    Say,
    crop_of,
    data_manifest,
    eval_rows,
    family_of,
    fitting_rows,
    refuse_other_data,
    source_folders,
    source_names,
)
from protlm.recipes.resuming import changed_settings, refuse_changes
from protlm.runs import Run
from protlm.schedules import schedules_in
from protlm.training.loop import TrainingConfig, train
from protlm.training.mlm_job import MaskingTally, MlmJob
from protlm.training.processes import Processes, distribution, launch_warning
from protlm.training.sources import Source
from protlm.types.regions import Region


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
        refuse_changes(run, trained_otherwise(run, config))
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
    if parts.model.padding_note:
        say(parts.model.padding_note)
    if processes.is_main:
        sources = [(each.corpus, each.rows) for each in parts.job.sources.sources]
        for name, table in fit_on_sources(sources, say).items():
            table.write_parquet(run.table_path(name))
        rates_table(parts.job.tally).write_parquet(run.table_path("masking_rates"))
        _report_sources(parts.job, run, say)
    run.finish()
    return run


def trained_otherwise(run: Run, config: PretrainConfig) -> list[str]:
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
        As of `changed_settings`; empty where nothing was trained yet.
    """
    if not run.is_done and not any(run.checkpoints_path.glob("step-*")):
        return []
    return changed_settings(run, config)


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
            for each, folder in zip(config.data.sources, source_folders(config.data), strict=True)
        ]
        held_out = None
        if config.data.eval is not None:
            held_out = open_source(config.data.eval, run.path / "data" / "eval", say=say)
        manifest = data_manifest(config.data, run, corpora, held_out)
        refuse_other_data(run, manifest)
        run.write_json("data_manifest.json", manifest)
    with build_on or torch.device("cpu"):
        model = config.model.build(seed=config.seed, name=run.name)  # type: ignore[attr-defined]
        config.adapt.apply(model, seed=config.seed)  # type: ignore[attr-defined]
    model = model.to(build_on or processes.device)
    model.family = family_of(corpora) or model.family
    with processes.main_first():  # sub-words are counted once
        for corpus in corpora if held_out is None else [*corpora, held_out]:
            count_subwords(corpus, model.layout, is_shown=processes.is_main)
    crop = crop_of(config.data, model.layout)
    if crop is None and config.data.long_records in ("crop", "window"):
        say("no record is cut: the model has no limit; data.crop_residues sets the length of windows")
    sources = [
        Source(name, corpus, fitting_rows(corpus, model, config.data, say), each.share)
        for name, corpus, each in zip(
            source_names(config.data, corpora), corpora, config.data.sources, strict=True
        )
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
        eval_rows=None if held_out is None else eval_rows(held_out, model, config.data, say),
        crop=crop,
        process=processes.index,
        num_processes=processes.count,
    )
    say(
        f"{job.sources.num_records:,} training records, {job.sources.num_tokens:,} tokens per epoch; "
        f"{config.training.max_steps:,} steps of {_step_size(config.training)}"
    )
    return Parts(model, job)


def count_subwords(corpus: Corpus, layout: TokenLayout, *, is_shown: bool) -> None:
    """Count the sub-words of a corpus with progress, if the model has any; they are kept beside it.

    Parameters
    ----------
    corpus
        To train or evaluate on.
    layout
        The model's.
    is_shown
        Whether this process shows progress.
    """
    if not is_counted(corpus, layout):
        total = len(corpus.chain_lengths)
        with Progress("counting sub-words", total, unit="chain", is_shown=is_shown) as progress:
            corpus_counts(corpus, layout, on_chains=lambda chains: progress.advance(units=chains))


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


__all__ = ["DataConfig", "PretrainConfig", "Say", "pretrain"]
