"""Contrastive training as a job for the loop: a step is one batch of pairs, cut into chunks that fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from protlm.data.sampling import StepSampler
from protlm.data.structure_pairs import StructurePairs
from protlm.models.dual_tower import DualTower
from protlm.objectives.contrastive import Contrastive
from protlm.runs import Run
from protlm.training.gathering import gather_rows
from protlm.training.loop import TrainingConfig
from protlm.training.processes import Processes
from protlm.types.batch import Batch, LossOutput
from protlm.types.structure import Backbone

_CHUNK_TOKENS = 8192
"""Of a forward pass where nothing else is asked for."""


@dataclass(frozen=True)
class PairBatch:
    """The pairs of a step that one process reads, in chunks, with the clusters of all."""

    sequences: list[Batch | Tensor]
    structures: list[list[Backbone] | Tensor]
    clusters: Tensor
    """Of the pairs of all processes, as they stand behind each other."""
    num_tokens: int


class ContrastiveJob:
    """Gives the loop batches of pairs and their loss.

    Parameters
    ----------
    train
        To learn from.
    valid
        To choose the weights by; may be missing.
    objective
        The loss.
    model
        For its layout and temperature.
    settings
        ``step_records`` pairs a step; ``micro_tokens`` bounds a chunk.
    run
        Where the model goes.
    processes
        All that train together; a step is shared out evenly.
    seed
        Of order and crops.
    crop_residues
        Both views are cut to the same random window of so many residues; `None` leaves them whole.
    """

    def __init__(
        self,
        *,
        train: StructurePairs,
        valid: StructurePairs | None,
        objective: Contrastive,
        model: DualTower,
        settings: TrainingConfig,
        run: Run,
        processes: Processes,
        seed: int,
        crop_residues: int | None = None,
    ) -> None:
        self.train, self.valid, self.objective, self.settings = train, valid, objective, settings
        self.run, self.processes, self.seed, self.crop_residues = run, processes, seed, crop_residues
        self.model, self.tower = model, model.sequence
        size = settings.step_records or 0
        self.step_records = min(size, len(train) - len(train) % processes.count)
        ones = np.ones(len(train), dtype=np.int64)
        self.sampler = StepSampler(lengths=ones, keys=train.keys, step_tokens=self.step_records, seed=seed)

    def steps(self, first_step: int) -> Iterator[tuple[int, list[PairBatch]]]:
        """Give the batch of each step, this process's part of it.

        Parameters
        ----------
        first_step
            0-based.
        """
        count = self.processes.count
        for step, epoch, rows in self.sampler.steps(first_step):
            kept = rows[: len(rows) - len(rows) % count]
            parts = [kept[number::count] for number in range(count)]
            clusters = torch.from_numpy(self.train.clusters[np.concatenate(parts)])
            yield step, [self._batch(self.train, parts[self.processes.index], clusters, epoch)]

    def loss(self, model: nn.Module, micro_batch: PairBatch) -> LossOutput:
        """Give the loss summed over the pairs of this process, among those of all.

        Parameters
        ----------
        model
            A `DualTower`, or what wraps it.
        micro_batch
            From `steps`.
        """
        first, second, scale = model(micro_batch.sequences, micro_batch.structures)
        anchors = self.processes.index * len(first) + torch.arange(len(first), device=first.device)
        return self.objective(
            gather_rows(first, self.processes),
            gather_rows(second, self.processes),
            scale,
            micro_batch.clusters.to(first.device),
            anchors=anchors,
        )

    def num_tokens(self, micro_batch: PairBatch) -> int:
        """Count the residues of the sequences.

        Parameters
        ----------
        micro_batch
            From `steps`.
        """
        return micro_batch.num_tokens

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give how often the pairs were seen, and the temperature.

        Parameters
        ----------
        num_steps
            Steps that are done.
        """
        with torch.no_grad():
            scale = float(self.model.temperature())
        return {"epochs": num_steps * self.step_records / len(self.train), "temperature": 1 / scale}

    def evaluate(self, model: nn.Module) -> dict[str, tuple[float, int]]:
        """Sum the loss over batches of held-out pairs, always the same ones.

        Parameters
        ----------
        model
            A `DualTower`.
        """
        tower, sums = cast(DualTower, model), {}
        for batch in self._valid_batches:
            first, second, scale = tower(batch.sequences, batch.structures)
            output = self.objective(first, second, scale, batch.clusters.to(first.device))
            for name, pair in {"loss": (float(output.loss), output.count), **output.parts}.items():
                old = sums.get(name, (0.0, 0))
                sums[name] = (old[0] + pair[0], old[1] + pair[1])
        return sums

    def save_model(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Write towers and heads into the Run.

        Parameters
        ----------
        model
            A `DualTower`.
        weights
            Its whole state.
        """
        cast(DualTower, model).save(self.run, weights)

    def state(self) -> dict[str, Any]:
        """Give nothing: order and crops are functions of the step."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take nothing back.

        Parameters
        ----------
        state
            Empty.
        """
        del state

    @cached_property
    def _valid_batches(self) -> list[PairBatch]:
        """Cut the held-out pairs into batches like those of training; each process has its share."""
        if self.valid is None or not len(self.valid):
            return []
        order = np.argsort(self.valid.keys, kind="stable")
        parts = np.array_split(order, max(1, round(len(order) / self.step_records)))
        mine = parts[self.processes.index :: self.processes.count]
        return [
            self._batch(self.valid, rows, torch.from_numpy(self.valid.clusters[rows]), 0) for rows in mine
        ]

    def _batch(self, pairs: StructurePairs, rows: np.ndarray, clusters: Tensor, epoch: int) -> PairBatch:
        made = [pairs.pair(row, self.crop_residues, seed=self.seed, epoch=epoch) for row in rows.tolist()]
        lengths = np.array([len(backbone) for _, backbone in made], dtype=np.int64)
        # chunks keep the order of the rows, so that row i of both views is one pair
        chunks = _runs(lengths, self.settings.micro_tokens or _CHUNK_TOKENS)
        sequences: list[Batch | Tensor] = [self.tower.batch([made[n][0] for n in part]) for part in chunks]
        structures: list[list[Backbone] | Tensor] = [[made[n][1] for n in part] for part in chunks]
        if pairs.sequence_vectors is not None:
            sequences = [torch.from_numpy(pairs.sequence_vectors[rows])]
        if pairs.structure_vectors is not None:
            structures = [torch.from_numpy(pairs.structure_vectors[rows])]
        return PairBatch(sequences, structures, clusters, int(lengths.sum()))


def _runs(lengths: np.ndarray, max_tokens: int) -> list[list[int]]:
    """Cut rows into runs within a budget, in their order."""
    number = np.zeros(len(lengths), dtype=np.int64)
    held = 0
    for row, length in enumerate(lengths.tolist()):
        is_full = row > 0 and held + length > max_tokens
        held = length if is_full else held + length
        number[row] = (number[row - 1] if row else 0) + is_full
    return [np.flatnonzero(number == each).tolist() for each in np.unique(number)]
