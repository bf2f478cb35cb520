"""What the converters read of an ONNX node, with errors that name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from activsparse.engine.graph import INSTEAD, Array, Graph, Node, NodeError, Shape

__all__ = ["EXACT", "Source"]

EXACT = 1 << 24
"""Up to here float32 holds every whole number."""


@dataclass(frozen=True)
class Source:
    """One ONNX node in its graph.

    Attributes:
        graph: all of it.
        node: the node.
        values: nodes that give constants which are read as values, to run before the node.
    """

    graph: Graph
    node: Node
    values: list[Node] = field(default_factory=list)

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value or the default."""
        return self.node.attributes.get(name, default)

    def has(self, index: int) -> bool:
        """Whether the optional input is present."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def is_constant(self, index: int) -> bool:
        """Whether the input is known at compile time."""
        return self.has(index) and self.node.inputs[index] in self.graph.constants

    def constant(self, index: int, what: str) -> Array:
        """Return an input's value; an error where it is known only at run time."""
        if not self.is_constant(index):
            self.fail(f"its {what} is not a constant", "make it an initializer")
        return self.graph.constants[self.node.inputs[index]]

    def weights(self, index: int, what: str) -> Array:
        """Return a float32 constant that has elements, none of them NaN or infinite."""
        array = self.constant(index, what)
        if not array.size:
            self.wrong(f"its {what} of shape {array.shape} holds nothing", "export the model again")
        if array.dtype != np.float32:
            self.fail(f"its {what} is {array.dtype}", "export the model in float32")
        if not np.isfinite(array).all():
            self.wrong(f"its {what} holds NaN or infinite values", "check the training run")
        return array

    def setting(self, name: str, index: int, default: Any = None) -> Any:
        """Return what old opsets keep in an attribute and new ones in a constant input."""
        if self.has(index):
            return self.constant(index, name)
        value = self.attribute(name, default)
        return None if value is None else np.asarray(value)

    def activation(self, index: int = 0) -> str:
        """Return the name of an input as a value; a constant is made one."""
        name = self.node.inputs[index]
        if name not in self.graph.constants:
            return name
        array = self.graph.constants[name]
        whole = array.dtype.kind in "iub" and (np.abs(array.astype(np.float64)) <= EXACT).all()
        if not (array.size and (whole or array.dtype == np.float32)):
            self.fail(
                f"its input {index} is a constant of type {array.dtype} and shape {array.shape}",
                "export the model in float32",
            )
        value = self.intermediate(f"constant{index}", tuple(array.shape))
        arrays = {"value": np.asarray(array, np.float32, order="C")}
        self.values.append(Node("constant", self.node.name, (), (value,), arrays=arrays))
        return value

    def shape(self, index: int = 0) -> Shape:
        """Return the static shape of an input."""
        return self.graph.shape(self.node.inputs[index])

    def image_shape(self, index: int = 0) -> tuple[int, int, int, int]:
        """Return (N, C, H, W) of an input; an error for other ranks."""
        shape = self.shape(index)
        if len(shape) != 4:
            self.fail(f"its input has shape {shape}", "only (N, C, H, W) is supported here")
        n, c, h, w = shape
        return n, c, h, w

    @property
    def output_shape(self) -> Shape:
        """Static shape of the first output."""
        return self.graph.shape(self.node.outputs[0])

    def engine_node(
        self,
        op: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        inputs: tuple[str, ...] | None = None,
        arrays: Mapping[str, Array] | None = None,
        name: str | None = None,
    ) -> Node:
        """Return an engine node that writes this node's first output; its integers have 32 bits."""
        for key, value in (attributes or {}).items():
            if isinstance(value, int) and not -(2**31) <= value < 2**31:
                self.fail(f"its {key} is {value}", "it may not be beyond 32 bits")
        return Node(
            op,
            name or self.node.name,
            inputs if inputs is not None else (self.activation(),),
            self.node.outputs[:1],
            attributes or {},
            arrays or {},
        )

    def intermediate(self, suffix: str, shape: Shape) -> str:
        """Return the name of a new value between two nodes this one is converted to."""
        name = f"{self.node.outputs[0]}.{suffix}"
        self.graph.shapes[name] = shape
        return name

    def fail(self, cause: str, remedy: str) -> NoReturn:
        """Raise an error about what this engine does not do, and another one may."""
        text = f"{self.graph.name}: {self.node.title}: {cause}; {remedy}"
        raise NodeError(self.node, text, *INSTEAD)

    def wrong(self, cause: str, remedy: str) -> NoReturn:
        """Raise an error about what no engine makes sense of."""
        raise NodeError(self.node, f"{self.graph.name}: {self.node.title}: {cause}; {remedy}")
