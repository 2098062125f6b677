"""Numbers that may change while training goes on: linear, cosine, sigmoid, or in steps."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, model_validator

from protlm.config import BaseConfig
from protlm.errors import did_you_mean


class Schedule(BaseConfig):
    """A number as a function of training progress in [0, 1]: 0 at the first step, 1 at the last."""

    @abstractmethod
    def at(self, progress: float) -> float:
        """Give the number.

        Parameters
        ----------
        progress
            Share of the training that is done, in [0, 1].
        """

    @abstractmethod
    def bounds(self) -> tuple[float, float]:
        """Give the lowest and the highest number over the whole training."""


class LinearSchedule(Schedule):
    """From `start` to `end` in a straight line.

    Examples
    --------
    >>> LinearSchedule(start=0.1, end=0.3).at(0.5)
    0.2
    """

    kind: Literal["linear"] = "linear"
    start: float
    end: float

    def at(self, progress: float) -> float:
        """Give the number.

        Parameters
        ----------
        progress
            In [0, 1].
        """
        return (1 - progress) * self.start + progress * self.end

    def bounds(self) -> tuple[float, float]:
        """Give the lowest and the highest number."""
        return min(self.start, self.end), max(self.start, self.end)


class CosineSchedule(Schedule):
    """From `start` to `end` along half a cosine: slow, fast, slow.

    Examples
    --------
    >>> schedule = CosineSchedule(start=0.3, end=0.1)
    >>> [round(schedule.at(t), 4) for t in (0.0, 0.25, 0.5, 1.0)]
    [0.3, 0.2707, 0.2, 0.1]
    """

    kind: Literal["cosine"] = "cosine"
    start: float
    end: float

    def at(self, progress: float) -> float:
        """Give the number.

        Parameters
        ----------
        progress
            In [0, 1].
        """
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * progress))

    def bounds(self) -> tuple[float, float]:
        """Give the lowest and the highest number."""
        return min(self.start, self.end), max(self.start, self.end)


class SigmoidSchedule(Schedule):
    r"""A smooth step, :math:`B - A\,\sigma(k\,(t - \mathrm{shift}))` of the progress :math:`t`.

    With the values below it is the share of unpaired sequences of the curriculum of CurrAb: 0.70 at the
    start, 0.50 at t = 0.8166, 0.32 at the end, 0.625 in the mean.

    References
    ----------
    Burbach & Briney 2025, PLoS Computational Biology (CurrAb); `curriculum_prob` of its code.

    Examples
    --------
    >>> unpaired = SigmoidSchedule(A=0.4, B=0.7, k=15, shift=0.8166)
    >>> [round(unpaired.at(t), 3) for t in (0.0, 0.5, 0.8166, 1.0)]
    [0.7, 0.697, 0.5, 0.324]
    """

    kind: Literal["sigmoid"] = "sigmoid"
    A: float
    """How far it falls in all; negative rises."""
    B: float
    """Where it comes from, far before the shift."""
    k: float = Field(gt=0)
    """Steepness."""
    shift: float
    """Progress at which half of the fall is done."""

    def at(self, progress: float) -> float:
        """Give the number.

        Parameters
        ----------
        progress
            In [0, 1].
        """
        # the tanh form does not overflow where k is large
        return self.B - self.A * 0.5 * (1 + math.tanh(0.5 * self.k * (progress - self.shift)))

    def bounds(self) -> tuple[float, float]:
        """Give the lowest and the highest number."""
        ends = self.at(0.0), self.at(1.0)
        return min(ends), max(ends)


class StepsSchedule(Schedule):
    """One number after another: ``values[i]`` from the progress ``at_progress[i - 1]`` on.

    Examples
    --------
    >>> schedule = StepsSchedule(values=[0.15, 0.3], at_progress=[0.5])
    >>> schedule.at(0.49), schedule.at(0.5)
    (0.15, 0.3)
    """

    kind: Literal["steps"] = "steps"
    values: tuple[float, ...] = Field(min_length=1)
    at_progress: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    """Where each value after the first begins; ascending, one fewer than `values`."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> "StepsSchedule":
        if len(self.at_progress) != len(self.values) - 1:
            raise ValueError(
                f"{len(self.values)} values need {len(self.values) - 1} places in at_progress, "
                f"got {len(self.at_progress)}"
            )
        if list(self.at_progress) != sorted(set(self.at_progress)):
            raise ValueError(f"at_progress must ascend, got {list(self.at_progress)}")
        return self

    def at(self, progress: float) -> float:
        """Give the number.

        Parameters
        ----------
        progress
            In [0, 1].
        """
        return self.values[sum(progress >= place for place in self.at_progress)]

    def bounds(self) -> tuple[float, float]:
        """Give the lowest and the highest number."""
        return min(self.values), max(self.values)


