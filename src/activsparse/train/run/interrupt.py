"""Ctrl-C and SIGTERM end a training at the next whole step, so that nothing is lost."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "Interruption"]

_log = logging.getLogger(__name__)


class Interrupted(Exception):  # noqa: N818 - not an error
    """Training stopped on request; its state is saved."""


class Interruption:
    """While entered, notes a first signal and leaves a second one to its usual effect."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        # Only the main thread may handle signals; elsewhere the application decides.
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in self._SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        # A step may take seconds: whoever asked should know that they were heard.
        _log.info("stopping after this step; once more to stop at once")

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
