"""The training half: masks that follow a schedule while a network is trained.

Importing this package loads nothing heavy; torch comes with the first use of a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from activsparse.train.callback import SparsifierCallback
    from activsparse.train.run import Run, load_run
    from activsparse.train.sparsifier import LayerReport, Sparsifier

__all__ = ["LayerReport", "Run", "Sparsifier", "SparsifierCallback", "load_run"]


def __getattr__(name: str) -> Any:
    if name in ("LayerReport", "Sparsifier"):
        from activsparse.train import sparsifier

        return getattr(sparsifier, name)
    if name in ("Run", "load_run"):
        from activsparse.train import run

        return getattr(run, name)
    if name == "SparsifierCallback":
        from activsparse.train.callback import SparsifierCallback

        return SparsifierCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
