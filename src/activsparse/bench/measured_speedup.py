"""How many times as fast a masked model runs as the dense one, in this engine, interleaved.

With one thread its processor time counts, not the wall's clock: where other programs take the core
now and then, only the latter tells of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from activsparse.bench.compare import OWN_ENGINE, compare
from activsparse.bench.pace import Pace
from activsparse.bench.timing import Ratio, time_interleaved

__all__ = ["measured_speedup", "size_speedup"]


def measured_speedup(
    dense: Path,
    masked: Path,
    *,
    threads: int = 1,
    repeat: int = 100,
    session: Mapping[str, Any] | None = None,
) -> float:
    """How many times as fast the masked model is, see `bench.timing.Ratio`.

    Args:
        dense: ONNX file.
        masked: the same with masks.
        threads: of the engine.
        repeat: timed runs of each.
        session: further arguments of `Session`.

    Raises:
        ActivsparseError: see `compare`, which checks both against ONNX Runtime first.
    """
    found = compare(
        dense,
        [masked],
        [OWN_ENGINE],
        threads=threads,
        repeat=repeat,
        session=session,
        clock_ns=_clock(threads),
    )
    (ratio,) = (row for row in found.ratios if row["model"] == str(masked))
    return float(ratio["vs_own_dense"])


def size_speedup(
    large: Path,
    small: Path,
    *,
    threads: int = 1,
    repeat: int = 100,
    session: Mapping[str, Any] | None = None,
) -> float:
    """How many times as fast a network runs on smaller images; arguments as above."""
    from activsparse.engine.session import Session

    calls = {}
    for path in (large, small):
        engine = Session(path, threads=threads, **(session or {}))
        ((_, shape),) = engine.inputs
        x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        calls[str(path)] = partial(engine.run, x)
    times = time_interleaved(calls, repeat, clock_ns=_clock(threads), pace=Pace())
    return Ratio.of_rounds(times[str(large)].visits_ms, times[str(small)].visits_ms).median


def _clock(threads: int) -> Callable[[], int]:
    return time.thread_time_ns if threads == 1 else time.perf_counter_ns
