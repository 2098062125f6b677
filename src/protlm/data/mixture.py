"""Steps drawn from several corpora at shares that may change while training goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from protlm.data.hashing import combine, uniform
from protlm.data.sampling import StepSampler
from protlm.errors import ConfigError
from protlm.schedules import Schedule, value_at

ShareOf = Literal["records", "tokens"]

_SOURCE_STREAM = 103


@dataclass(frozen=True)
class DrawnStep:
    """The records of one optimiser step."""

    step: int
    """0-based."""
    source: np.ndarray
    """Which corpus each record is from, int64 ``[n]``."""
    epoch: np.ndarray
    """How often that corpus was gone through before, int64 ``[n]``."""
    rows: np.ndarray
    """Index of each record among those of its corpus, int64 ``[n]``."""


class MixtureSampler:
    """Gives the records of each step out of several corpora, without end and without state.

    The records of a step are drawn one by one. For each, a number hashed from the seed and a running
    count picks the corpus by the shares of the moment, and the next record of that corpus is taken: each
    corpus goes through its own epochs in its own order (`StepSampler.epoch`). The record that no longer
    fits the step's budget opens the next step, so that long records are not drawn less often. All of it
    follows from the seed, the contents and the step number: to begin at a later step the earlier ones are
    counted through, at some ten microseconds each.

    Parameters
    ----------
    samplers
        One for each corpus.
    shares
        Numbers of at least 0, or schedules of them, one for each corpus. With one `None` among them they
        are shares of 1 and that corpus gets the rest; without, they count in proportion.
    share_of
        ``records``: a share is the chance that a drawn record is from the corpus, as in CurrAb.
        ``tokens``: it is the expected share of tokens; the chance of a record is then in proportion to
        the share over the mean length of the corpus.
    step_tokens
        Token budget of a step.
    max_steps
        Steps of the whole training, for the schedules.
    seed
        Of the choices.
    """

    def __init__(
        self,
        samplers: Sequence[StepSampler],
        shares: Sequence[float | Schedule | None],
        *,
        step_tokens: int,
        max_steps: int,
        seed: int = 0,
        share_of: ShareOf = "records",
    ) -> None:
        self.samplers, self.shares = list(samplers), list(shares)
        self.step_tokens, self.max_steps, self.seed = step_tokens, max_steps, seed
        means = [float(np.average(sampler.lengths, weights=sampler.chances)) for sampler in samplers]
        self._cost = np.array(means) if share_of == "tokens" else np.ones(len(means))
        self.num_records = np.zeros((max_steps, len(means)), dtype=np.int64)
        """Records drawn from each corpus in each step that was passed, ``[step, corpus]``."""
        self.num_tokens = np.zeros((max_steps, len(means)), dtype=np.int64)
        """The same in tokens."""

    def chances(self, step: int) -> np.ndarray:
        """Give the chance of each corpus to be drawn from in a step.

        Parameters
        ----------
        step
            0-based.
        """
        weights = shares_at(self.shares, progress_at(step, self.max_steps)) / self._cost
        return weights / weights.sum()

    def steps(self, first_step: int = 0) -> Iterator[DrawnStep]:
        """Give the steps from `first_step` on, for ever.

        Parameters
        ----------
        first_step
            0-based.
        """
        streams = [_Stream(sampler) for sampler in self.samplers]
        step, num_drawn = 0, 0
        while True:
            drawn, lengths = self._step(step, num_drawn, streams)
            num_drawn += len(drawn.rows)
            if step < self.max_steps:
                count = len(streams)
                self.num_records[step] = np.bincount(drawn.source, minlength=count)
                self.num_tokens[step] = np.bincount(drawn.source, weights=lengths, minlength=count)
            if step >= first_step:
                yield drawn
            step += 1

    def _step(self, step: int, num_drawn: int, streams: "list[_Stream]") -> tuple[DrawnStep, np.ndarray]:
        ahead = [stream.ahead(self.step_tokens) for stream in streams]
        most = sum(len(lengths) for _, _, lengths in ahead)
        numbers = uniform(combine(self.seed, _SOURCE_STREAM, np.arange(num_drawn, num_drawn + most)))
        stops = np.cumsum(self.chances(step))[:-1]
        source = np.searchsorted(stops, numbers, side="right")
        rows, epoch = np.zeros(most, dtype=np.int64), np.zeros(most, dtype=np.int64)
        # past what lies ahead of a corpus the budget is used up, so what stands there is never taken
        lengths = np.full(most, self.step_tokens + 1, dtype=np.int64)
        for number, (its_rows, its_epochs, its_lengths) in enumerate(ahead):
            places = np.flatnonzero(source == number)[: len(its_rows)]
            known = slice(0, len(places))
            rows[places], epoch[places] = its_rows[known], its_epochs[known]
            lengths[places] = its_lengths[known]
        stop = max(1, int(np.searchsorted(np.cumsum(lengths), self.step_tokens, side="right")))
        for number, stream in enumerate(streams):
            stream.advance(int((source[:stop] == number).sum()))
        return DrawnStep(step, source[:stop], epoch[:stop], rows[:stop]), lengths[:stop]


def shares_at(shares: Sequence[float | Schedule | None], progress: float) -> np.ndarray:
    """Give the shares at a progress, with the rest where one is `None`.

    Parameters
    ----------
    shares
        Numbers, schedules, and at most one `None`.
    progress
        In [0, 1].

    Raises
    ------
    ConfigError
        If nothing, or less than nothing, is left.

    Examples
    --------
    >>> shares_at([0.25, None, 0.5], 0.0).tolist()
    [0.25, 0.25, 0.5]
    """
    known = np.array([0.0 if share is None else value_at(share, progress) for share in shares])
    total = float(known.sum())
    if None in shares:
        if total > 1 + 1e-9:
            raise ConfigError(
                f"the shares add up to {total:g} at training progress {progress:g}, so nothing is left for "
                "the corpus without a share",
                hint="lower them to at most 1 together, or give every corpus a share",
            )
        known[list(shares).index(None)] = max(0.0, 1.0 - total)
    elif not total > 0:
        raise ConfigError(
            f"no corpus has a share above 0 at training progress {progress:g}", hint="give one a share"
        )
    return known


def progress_at(step: int, max_steps: int) -> float:
    """Give the training progress of a step: 0 at the first, 1 at the last and after it.

    Parameters
    ----------
    step
        0-based.
    max_steps
        Steps in all.
    """
    return min(1.0, step / max(1, max_steps - 1))


class _Stream:
    """The records of one corpus, epoch after epoch, as a tape with a place on it."""

    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler
        self._next_epoch = 0
        self._rows = self._epochs = self._lengths = np.zeros(0, dtype=np.int64)
        self._place = 0

    def ahead(self, tokens: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, epochs and lengths of the next records, enough to be over `tokens` together."""
        while True:
            # a record has at least one token, so this window is always wide enough where it is full
            window = slice(self._place, self._place + tokens + 1)
            sums = np.cumsum(self._lengths[window])
            count = int(np.searchsorted(sums, tokens, side="right")) + 1
            if count <= len(sums):
                chosen = slice(self._place, self._place + count)
                return self._rows[chosen], self._epochs[chosen], self._lengths[chosen]
            self._add_epoch()

    def advance(self, count: int) -> None:
        self._place += count

    def _add_epoch(self) -> None:
        rows = np.concatenate(self._sampler.epoch(self._next_epoch))
        epochs = np.full(len(rows), self._next_epoch, dtype=np.int64)
        rest = slice(self._place, None)
        self._rows = np.concatenate([self._rows[rest], rows])
        self._epochs = np.concatenate([self._epochs[rest], epochs])
        self._lengths = np.concatenate([self._lengths[rest], self._sampler.lengths[rows]])
        self._place = 0
        self._next_epoch += 1
