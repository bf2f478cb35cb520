"""The options of `Session` and of what compiles as it does, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral

import numpy as np

from activsparse import _native
from activsparse.values import LARGEST, check_count, refuse

__all__ = [
    "AUTO",
    "FALLBACKS",
    "MOST_THREADS",
    "PRECISIONS",
    "WEIGHTS",
    "check_options",
    "checked_shapes",
    "default_threads",
]

AUTO = "auto"
"""`tune` where measurements are taken if their results can be kept."""

FALLBACKS = ("onnxruntime",)
"""Engines that compute what this one does not know."""

WEIGHTS = ("float32", "float16")
"""Types that weights are kept in; arithmetic is in float32."""

PRECISIONS = ("float32", "float16")
"""Types that float networks are computed in."""

MOST_THREADS = 1024
"""As many as an executor starts."""


def check_options(
    *,
    threads: object = None,
    isa: object = None,
    algorithm: object = None,
    tune: object = AUTO,
    winograd: object = True,
    fallback: object = None,
    weights: object = WEIGHTS[0],
    precision: object = PRECISIONS[0],
) -> None:
    """Check what can be checked without a model; the options are those of `Session`.

    Raises:
        ActivsparseError: a value is of the wrong type or outside its range. Whether there is such
            an instruction set or algorithm is for those who know them.
    """
    if threads is not None:
        check_count("threads", threads, MOST_THREADS)
    for name, value, example in (("isa", isa, "avx2"), ("algorithm", algorithm, "direct")):
        if value is not None and not isinstance(value, str):
            refuse(name, value, f"must be a name, such as '{example}'")
    if not isinstance(tune, bool | np.bool_) and not (isinstance(tune, str) and tune == AUTO):
        refuse("tune", tune, f"choose True, False or '{AUTO}'")
    if not isinstance(winograd, bool | np.bool_):
        refuse("winograd", winograd, "choose True or False")
    if not (isinstance(weights, str) and weights in WEIGHTS):
        refuse("weights", weights, f"choose {' or '.join(map(repr, WEIGHTS))}")
    if not (isinstance(precision, str) and precision in PRECISIONS):
        refuse("precision", precision, f"choose {' or '.join(map(repr, PRECISIONS))}")
    if fallback is not None and not (isinstance(fallback, str) and fallback in FALLBACKS):
        refuse("fallback", fallback, f"only {', '.join(map(repr, FALLBACKS))} is known")


def default_threads() -> int:
    """One for each physical core that this process may use and its container pays for."""
    return min(int(_native.cpu_info()["physical_cores"]), MOST_THREADS)


def checked_shapes(input_shapes: object) -> dict[str, tuple[int, ...]]:
    """Return the option `input_shapes`, {} for None.

    Raises:
        ActivsparseError: it does not map names to sizes of at least 1.
    """
    if input_shapes is None:
        return {}
    example = "give a dict such as {'x': (1, 3, 224, 224)}"
    if not isinstance(input_shapes, Mapping):
        refuse("input_shapes", input_shapes, example)
    shapes = {}
    for name, shape in input_shapes.items():
        if not isinstance(name, str):
            refuse("input_shapes", input_shapes, f"{name!r} is no name; {example}")
        if not isinstance(shape, Iterable) or isinstance(shape, str | bytes):
            refuse("input_shapes", input_shapes, f"{shape!r} is no shape; {example}")
        sizes = tuple(shape)
        for size in sizes:
            whole = isinstance(size, Integral) and not isinstance(size, bool)
            if not whole or not 1 <= size <= LARGEST:
                why = f"{size!r} is no size, a whole number of at least 1; {example}"
                refuse("input_shapes", input_shapes, why)
        shapes[name] = tuple(int(size) for size in sizes)
    return shapes
