"""What a long measurement shows of itself: a bar, or a line now and then."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Measuring"]

_log = logging.getLogger(__name__)

_EVERY_S = 30.0


class Measuring:
    """How many measurements are done and the time they take still.

    Args:
        title: what is measured.
        console: for a bar; without one a line is logged every half minute.
    """

    def __init__(self, title: str, console: Console | None) -> None:
        self.title = title
        self._console = console
        self._stack = ExitStack()
        self._last = 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Measuring:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=self._console, disable=self._console is None)
        self._bar = self._stack.enter_context(bar)
        self._task = bar.add_task(self.title, total=None)
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.__exit__(*args)  # type: ignore[arg-type]

    def advance(self, done: int, total: int, what: str = "") -> None:
        """Note a measurement; numbers that fall begin anew."""
        now = time.monotonic()
        if done < self._last:
            self._bar.reset(self._task)
            self._began = self._told = now
        self._last = done
        title = f"{self.title}: {what}" if what else self.title
        self._bar.update(self._task, completed=done, total=total, description=title)
        if self._console is None and now - self._told >= _EVERY_S and done:
            left = (now - self._began) / done * (total - done)
            _log.info("%s: %d of %d, about %.0f s left", self.title, done, total, left)
            self._told = now
