"""Stopping between two steps when Ctrl-C or a cluster's SIGTERM asks for it."""

import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Self

ECHO_SECONDS = 5.0
"""A launcher passes on the signal that the terminal sent to its processes already, within this time."""


class StopRequest:
    """Turns the first SIGINT or SIGTERM into a flag; the second one interrupts at once.

    A step is never cut in the middle, so the state that is saved is that of a whole step.

    Parameters
    ----------
    is_launched
        Whether a launcher started this process; its echo of the first signal then does not count.
    is_shown
        Whether to say that it was heard; off in all but one of several processes.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, *, is_launched: bool = False, is_shown: bool = True) -> None:
        self.is_asked, self._is_shown = False, is_shown
        self._is_launched, self._asked_at = is_launched, 0.0
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._old = {each: signal.signal(each, self._ask) for each in self._SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._old.items():
            signal.signal(each, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.is_asked:
            if self._is_launched and time.monotonic() - self._asked_at < ECHO_SECONDS:
                return
            raise KeyboardInterrupt
        self.is_asked, self._asked_at = True, time.monotonic()
        if self._is_shown:
            sys.stderr.write("stopping after this step and saving; a second time stops at once, unsaved\n")
