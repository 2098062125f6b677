"""Training on labels as a job for the loop: records or features of a frozen encoder, and a head."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from protlm.data.flat import expand_slices, record_key
from protlm.data.sampling import StepSampler, budget_batches, even_parts
from protlm.models.heads import Head, HeadFacts
from protlm.models.pooling import ResidueStates
from protlm.models.predictor import HEAD_FOLDER, Predictor, read_outputs
from protlm.objectives.supervised import Supervised
from protlm.runs import Run
from protlm.training.loop import TrainingConfig
from protlm.types.batch import Batch, LossOutput
from protlm.types.record import Record
from protlm.types.target import LabelledRecords

Metric = Callable[[list[np.ndarray], LabelledRecords], float]
"""Predictions of records and their truth to a number; higher is better."""


class Inputs(Protocol):
    """What a model is given of some records: their tokens, or what a frozen encoder said of them."""

    lengths: np.ndarray
    """Tokens per record: what a step and a pass count."""

    def of(self, rows: np.ndarray) -> Any:
        """Give the input of some records.

        Parameters
        ----------
        rows
            Indices, 0-based.
        """
        ...


class RecordInputs:
    """Records as tokens, for an encoder that is trained.

    Parameters
    ----------
    predictor
        For its layout and how it reads pairs.
    records
        All of them.
    """

    def __init__(self, predictor: Predictor, records: Sequence[Record]) -> None:
        self.predictor, self.records = predictor, records
        self.lengths = predictor.lengths(records) if len(records) else np.zeros(0, dtype=np.int64)

    def of(self, rows: np.ndarray) -> Batch:
        """Give a batch of some records.

        Parameters
        ----------
        rows
            Indices, 0-based.
        """
        return self.predictor.batch([self.records[row] for row in rows.tolist()])


class FeatureInputs:
    """What a frozen encoder said of records, for a head alone.

    Parameters
    ----------
    features
        Pooled, float32 ``[n, u × d]`` or ``[n, u, d]``; or of each residue ``[r, d]``, mapped from disk.
    lengths
        Tokens per record.
    facts
        Of the head.
    chain_lengths
        With states of residues: residues of each chain of each input of each record, in order.
    """

    def __init__(
        self,
        features: np.ndarray,
        lengths: np.ndarray,
        facts: HeadFacts,
        *,
        chain_lengths: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.features, self.lengths, self.facts = features, lengths, facts
        self.chain_lengths = chain_lengths
        if chain_lengths is not None:
            sizes = np.array([sum(own) for own in chain_lengths], dtype=np.int64)
            self._starts, self._sizes = np.cumsum(sizes) - sizes, sizes

    def of(self, rows: np.ndarray) -> ResidueStates | Tensor:
        """Give the features of some records.

        Parameters
        ----------
        rows
            Indices, 0-based.
        """
        if self.chain_lengths is None:
            return torch.from_numpy(np.ascontiguousarray(self.features[rows])).reshape(-1, self.facts.width)
        chains = np.array([size for row in rows.tolist() for size in self.chain_lengths[row]])
        where = expand_slices(self._starts[rows], self._sizes[rows])
        values = torch.from_numpy(np.ascontiguousarray(self.features[where]))
        return ResidueStates(
            values,
            torch.repeat_interleave(torch.arange(len(chains)), torch.from_numpy(chains)),
            torch.ones(len(values)),
            len(chains),
        )


@dataclass(frozen=True)
class Labelled:
    """Some records as the model gets them, with what is to be learned."""

    inputs: Any
    values: Tensor
    num_tokens: int


@dataclass(frozen=True)
class Rows:
    """Which labelled records are used for one thing."""

    labelled: LabelledRecords
    inputs: Inputs


class SupervisedJob:
    """Gives the loop labelled micro-batches and their loss.

    Parameters
    ----------
    train
        To learn from; at least one record.
    valid
        To choose the weights by; may be missing.
    objective
        The loss.
    facts
        Of the head, for the scale of values.
    settings
        Token budgets and number of steps.
    run
        Where the model goes.
    seed
        Of the order.
    metric
        What chooses the weights instead of the loss on `valid`.
    """

    def __init__(
        self,
        *,
        train: Rows,
        valid: Rows | None,
        objective: Supervised,
        facts: HeadFacts,
        settings: TrainingConfig,
        run: Run,
        seed: int,
        metric: Metric | None = None,
    ) -> None:
        self.train, self.valid, self.objective, self.head_facts = train, valid, objective, facts
        self.settings, self.run, self.metric = settings, run, metric
        lengths = train.inputs.lengths
        self.sampler = StepSampler(
            lengths=lengths if settings.step_records is None else np.ones_like(lengths),
            keys=np.array([record_key(record) for record in train.labelled.records], dtype=np.uint64),
            step_tokens=settings.step_records or settings.step_tokens,
            seed=seed,
        )

    def steps(self, first_step: int) -> Iterator[tuple[int, list[Labelled]]]:
        """Give the labelled micro-batches of each step.

        Parameters
        ----------
        first_step
            0-based.
        """
        lengths = self.train.inputs.lengths
        for step, _, rows in self.sampler.steps(first_step):
            budget = self.settings.micro_tokens or int(lengths[rows].sum())
            yield step, [self._labelled(self.train, rows[part]) for part in even_parts(lengths[rows], budget)]

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give how often the records were seen.

        Parameters
        ----------
        num_steps
            Steps that are done.
        """
        size = self.settings.step_records or self.settings.step_tokens
        whole = len(self.train.labelled) if self.settings.step_records else self.train.inputs.lengths.sum()
        return {"epochs": float(num_steps * size / whole)}

    def loss(self, model: nn.Module, micro_batch: Labelled) -> LossOutput:
        """Give the summed loss of a micro-batch.

        Parameters
        ----------
        model
            A `Predictor`, or a `Head` where features are given.
        micro_batch
            From `steps`.
        """
        device = next(model.parameters()).device
        return self.objective(model(to_device(micro_batch.inputs, device)), micro_batch.values.to(device))

    def num_tokens(self, micro_batch: Labelled) -> int:
        """Count the tokens of a micro-batch.

        Parameters
        ----------
        micro_batch
            From `steps`.
        """
        return micro_batch.num_tokens

    def evaluate(self, model: nn.Module) -> dict[str, tuple[float, int]]:
        """Sum the loss over the validation records; `watched` is the metric that chooses, turned round.

        Parameters
        ----------
        model
            As for `loss`.
        """
        if self.valid is None or not len(self.valid.labelled):
            return {}
        device, sums = next(model.parameters()).device, {}
        found: list[np.ndarray] = [np.zeros(0)] * len(self.valid.labelled)
        for rows, batch in self._valid_batches:
            outputs = model(to_device(batch.inputs, device))
            output = self.objective(outputs, batch.values.to(device))
            for name, (total, count) in {"loss": (float(output.loss), output.count), **output.parts}.items():
                old_total, old_count = sums.get(name, (0.0, 0))
                sums[name] = (old_total + total, old_count + count)
            for row, own in zip(rows.tolist(), split_outputs(outputs, model, self.valid, rows), strict=True):
                found[row] = own
        sums = {name: pair for name, pair in sums.items() if pair[1]}
        if self.metric is not None and sums:
            value = self.metric(found, self.valid.labelled)
            sums["watched"] = (-value if value == value else float("inf"), 1)
        return sums

    def save_model(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Write what was trained into the Run.

        Parameters
        ----------
        model
            As for `loss`.
        weights
            Its whole state.
        """
        if isinstance(model, Predictor):
            model.save(self.run, weights)
        else:
            cast(Head, model).save(self.run.path / HEAD_FOLDER, dict(weights))

    def state(self) -> dict[str, Any]:
        """Give nothing: the order is a function of the step."""
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
    def _valid_batches(self) -> list[tuple[np.ndarray, Labelled]]:
        assert self.valid is not None
        budget = self.settings.micro_tokens or self.settings.step_tokens
        parts = budget_batches(self.valid.inputs.lengths, budget)
        return [(rows, self._labelled(self.valid, rows)) for rows in parts]

    def _labelled(self, source: Rows, rows: np.ndarray) -> Labelled:
        values = target_values(source.labelled, rows, self.head_facts)
        return Labelled(source.inputs.of(rows), values, int(source.inputs.lengths[rows].sum()))


def target_values(labelled: LabelledRecords, rows: np.ndarray, facts: HeadFacts) -> Tensor:
    """Give what is to be learned of some records, as `Supervised` takes it.

    Parameters
    ----------
    labelled
        All records.
    rows
        Indices, 0-based.
    facts
        Of the head, for the scale of values.
    """
    own = [labelled.values[row] for row in rows.tolist()]
    kind = labelled.target.kind
    if labelled.target.level == "residue":
        values = np.concatenate([np.asarray(each) for each in own])
    else:
        values = np.asarray(own)
    if kind in ("binary", "classes"):
        return torch.from_numpy(values.astype(np.int64))
    if kind == "labels":
        return torch.from_numpy(values.astype(np.float32))
    return torch.from_numpy(((values.astype(np.float64) - facts.mean) / facts.sd).astype(np.float32))


def split_outputs(outputs: Tensor, model: nn.Module, source: Rows, rows: np.ndarray) -> list[np.ndarray]:
    """Give probabilities or numbers of each record of a batch.

    Parameters
    ----------
    outputs
        Of the model.
    model
        A `Predictor` or a `Head`.
    source
        Where the records are.
    rows
        Which they are.
    """
    head = model.head if isinstance(model, Predictor) else cast(Head, model)
    values = read_outputs(outputs, head)
    if head.facts.target.level != "residue":
        return list(values)
    sizes = [len(source.labelled.records[row]) for row in rows.tolist()]
    return np.split(values, np.cumsum(sizes)[:-1])


def predict_rows(model: nn.Module, source: Rows, *, max_tokens: int) -> list[np.ndarray]:
    """Give probabilities or numbers of all records, in order.

    Parameters
    ----------
    model
        A `Predictor`, or a `Head` where features are given.
    source
        The records.
    max_tokens
        Token budget of a batch.
    """
    device = next(model.parameters()).device
    found: list[np.ndarray] = [np.zeros(0)] * len(source.labelled)
    with torch.inference_mode():
        for rows in budget_batches(source.inputs.lengths, max_tokens) if len(found) else []:
            outputs = model(to_device(source.inputs.of(rows), device))
            for row, own in zip(rows.tolist(), split_outputs(outputs, model, source, rows), strict=True):
                found[row] = own
    return found


def to_device(inputs: Any, device: torch.device) -> Any:
    """Move the input of a model.

    Parameters
    ----------
    inputs
        A batch, residue states, or a tensor.
    device
        Where to.
    """
    if isinstance(inputs, ResidueStates):
        moved = (inputs.values.to(device), inputs.chain.to(device), inputs.sizes.to(device))
        return ResidueStates(*moved, inputs.num_chains)
    return inputs.to(device)
