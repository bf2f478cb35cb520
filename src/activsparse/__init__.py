"""Convolutional networks that skip output positions they do not need, on ordinary CPUs.

Importing this package loads neither torch nor onnx: names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    from activsparse.engine.session import Session

__all__ = ["ActivsparseError", "Session", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Session":
        from activsparse.engine.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