SCHEDULES: Mapping[str, type[Schedule]] = {
    "linear": LinearSchedule,
    "cosine": CosineSchedule,
    "sigmoid": SigmoidSchedule,
    "steps": StepsSchedule,
}


def scheduled(low: float, high: float = math.inf) -> BeforeValidator:
    """Accept a number or a schedule whose every value is in [low, high].

    Use it as ``Annotated[float | SerializeAsAny[Schedule], scheduled(0, 1)]``.

    Parameters
    ----------
    low, high
        Bounds, inclusive.
    """
    wanted = f"at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"

    def check(value: Any) -> Any:
        if isinstance(value, dict):
            value = _schedule_of(value)
        if isinstance(value, Schedule):
            lowest, highest = value.bounds()
            if not (low <= lowest and highest <= high):
                raise ValueError(
                    f"this schedule runs from {lowest:g} to {highest:g}; expected values {wanted}"
                )
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"expected a number {wanted}, or a schedule with 'kind'") from None
        if not low <= number <= high or math.isnan(number):
            raise ValueError(f"expected a number {wanted}")
        return number

    return BeforeValidator(check)


def _schedule_of(value: dict[str, Any]) -> Schedule:
    kind = str(value.get("kind"))
    if kind not in SCHEDULES:
        raise ValueError(f"unknown schedule '{kind}'; {did_you_mean(kind, SCHEDULES)}")
    return SCHEDULES[kind].model_validate(value)


ScheduledRate = Annotated[float | SerializeAsAny[Schedule], scheduled(0, 1)]
"""A probability, or a schedule of one."""
ScheduledWeight = Annotated[float | SerializeAsAny[Schedule], scheduled(0)]
"""A number of at least 0 that counts in proportion to others, or a schedule of one."""
ScheduledLength = Annotated[float | SerializeAsAny[Schedule], scheduled(1)]
"""A mean length of at least 1, or a schedule of one."""


def value_at(value: float | Schedule, progress: float) -> float:
    """Give a number that may be scheduled.

    Parameters
    ----------
    value
        A number, or a schedule.
    progress
        In [0, 1].
    """
    return value.at(progress) if isinstance(value, Schedule) else value


def schedules_in(config: Any, name: str = "") -> Iterator[tuple[str, Schedule]]:
    """Find the schedules in a configuration, each with its dotted key.

    Parameters
    ----------
    config
        A configuration, or a part of one.
    name
        The key of that part.

    Examples
    --------
    >>> list(schedules_in({"rate": LinearSchedule(start=0, end=1), "other": 2}, "masking"))
    [('masking.rate', LinearSchedule(kind='linear', start=0.0, end=1.0))]
    """
    if isinstance(config, Schedule):
        yield name, config
        return
    if isinstance(config, BaseModel):
        parts: Any = ((key, getattr(config, key)) for key in type(config).model_fields)
    elif isinstance(config, Mapping):
        parts = config.items()
    elif isinstance(config, Sequence) and not isinstance(config, str):
        parts = enumerate(config)
    else:
        return
    for key, value in parts:
        yield from schedules_in(value, f"{name}.{key}" if name else str(key))
