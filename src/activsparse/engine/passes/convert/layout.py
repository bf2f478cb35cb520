"""Operators that only rename the axes of their input."""

from __future__ import annotations

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.source import Source

__all__ = ["reshape"]


def reshape(source: Source) -> list[Node]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of elements stays."""
    source.output_shape  # noqa: B018  (raises where the shape is open)
    return [source.engine_node("reshape")]
