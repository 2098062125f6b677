"""contrast: a sequence tower and a structure tower brought into one space by pairs of the two."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from protlm.data.structure_pairs import StructurePairs
from protlm.errors import ConfigError
from protlm.models.adaptation import num_trained
from protlm.models.dual_tower import DualTower
from protlm.models.features import (
    Pooling,
    cached_features,
    cached_residue_states,
    feature_folder,
    with_random_weights,
)
from protlm.models.loading import load_model, pick_device
from protlm.models.pooling import segment_means
from protlm.models.precomputed import PrecomputedVectors
from protlm.models.structure_encoder import (
    KINDS,
    StructureEncoder,
    load_structure_encoder,
    new_structure_encoder,
)
from protlm.models.structure_features import segment_features
from protlm.models.towers import SequenceTower, StructureTower
from protlm.objectives.contrastive import Contrastive
from protlm.progress import Progress
from protlm.recipes.contrast_config import ContrastConfig
from protlm.recipes.contrast_data import DividedPairs, read_pairs
from protlm.recipes.resuming import changed_settings, refuse_changes
from protlm.runs import Run
from protlm.training.contrastive_job import ContrastiveJob
from protlm.training.loop import train
from protlm.training.processes import Processes, is_sharded
from protlm.types.record import Record

Say = Callable[[str], None]


def contrast(
    config: ContrastConfig,
    out: Path | str,
    *,
    cache: Path | str | None = None,
    device: str = "auto",
    force: bool = False,
    say: Say = print,
) -> Run:
    """Train two towers on pairs of sequence and structure; the same call resumes an interrupted Run.

    Parameters
    ----------
    config
        What to do.
    out
        The Run folder: ``model`` (the language model), ``structure_encoder``, ``heads``, and the table
        ``pairs`` with the side of each pair.
    cache
        Where vectors of frozen towers are kept, for any later Run; `feature_folder` by default.
    device
        ``"auto"`` takes a GPU if there is one.
    force
        Start over in a finished Run.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If the settings contradict each other, or nothing would be trained.
    DataError
        If the structures do not fit the settings.
    RunError
        If the Run is finished, was interrupted under other settings, or training fails.
    """
    if is_sharded():
        raise ConfigError("contrast does not train in shards", hint="launch it with plain DDP")
    processes = Processes(pick_device(device))
    say = processes.say(say)
    divided = read_pairs(config.data)
    for line in divided.lines():
        say(line)
    model = build_towers(config, str(processes.device))
    with processes.main_first():
        run = Run.create(out, verb="contrast", force=force, writes=processes.is_main)
        _begin(run, config, divided, model, processes)
    say(_describe_model(model))
    folder = feature_folder() if cache is None else Path(cache)
    with processes.main_first():  # the others then find the vectors
        pairs = _with_vectors(divided.pairs, model, config, folder)
    learned = pairs.take(divided.rows("train"))
    _standardise(model, learned)
    held_out = _told_apart(divided, config, say)
    job = ContrastiveJob(
        train=learned,
        valid=pairs.take(held_out) if len(held_out) else None,
        objective=Contrastive(config.loss.same_cluster),
        model=model,
        settings=config.training,
        run=run,
        processes=processes,
        seed=config.seed,
        crop_residues=config.data.crop_residues,
    )
    if job.step_records < (config.training.step_records or 0):
        say(f"a step has all {job.step_records:,} training pairs, fewer than training.step_records")
    train(model, job, config.training, run, processes=processes, seed=config.seed)
    run.finish()
    return run


def _told_apart(divided: DividedPairs, config: ContrastConfig, say: Say) -> np.ndarray:
    """Give the rows of the valid side, none where there is nothing to tell apart."""
    rows = divided.rows("valid")
    if config.loss.same_cluster == "negative":
        count, what = len(rows), "pair"
    else:
        count, what = len(np.unique(divided.pairs.clusters[rows])), "group"
    if count != 1:
        return rows
    kept = "the weights of the last step are kept" if config.training.keep == "best" else "it is not read"
    say(f"the side 'valid' has one {what}, which leaves nothing to tell apart: {kept}")
    return rows[:0]


def describe(config: ContrastConfig, *, device: str = "auto", say: Say = print) -> str:
    """Say what a configuration would do, without training; leaves nothing behind.

    Parameters
    ----------
    config, device, say
        As for `contrast`.
    """
    divided = read_pairs(config.data)
    model = build_towers(config, str(pick_device(device)))
    crop = config.data.crop_residues
    residues = [min(len(each), crop or len(each)) for each in divided.pairs.backbones]
    size = min(config.training.step_records or 0, len(divided.rows("train")))
    passes = config.training.max_steps * size / len(divided.rows("train"))
    _told_apart(divided, config, say)
    say(_describe_model(model))
    return "\n".join(
        [
            config.dump(),
            *divided.lines(),
            f"pairs per step: {size:,}, about {size * float(np.mean(residues)):,.0f} residues",
            f"partners found by chance: {1 / size:.1%}",
            f"passes over the training pairs: {passes:.1f}",
        ]
    )


def build_towers(config: ContrastConfig, device: str) -> DualTower:
    """Load or make both towers and their heads.

    Parameters
    ----------
    config
        Settings.
    device
        Where to.

    Raises
    ------
    ConfigError
        If nothing of them is to be trained.
    """
    encoder = load_model(config.sequence.model, device=device)
    if config.sequence.random_weights:
        encoder = with_random_weights(encoder, seed=config.seed)
    config.sequence.adapt.apply(encoder, seed=config.seed)  # type: ignore[attr-defined]
    sequence = SequenceTower(encoder, config.sequence.pooling, config.segments)
    structure = StructureTower(
        _structure_encoder(config, device), is_trained=config.structure.is_trained, segments=config.segments
    )
    return DualTower(
        sequence,
        structure,
        sequence_head=config.sequence.head,
        structure_head=config.structure.head,
        temperature=config.loss.temperature,
        seed=config.seed,
    )


def _structure_encoder(config: ContrastConfig, device: str) -> StructureEncoder:
    settings = config.structure
    if settings.encoder not in KINDS:
        found = load_structure_encoder(settings.encoder, device=device)
        if settings.arguments:
            raise ConfigError(
                f"structure.arguments are those of a new network, and '{settings.encoder}' is there already",
                hint="leave them out",
            )
        if isinstance(found, PrecomputedVectors) and config.data.crop_residues is not None:
            raise ConfigError(
                f"'{settings.encoder}' has vectors of whole structures, and data.crop_residues "
                f"{config.data.crop_residues} shows windows of them",
                hint="leave out --crop, or take an encoder that reads coordinates",
            )
        return found
    made = new_structure_encoder(
        settings.encoder, settings.arguments, seed=config.seed, origin=settings.origin
    )
    made.module.to(device)
    return made


def _begin(
    run: Run, config: ContrastConfig, divided: DividedPairs, model: DualTower, processes: Processes
) -> None:
    """Write what the Run is made of; refuse one that was made otherwise."""
    if not run.writes:
        return
    changed = changed_settings(run, config)
    if (run.path / "data_manifest.json").is_file():
        before = run.read_json("data_manifest.json")["pairs"]["digest"]
        changed += ["the structures"] if before != divided.digest else []
    table = divided.table()
    if run.table_path("pairs").is_file():
        before = pl.read_parquet(run.table_path("pairs"))
        odd = [name for name in ("id", "cluster", "side") if not before[name].equals(table[name])]
        changed += [f"{', '.join(odd)} of the pairs"] if odd else []
    refuse_changes(run, changed)
    run.write_config(config.dump())
    table.write_parquet(run.table_path("pairs"))
    run.write_json("data_manifest.json", {"pairs": divided.facts()})
    run.note(
        device=str(processes.device),
        threads=torch.get_num_threads(),
        computation=model.sequence.encoder.path,
        processes=processes.count,
    )


def _describe_model(model: DualTower) -> str:
    trained = [num_trained(part) for part in (model.sequence, model.structure)]
    return (
        f"sequence tower {model.sequence.encoder.name}: {trained[0]:,} weights trained; structure tower "
        f"{model.structure.encoder.name}: {trained[1]:,}; {model.sequence.encoder.path}"
    )


def _with_vectors(
    pairs: StructurePairs, model: DualTower, config: ContrastConfig, folder: Path
) -> StructurePairs:
    """Read what frozen towers say of whole items once; windows are read as they come."""
    if config.data.crop_residues is not None:
        return pairs
    made: dict[str, Any] = {}
    # precomputed vectors hang on names, not on content
    if not (model.structure.is_trained or isinstance(model.structure.encoder, PrecomputedVectors)):
        encoder = model.structure.encoder
        with Progress(encoder.name, len(pairs), unit="structure") as progress:
            made["structure_vectors"] = segment_features(
                encoder,
                pairs.backbones,
                config.segments,
                folder / "structures",
                on_done=lambda done: progress.advance(units=done),
            )
    is_kept = not model.sequence.is_trained and model.sequence.kind != "attention"
    if is_kept and all(len(record.chains) == 1 for record in pairs.records):
        made["sequence_vectors"] = _sequence_vectors(model.sequence, pairs.records, folder)
    return replace(pairs, **made)


def _sequence_vectors(tower: SequenceTower, records: Sequence[Record], folder: Path) -> np.ndarray:
    """Give the pooled states of records of one chain, float32 ``[n, segments, w]``."""
    pooling: Pooling = "begin" if tower.kind == "begin" else "mean"
    with Progress(tower.encoder.name, len(records), unit="record") as progress:

        def on_batch(done: int) -> None:
            progress.advance(units=done)

        if tower.segments == 1:
            found, _ = cached_features(tower.encoder, records, folder, pooling=pooling, on_batch=on_batch)
            return found[:, None]
        states, _ = cached_residue_states(tower.encoder, records, folder, on_batch=on_batch)
    starts = np.cumsum([0, *(len(record) for record in records)])
    own = [states[start:stop] for start, stop in pairwise(starts.tolist())]
    return np.stack([segment_means(each, np.ones(len(each), dtype=bool), tower.segments) for each in own])


def _standardise(model: DualTower, learned: StructurePairs) -> None:
    """Bring the vectors of frozen towers to mean 0 and standard deviation 1 over the training pairs."""
    for head, vectors in (
        (model.sequence_head, learned.sequence_vectors),
        (model.structure_head, learned.structure_vectors),
    ):
        if vectors is not None:
            head.standardise(torch.from_numpy(vectors).to(model.device))
