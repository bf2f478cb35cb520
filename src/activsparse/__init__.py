"""Convolutional networks that skip output positions they do not need, on ordinary CPUs.

Importing this package loads neither torch nor onnx: names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    from activsparse._native import ThreadPool
    from activsparse.api import benchmark, export, quantize, sparsify, verify
    from activsparse.engine.session import Session

__all__ = [
    "ActivsparseError",
    "Session",
    "ThreadPool",
    "__version__",
    "benchmark",
    "export",
    "quantize",
    "sparsify",
    "verify",
]
__version__ = "0.1.0"

_HOMES = {
    "Session": "activsparse.engine.session",
    "ThreadPool": "activsparse._native",
    "benchmark": "activsparse.api",
    "quantize": "activsparse.api",
    "sparsify": "activsparse.api",
    "verify": "activsparse.api",
}


def __getattr__(name: str) -> Any:
    if name == "export":  # the package of that name, which can be called
        return import_module("activsparse.export")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
