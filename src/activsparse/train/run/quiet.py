"""Lightning without its chatter; our own log and errors say what a user needs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_lightning"]


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips, hardware reports and advice about loaders."""
    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "lightning_fabric", "lightning")]
    loggers += [logging.getLogger(f"pytorch_lightning.{n}") for n in ("utilities.rank_zero",)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for module in (r"pytorch_lightning.*", r"lightning.*", r"torch\.optim\.lr_scheduler"):
                warnings.filterwarnings("ignore", module=module)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
