"""Progress for long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows how far a piece of work is, on standard error.

    Parameters
    ----------
    title
        What is being done.
    total
        Units in all.
    unit
        Name of a unit.
    start
        Units done before, when resuming.
    is_shown
        Off in all but one of several processes.
    """

    def __init__(self, title: str, total: int, *, unit: str, start: int = 0, is_shown: bool = True) -> None:
        self._is_shown = is_shown
        self._title, self._total, self._unit = title, total, unit
        self._done = self._start = start
        self._began = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar: RichProgress | None = None
        if is_shown and console.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit + "s · {task.fields[note]} ·"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._start, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, note: str = "", units: int = 1) -> None:
        """Count finished units.

        Parameters
        ----------
        note
            Shown beside, such as the loss.
        units
            How many more are done.
        """
        self._done += units
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note or self._rate())
            return
        now = time.monotonic()
        if self._is_shown and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            print(self._line(note), file=sys.stderr, flush=True)  # noqa: T201

    def _rate(self) -> str:
        rate = (self._done - self._start) / max(1e-9, time.monotonic() - self._began)
        return f"{rate:,.1f} {self._unit}s/s"

    def _line(self, note: str) -> str:
        rate = (self._done - self._start) / max(1e-9, time.monotonic() - self._began)
        left = (self._total - self._done) / max(1e-9, rate)
        parts = [f"{self._title}: {self._done:,} of {self._total:,} {self._unit}s", note or self._rate()]
        return " · ".join([*parts, f"about {duration(left)} left"])


def duration(seconds: float) -> str:
    """Write a duration for people.

    Parameters
    ----------
    seconds
        At least 0.

    Examples
    --------
    >>> duration(4.2), duration(75), duration(7300)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
