"""Measuring a table of times on this machine: what masks cost here (`masks.time_table`).

Every algorithm of the engine is timed on layers of known networks at several sparsities: Winograd
on `tiles` of its own size, the others on lattices; `active_taps` with the same lattice at its
input. Each time is the lower quartile of many runs, the least of several rounds over all layers, on
weights that come from memory as they do within a network.
"""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from activsparse import _native
from activsparse.engine.choice_cache import CACHE_VARIABLE, machine_file
from activsparse.errors import ActivsparseError, Option
from activsparse.files import atomic_path
from activsparse.masks.fill import nearest_source
from activsparse.masks.latency import winograd_macs, winograd_run
from activsparse.masks.lattice import lattice
from activsparse.masks.pattern import sparsity_of
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import tiles
from activsparse.masks.time_table import TimeTable, choose_table, default_table, read_table

__all__ = [
    "ALGORITHMS",
    "MOST_BUSY",
    "SPARSITIES",
    "busy_cores",
    "calibrate",
    "calibrated_file",
    "masked_layer",
    "measure_fill",
    "measure_rows",
    "this_table",
    "write_rows",
]

Times: TypeAlias = "dict[str, list[list[float]]]"
"""Algorithm -> [multiply-adds done, ms] at every sparsity."""

SPARSITIES = (0.0, 0.15, 0.3, 0.5)
ALGORITHMS = (
    "direct",
    "active_taps",
    "pointwise",
    "depthwise",
    "depthwise_block",
    "winograd6",
    "winograd4",
    "winograd2",
    "winograd4_s2",
    "winograd2_s2",
)

EVICT_BYTES = 32 << 20
"""So much other memory is read before each run: within a network weights are in no cache."""
_FILLED = ((112, 96), (56, 144), (28, 192))
"""(side, channels) of maps that fill `nearest` is timed on: those of MobileNetV2."""
_RUN_MS = 15.0
MOST_BUSY = 0.3
"""Of a core: what a quiet machine does beside."""


def calibrated_file(isa: str, threads: int) -> Path | None:
    """Where this machine's table is kept, beside measured choices; None if nothing is kept."""
    return machine_file("times-", isa, threads)


def this_table(isa: str, threads: int = 1) -> tuple[TimeTable, str]:
    """The best table for this machine and a line that says where it comes from.

    Raises:
        ActivsparseError: this machine's own is damaged.
    """
    name = str(_native.cpu_info()["name"])
    return choose_table(name, isa, threads, calibrated_file(isa, threads))


