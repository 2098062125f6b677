"""Which records go together: token budgets, length pools, an order that no input order can change."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from protlm.data.hashing import combine, uniform

_ORDER_STREAM, _BATCH_STREAM, _DRAW_STREAM = 101, 102, 103


def budget_batches(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Cut items into runs that hold at most `max_tokens`, shortest items first.

    Parameters
    ----------
    lengths
        Tokens per item.
    max_tokens
        Budget of a run. An item above it gets a run of its own.

    Returns
    -------
    list of numpy.ndarray
        Item indices; every item once.

    Examples
    --------
    >>> [batch.tolist() for batch in budget_batches(np.array([5, 2, 2, 9]), 6)]
    [[1, 2], [0], [3]]
    """
    order = np.argsort(lengths, kind="stable")
    return [order[start:stop] for start, stop in _cuts(lengths[order], max_tokens)]


def _cuts(lengths: np.ndarray, max_tokens: int) -> Iterator[tuple[int, int]]:
    sums = np.concatenate([[0], np.cumsum(lengths)])
    start = 0
    while start < len(lengths):
        stop = int(np.searchsorted(sums, sums[start] + max_tokens, side="right")) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop


def even_parts(lengths: np.ndarray, max_tokens: int, *, multiple_of: int = 1) -> list[np.ndarray]:
    """Sort by length and cut into the fewest parts within the budget, all of nearly equal tokens.

    Filling each part to the brim would leave a small last one, always of the longest records, whose
    gradient would count as much as that of a full step.

    Parameters
    ----------
    lengths
        Tokens per item; at least one item.
    max_tokens
        Budget of a part. An item above it gets a part of its own.
    multiple_of
        Cut into a multiple of so many parts, one for each of several processes; with fewer items than
        that, into one part per item.

    Examples
    --------
    >>> [part.tolist() for part in even_parts(np.array([5, 2, 2, 9]), 10, multiple_of=2)]
    [[1, 2, 0], [3]]
    """
    order = np.argsort(lengths, kind="stable")
    stops = np.cumsum(lengths[order])
    total, fewest = int(stops[-1]), -(-int(stops[-1]) // max_tokens)
    for num_parts in range(-(-fewest // multiple_of) * multiple_of, len(order) + 1, multiple_of):
        part_of = (stops - 1) * num_parts // total
        cuts = np.flatnonzero(np.diff(part_of)) + 1
        parts = [part for part in np.split(order, cuts) if len(part)]
        is_within = all(lengths[part].sum() <= max_tokens or len(part) == 1 for part in parts)
        if is_within and len(parts) % multiple_of == 0:
            return parts
    return [order[index : index + 1] for index in range(len(order))]


def process_share(parts: list[np.ndarray], process: int, num_processes: int) -> list[tuple[np.ndarray, bool]]:
    """Give the parts of one process, as many for each, and whether a part counts.

    Where the parts do not go round, a process gets the last one again, which then does not count.

    Parameters
    ----------
    parts
        At least one.
    process, num_processes
        Number of the process, 0-based, and of all.

    Examples
    --------
    >>> three = [np.array([7]), np.array([8]), np.array([9])]
    >>> [(part.tolist(), counts) for part, counts in process_share(three, 1, 2)]
    [([8], True), ([9], False)]
    """
    rounds = -(-len(parts) // num_processes)
    numbers = [number * num_processes + process for number in range(rounds)]
    return [(parts[min(number, len(parts) - 1)], number < len(parts)) for number in numbers]


@dataclass(frozen=True)
class StepSampler:
    """Gives the records of each optimiser step, epoch after epoch, without end and without state.

    Records are ordered by a hash of their content key, the seed and the epoch; pools of many steps
    are sorted by length and cut into steps of nearly equal tokens; the steps of the epoch are put in
    random order. The records of a step therefore differ little in length, and nothing depends on the
    order of the input. Where records have weights, an epoch has each with that chance.
    """

    lengths: np.ndarray
    """Tokens per record, special tokens included."""
    keys: np.ndarray
    """Content key per record, uint64."""
    step_tokens: int
    """Token budget of a step."""
    seed: int = 0
    pool_steps: int = 64
    """Steps whose records are sorted by length together."""
    weights: np.ndarray | None = None
    """Chance of each record to be in an epoch, above 0 and at most 1; all are in every epoch if `None`."""

    @property
    def chances(self) -> np.ndarray:
        """Chance of each record to be in an epoch, ``[n]``."""
        return np.ones(len(self.keys)) if self.weights is None else self.weights

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Give the steps of one epoch; every record that is drawn is in exactly one.

        Parameters
        ----------
        epoch
            0-based.
        """
        drawn = self._drawn(epoch)
        order = drawn[np.argsort(combine(self.seed, _ORDER_STREAM, epoch, self.keys[drawn]), kind="stable")]
        steps: list[np.ndarray] = []
        for start, stop in _cuts(self.lengths[order], self.step_tokens * self.pool_steps):
            pool = order[start:stop]
            steps += [pool[part] for part in even_parts(self.lengths[pool], self.step_tokens)]
        shuffle = np.argsort(combine(self.seed, _BATCH_STREAM, epoch, np.arange(len(steps))))
        return [steps[index] for index in shuffle]

    def _drawn(self, epoch: int) -> np.ndarray:
        if self.weights is None:
            return np.arange(len(self.keys))
        numbers = uniform(combine(self.seed, _DRAW_STREAM, epoch, self.keys)) / self.weights
        drawn = np.flatnonzero(numbers < 1)
        return drawn if len(drawn) else np.array([int(numbers.argmin())])  # no epoch is empty

    def steps(self, first_step: int = 0) -> Iterator[tuple[int, int, np.ndarray]]:
        """Give ``(step, epoch, rows)`` from `first_step` on, for ever.

        Parameters
        ----------
        first_step
            0-based; earlier steps are skipped without being read.
        """
        start_of_epoch, epoch = 0, 0
        while True:
            rows_of_step = self.epoch(epoch)
            for index in range(max(0, first_step - start_of_epoch), len(rows_of_step)):
                yield start_of_epoch + index, epoch, rows_of_step[index]
            start_of_epoch += len(rows_of_step)
            epoch += 1
