"""Masked-language-model training as a job for the loop: a corpus, a masking, an objective."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from protlm.data.collate import collate
from protlm.data.corpus import Corpus
from protlm.data.crops import Crop
from protlm.data.mixture import DrawnStep, ShareOf, progress_at
from protlm.data.sampling import even_parts, process_share
from protlm.masking.corrupt import CorruptionConfig, corrupt
from protlm.masking.policies import UniformMasking
from protlm.masking.selection import Draw, MaskingPolicy, Selection, maskable, of_residues, select
from protlm.models.adaptation import is_adapted, merged_weights, save_adapter
from protlm.models.language_model import LanguageModel
from protlm.objectives.mlm import MaskedLanguageModelling
from protlm.runs import Run
from protlm.schedules import Schedule
from protlm.training.loop import TrainingConfig
from protlm.training.sources import Source, Sources, token_lengths
from protlm.types.batch import Batch, Corrupted, LossOutput
from protlm.types.regions import Region

EVAL_SEED = 20240229
"""Seed of the evaluation masks and windows: fixed, so that all models of all Runs see the same ones."""


@dataclass
class MaskingTally:
    """Counts residues by region: what was asked for and what was drawn, of sub-words those under them."""

    asked: np.ndarray = field(default_factory=lambda: np.zeros(len(Region)))
    """Sum of selection probabilities."""
    observed: np.ndarray = field(default_factory=lambda: np.zeros(len(Region)))
    """Selected residues."""
    maskable: np.ndarray = field(default_factory=lambda: np.zeros(len(Region)))
    """Residues that could have been selected."""
    records: np.ndarray = field(default_factory=lambda: np.zeros(2))
    """Records that lacked what the policy needs and fell back, and all records."""

    def add(self, batch: Batch, selection: Selection, rows: torch.Tensor) -> None:
        """Count one batch.

        Parameters
        ----------
        batch
            With or without a region track.
        selection
            What the policy gave.
        rows
            Selected tokens.
        """
        num_fallen = 0 if selection.fell_back is None else int(selection.fell_back.sum())
        self.records += (num_fallen, batch.num_sequences)
        fine = batch.by_residue or batch
        is_selected = torch.zeros(len(batch.tokens), dtype=torch.bool)
        is_selected[rows] = True
        asked, observed, possible = (
            of_residues(values, batch).numpy()
            for values in (selection.probabilities, is_selected, maskable(batch))
        )
        if "region" in fine.tracks:
            region = fine.tracks["region"].numpy()
        else:
            region = np.zeros(len(fine.tokens), dtype=np.uint8)
        size = len(Region)
        self.asked += np.bincount(region, weights=asked, minlength=size)
        self.observed += np.bincount(region[observed], minlength=size)
        self.maskable += np.bincount(region[possible], minlength=size)


class MlmJob:
    """Gives the loop corrupted batches and their loss.

    Parameters
    ----------
    sources
        Corpora to train on; at least one.
    evaluation
        Held-out corpus; may be missing.
    masking
        Policy for training. Evaluation always masks uniformly.
    model
        For its layout.
    settings
        Token budgets and number of steps.
    run
        Where the model goes.
    corruption
        Shares of mask, random and unchanged tokens.
    seed
        Of order and masks.
    share_of
        Whether the shares of several sources count records or tokens.
    schedules
        Settings of the masking that change over training, by their key, for the log.
    eval_rows
        Records of `evaluation` to use; all by default.
    crop
        Cuts records that are too long: in training otherwise in each epoch, in evaluation always the same.
    process, num_processes
        Number of this process, 0-based, and of all; each makes and computes its share of every step.
    """

    def __init__(
        self,
        *,
        sources: Sequence[Source],
        evaluation: Corpus | None,
        masking: MaskingPolicy,
        model: LanguageModel,
        settings: TrainingConfig,
        run: Run,
        corruption: CorruptionConfig,
        seed: int,
        share_of: ShareOf = "records",
        schedules: Mapping[str, Schedule] | None = None,
        eval_rows: np.ndarray | None = None,
        crop: Crop | None = None,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.process, self.num_processes = process, num_processes
        self.evaluation, self.masking, self.layout = evaluation, masking, model.layout
        self.settings, self.run, self.corruption, self.seed = settings, run, corruption, seed
        self._model = model
        self.schedules = dict(schedules or {})
        self.eval_rows, self.crop = eval_rows, crop
        self.objective = MaskedLanguageModelling()
        self.tally = MaskingTally()
        self.sources = Sources(
            sources, layout=model.layout, settings=settings, seed=seed, share_of=share_of, crop=crop
        )

    def steps(self, first_step: int) -> Iterator[tuple[int, list[Corrupted]]]:
        """Give this process's corrupted micro-batches of each step.

        Parameters
        ----------
        first_step
            0-based.
        """
        for drawn in self.sources.steps(first_step):
            lengths = self.sources.lengths_of(drawn)
            share = self._share(lengths, self.settings.micro_tokens or int(lengths.sum()))
            yield drawn.step, [self._corrupted(drawn, part, counts=counts) for part, counts in share]

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give scheduled settings at the last step that is done, what was drawn from each corpus, padding.

        Parameters
        ----------
        num_steps
            Steps that are done.
        """
        progress = progress_at(max(0, num_steps - 1), self.settings.max_steps)
        settings = {name: schedule.at(progress) for name, schedule in self.schedules.items()}
        padding = {} if self._model.is_flat else {"padding_share": self._model.padding_share}
        return {**settings, **self.sources.facts(num_steps), **padding}

    def loss(self, model: nn.Module, micro_batch: Corrupted) -> LossOutput:
        """Give the summed loss of a micro-batch.

        One in which nothing is selected runs with one token and gives 0, with a gradient of 0, because
        processes wait for each other's gradients.

        Parameters
        ----------
        model
            Possibly wrapped for distributed training.
        micro_batch
            From `steps`.
        """
        device = next(model.parameters()).device
        if not len(micro_batch.rows):
            return LossOutput(self.objective(model, _to(_with_one_row(micro_batch), device)).loss * 0.0, 0)
        return self.objective(model, _to(micro_batch, device))

    def num_tokens(self, micro_batch: Corrupted) -> int:
        """Count the tokens of a micro-batch in which something is selected; there is no padding.

        Parameters
        ----------
        micro_batch
            From `steps`.
        """
        return len(micro_batch.batch.tokens) if len(micro_batch.rows) else 0

    def evaluate(self, model: nn.Module) -> dict[str, tuple[float, int]]:
        """Sum loss and accuracy on fixed uniform masks over this process's share of the evaluation corpus.

        Parameters
        ----------
        model
            The bare model.
        """
        sums: dict[str, tuple[float, int]] = {}
        for micro_batch in self._eval_batches:
            output = self.loss(model, micro_batch)
            if not output.count:
                continue
            for name, (total, count) in {"loss": (output.loss.item(), output.count), **output.parts}.items():
                old_total, old_count = sums.get(name, (0.0, 0))
                sums[name] = (old_total + total, old_count + count)
        return sums

    def save_model(self, model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
        """Write the model into the Run.

        Parameters
        ----------
        model
            The bare model.
        weights
            Its whole state. Adapters are merged into the model, and kept beside it.
        """
        own = {
            name.removeprefix("module."): tensor
            for name, tensor in weights.items()
            if name.startswith("module.")
        }
        bare = cast(LanguageModel, model)
        if is_adapted(bare.module):
            save_adapter(bare.module, own, self.run.adapter_path)
            own = merged_weights(bare.module, own)
        bare.save(self.run.model_path, own)

    def state(self) -> dict[str, Any]:
        """Give this process's tally as plain lists."""
        return {name: values.tolist() for name, values in vars(self.tally).items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave, added up over processes.

        Parameters
        ----------
        state
            Plain lists.
        """
        self.tally = MaskingTally(**{name: np.array(values) for name, values in state.items()})

    @cached_property
    def _eval_batches(self) -> list[Corrupted]:
        if self.evaluation is None:
            return []
        rows = np.arange(len(self.evaluation)) if self.eval_rows is None else self.eval_rows
        if not len(rows):
            return []
        masking, draw, batches = UniformMasking(mean_rate=0.15), Draw(seed=EVAL_SEED), []
        budget = self.settings.micro_tokens or self.settings.step_tokens
        lengths = token_lengths(self.evaluation, self.layout, crop=self.crop)[rows]
        for part, counts in self._share(lengths, budget):
            records = self.evaluation.gather(rows[part])
            if self.crop is not None:
                records = self.crop.cut(records, seed=EVAL_SEED, epoch=0)
            batch = collate(records, self.layout)
            corrupted = corrupt(batch, select(masking, batch, draw), self.layout, draw=draw)
            batches.append(corrupted if counts else _without_rows(corrupted))
        return batches

    def _share(self, lengths: np.ndarray, budget: int) -> list[tuple[np.ndarray, bool]]:
        parts = even_parts(lengths, budget, multiple_of=self.num_processes)
        return process_share(parts, self.process, self.num_processes)

    def _corrupted(self, drawn: DrawnStep, part: np.ndarray, *, counts: bool = True) -> Corrupted:
        records, epoch = self.sources.gather(drawn, part)
        batch = collate(records, self.layout)
        progress = progress_at(drawn.step, self.settings.max_steps)
        draw = Draw(seed=self.seed, epoch=epoch, progress=progress)
        selection = select(self.masking, batch, draw)
        corrupted = corrupt(batch, selection, self.layout, draw=draw, settings=self.corruption)
        if not counts:
            return _without_rows(corrupted)
        self.tally.add(batch, selection, corrupted.rows)
        return corrupted


def _without_rows(corrupted: Corrupted) -> Corrupted:
    return Corrupted(corrupted.batch, corrupted.rows[:0], corrupted.targets[:0])


def _with_one_row(corrupted: Corrupted) -> Corrupted:
    return Corrupted(corrupted.batch, torch.zeros(1, dtype=torch.int64), corrupted.batch.tokens[:1])


def _to(corrupted: Corrupted, device: torch.device) -> Corrupted:
    if device.type == "cpu":
        return corrupted
    return Corrupted(corrupted.batch.to(device), corrupted.rows.to(device), corrupted.targets.to(device))
