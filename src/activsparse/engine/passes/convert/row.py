"""Operators on signals (N, C, L), which are images of one row: (N, C, 1, L)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["OF_A_ROW", "row_or_image"]

OF_A_ROW = " of a row"
"""What the name of a constant ends with that was made one of an image."""

Converter = Callable[[Source], list[Node]]

# Attributes that hold a number for the axis, and what the height's is.
_OF_AXIS = {"dilations": 1, "kernel_shape": 1, "output_padding": 0, "output_shape": 1, "strides": 1}


def row_or_image(convert: Converter) -> Converter:
    """The converter of an operator on images, for signals too."""

    def converted(source: Source) -> list[Node]:
        return _as_image(source, convert) if len(source.shape()) == 3 else convert(source)

    return converted


def _as_image(source: Source, convert: Converter) -> list[Node]:
    (n, c, length), out = source.shape(), source.output_shape
    chain = Chain(source)
    image = chain.reshape(source.activation(), (n, c, 1, length))
    result = source.intermediate("row", (*out[:2], 1, *out[2:]))
    inputs = [image, *(_constant(source, i) for i in range(1, len(source.node.inputs)))]
    node = replace(
        source.node, inputs=tuple(inputs), outputs=(result,), attributes=_attributes(source)
    )
    inner = Source(source.graph, node)
    nodes = convert(inner)
    chain.nodes += [*inner.values, *nodes]
    return chain.done(chain.reshape(result, out))


def _attributes(source: Source) -> dict[str, Any]:
    found = dict(source.node.attributes)
    for name, value in found.items():
        if name in _OF_AXIS and len(value) == 1:
            found[name] = (_OF_AXIS[name], *value)
        elif name == "pads" and len(value) == 2:
            found[name] = (0, value[0], 0, value[1])
        elif name == "scales" and len(value) == 3:  # of Upsample
            found[name] = (*value[:2], 1.0, value[2])
        elif name == "axes":  # of Resize
            found[name] = tuple(3 if axis % 3 == 2 else axis % 3 for axis in value)
    return found


def _constant(source: Source, index: int) -> str:
    """An input beside the image: of weights, factors or sizes, with those of a height of 1."""
    name, given = source.node.inputs[index], source.node.attributes
    value = source.graph.constants.get(name)
    if value is None:
        return name
    if value.ndim == 3:  # a kernel
        value = value[:, :, None]
    elif source.node.op in ("Resize", "Upsample") and value.shape == (3,) and "axes" not in given:
        value = np.array([*value[:2], 1, value[2]], value.dtype)
    else:
        return name
    wide = f"{name}{OF_A_ROW}"
    source.graph.constants[wide] = value
    return wide