def calibrate(
    isa: str,
    threads: int = 1,
    *,
    seconds: float = 150.0,
    force: bool = False,
    advance: Callable[[float], None] = lambda share: None,
) -> Path:
    """Measure this machine's table and keep it.

    Args:
        isa: instruction set of the engine.
        threads: of the engine.
        seconds: how long to measure; the table is the better the longer.
        force: measure on a busy machine too.
        advance: told what share of the time is over.

    Returns:
        The file that `this_table` reads from now on.

    Raises:
        ActivsparseError: the machine is busy, it lacks the instruction set, there is no folder for
            the file.
    """
    path = calibrated_file(isa, threads)
    if path is None:
        raise ActivsparseError(
            f"{CACHE_VARIABLE} is off, so there is no place for the times; set it to a folder"
        )
    if isa not in _native.available_isas():
        raise ActivsparseError(
            f"this machine has no {isa}; it has {', '.join(_native.available_isas())}"
        )
    busy = busy_cores()
    if busy > MOST_BUSY and not force:
        raise ActivsparseError(
            f"the machine is busy ({busy:.1f} cores at work), times would be wrong; try again when "
            "it is quiet, or use ",
            Option("force", True),
        )
    fill_ms = measure_fill(isa, threads)
    rows = measure_rows(default_table().lines, isa, threads, seconds, advance=advance)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ActivsparseError(
            f"{path.parent}: cannot be created ({error.strerror}); set {CACHE_VARIABLE} to another"
        ) from error
    write_rows(rows, path, isa, threads, fill_ms)
    read_table(path)
    return path


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores other programs keep busy; 0 where the system does not tell."""
    before = _processor_seconds()
    time.sleep(seconds)
    after = _processor_seconds()
    if before is None or after is None:
        return 0.0
    (busy, whole), (less, part) = after, before
    share = (busy - less) / (whole - part) if whole > part else 0.0
    return share * int(_native.cpu_info()["cores"])


def measure_rows(
    convs: Iterable[ConvShape],
    isa: str,
    threads: int,
    seconds: float,
    *,
    rounds: int = 100,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[ConvShape, Times]:
    """Time all algorithms on all layers, round by round until the time is over.

    A machine too slow for one round leaves layers out, evenly; the most similar ones stand for
    those.
    """
    order = _spread(list(convs))
    start, table = time.monotonic(), dict[ConvShape, Times]()
    for _ in range(rounds):
        for conv in order:
            over = time.monotonic() - start
            advance(min(over / seconds, 1.0))
            if over > seconds:
                return table
            table[conv] = least(table.get(conv, {}), _measure(conv, isa, threads))
    return table


def measure_fill(isa: str, threads: int) -> float:
    """Ms per value that fill `nearest` copies: the median over maps large enough to tell."""
    found = []
    for side, channels in _FILLED:
        conv = ConvShape((1, 1), (1, 1), 1, 16, channels, (side, side))
        mask = lattice(conv.output, 0.5)
        attributes, arrays, inputs, outputs = _problem(conv, mask, None)
        filled = {**arrays, "source": nearest_source(mask)}
        ms = []
        for of_fill in (arrays, filled):
            spec = _native.Spec("conv", attributes, of_fill, inputs, outputs)
            packed = _native.pack(spec, "pointwise", isa)
            runs = [_native.time_operator(packed, 12, threads, EVICT_BYTES) for _ in range(4)]
            ms.append(min(float(np.quantile(of_run, 0.25)) for of_run in runs))
        found.append((ms[1] - ms[0]) / (np.count_nonzero(~mask) * channels))
    return max(float(np.median(found)), 0.0)


def write_rows(
    rows: dict[ConvShape, Times], path: Path, isa: str, threads: int, fill_ms: float
) -> None:
    """Write what `measure_rows` and `measure_fill` gave as a table of times."""
    head = {
        "machine": str(_native.cpu_info()["name"]),
        "isa": isa,
        "precision": "fp32",
        "threads": threads,
        "date": datetime.date.today().isoformat(),
        "fill_ms": fill_ms,
        "times": "algorithm -> [multiply-adds done, ms] at several sparsities",
    }
    shapes = (
        {name: value for name, value in vars(conv).items() if name != "dilation"} for conv in rows
    )
    lines = ",\n".join(
        json.dumps({**shape, "times": times})
        for shape, times in zip(shapes, rows.values(), strict=True)
    )
    text = json.dumps(head, indent=1)[:-2] + f',\n "layers": [\n{lines}\n]}}\n'
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def least(before: Times, now: Times) -> Times:
    """The points of `now`, with the time of `before` where that is lower."""
    found: Times = {}
    for name, points in now.items():
        known = {point[0]: point[1] for point in before.get(name, [])}
        found[name] = [[done, min(ms, known.get(done, ms))] for done, ms in points]
    return found


def _measure(conv: ConvShape, isa: str, threads: int) -> Times:
    """Time all algorithms that are worth a try on one layer, once."""
    times: Times = {}
    for algorithm in ALGORITHMS:
        if conv.group > 1 and algorithm == "direct":
            continue  # never the best there
        for sparsity in SPARSITIES:
            parts, done = masked_layer(conv, algorithm, sparsity)
            spec = _native.Spec("conv", *parts)
            # Some run under a mask only: `active_taps`.
            if dict(spec.algorithms(isa)).get(algorithm, "unknown"):
                continue
            packed = _native.pack(spec, algorithm, isa)
            first = min(_native.time_operator(packed, 2, threads, EVICT_BYTES))
            repeat = int(np.clip(_RUN_MS / (first + 1), 4, 12))
            # The least would be luck: within a network no weights are found in a cache.
            runs = _native.time_operator(packed, repeat, threads, EVICT_BYTES)
            ms = float(np.quantile(runs, 0.25))
            times.setdefault(algorithm, []).append([round(done), max(round(ms, 5), 1e-5)])
    return times


def masked_layer(conv: ConvShape, algorithm: str, sparsity: float) -> tuple[tuple[Any, ...], float]:
    """The layer under a mask that suits the algorithm, and the multiply-adds that leaves."""
    mask, input_mask = lattice(conv.output, sparsity), None
    done = (1 - sparsity_of(mask)) * conv.macs
    if algorithm.startswith("winograd"):
        run = winograd_run(algorithm)
        mask = tiles(conv.output, sparsity, run=run)
        rows, columns = (int(np.count_nonzero(mask.any(axis=a))) for a in (1, 0))
        done = winograd_macs(conv, rows, columns, run)
    elif algorithm == "active_taps" and sparsity:
        input_mask = lattice(_input_size(conv), sparsity)
        done *= 1 - sparsity_of(input_mask)
    return _problem(conv, mask, input_mask), done


def _problem(
    conv: ConvShape, mask: npt.NDArray[np.bool_], input_mask: npt.NDArray[np.bool_] | None
) -> tuple[Any, ...]:
    """The layer with random weights, a bias and a ReLU: attributes, arrays, inputs, outputs."""

    def desc(size: tuple[int, int], channels: int) -> _native.TensorDesc:
        return _native.TensorDesc(1, *size, channels, -(-channels // 16) * 16, padded=True)

    shape = (conv.out_channels, conv.in_channels // conv.group, *conv.kernel)
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    arrays = {"weight": weight, "bias": np.ones(conv.out_channels, np.float32)}
    if not mask.all():
        arrays["mask"] = mask.astype(np.uint8)
    if input_mask is not None:
        arrays["input_mask"] = input_mask.astype(np.uint8)
    pads = {
        f"pad_{side}": conv.kernel[axis] // 2
        for axis, sides in enumerate((("top", "bottom"), ("left", "right")))
        for side in sides
    }
    attributes = {
        "stride_h": conv.stride[0],
        "stride_w": conv.stride[1],
        "group": conv.group,
        "activation": "relu",
        **pads,
    }
    inputs = [desc(_input_size(conv), conv.in_channels)]
    return attributes, arrays, inputs, [desc(conv.output, conv.out_channels)]


def _input_size(conv: ConvShape) -> tuple[int, int]:
    return conv.output[0] * conv.stride[0], conv.output[1] * conv.stride[1]


def _spread(convs: list[ConvShape]) -> list[ConvShape]:
    """The layers in an order whose every beginning is spread over all of them."""
    bits = max(len(convs) - 1, 1).bit_length()
    order = (int(f"{at:0{bits}b}"[::-1], 2) for at in range(1 << bits))
    return [convs[at] for at in order if at < len(convs)]


def _processor_seconds() -> tuple[float, float] | None:
    """(busy, whole) ticks of all cores since the start, as Linux counts them."""
    try:
        words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
        ticks = [float(word) for word in words]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    except (OSError, ValueError, IndexError):
        return None
