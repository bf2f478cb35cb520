"""The training half: masks that follow a schedule while a network is trained.

Importing this package loads nothing heavy; torch comes with the first use of a name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activsparse.train.callbacks.masks import SparsifierCallback
    from activsparse.train.run.folder import Run, load_run
    from activsparse.train.sparsify.sparsifier import LayerReport, Sparsifier

__all__ = ["LayerReport", "Run", "Sparsifier", "SparsifierCallback", "load_run"]


_HOMES = {
    "LayerReport": "sparsify.sparsifier",
    "Run": "run.folder",
    "Sparsifier": "sparsify.sparsifier",
    "SparsifierCallback": "callbacks.masks",
    "load_run": "run.folder",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Where modules were before they had rooms: what imported them from there goes on.
__path__.append(str(Path(__file__).parent / "former"))
