"""The compiler's small intermediate form: a list of nodes in execution order, with static shapes.

Nodes whose `op` starts with a capital are ONNX operators as loaded; lower-case ones are operators
of the engine (docs/operators.md). The passes turn the former into the latter. All shapes are in
ONNX's order, (N, C, H, W) or (N, F); the layout in memory is decided when the graph is lowered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.nodes import Nodes
from activsparse.errors import ActivsparseError, Option, Words

__all__ = ["INSTEAD", "Array", "Graph", "Node", "NodeError", "Nodes", "Scale", "Shape"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

INSTEAD = (", or let ONNX Runtime run it with ", Option("fallback", "onnxruntime"))
"""How an error goes on that another engine can do without."""


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        op: the ONNX operator type, or the engine's operator kind in lower case.
        name: the name users know the node by; kept by the node that absorbs others.
        inputs: value names; '' marks an absent optional input. Engine nodes list activations only.
        outputs: value names.
        attributes: of the ONNX node, or those of docs/operators.md.
        arrays: an engine node's constants, by the names of docs/operators.md.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """The only output of an engine node."""
        return self.outputs[0]

    @property
    def title(self) -> str:
        """How error messages and reports call the node."""
        return f"node '{self.name}' ({self.op})"

    def with_attributes(self, **attributes: Any) -> Node:
        """Return a copy with these attributes added or replaced."""
        return replace(self, attributes={**self.attributes, **attributes})

    def with_arrays(self, **arrays: Array) -> Node:
        """Return a copy with these arrays added or replaced."""
        return replace(self, arrays={**self.arrays, **arrays})


class NodeError(ActivsparseError):
    """What is wrong with one node.

    Attributes:
        node: of ONNX or of the engine, as far as the compiler had come.
    """

    def __init__(self, node: Node, *parts: Words) -> None:
        super().__init__(*parts)
        self.node = node


@dataclass(frozen=True)
class Scale:
    """What uint8 values stand for: (q - zero) * scale.

    Attributes:
        scale: a float32 number.
        zero: the zero point, 0 to 255.
    """

    scale: float
    zero: int

    def values(self, q: Array) -> Array:
        """Return the float32 values of bytes."""
        return np.asarray((q - np.int64(self.zero)).astype(np.float32) * np.float32(self.scale))

    def bytes_of(self, values: Array) -> Array:
        """Return float32 values as bytes, rounded half to even and saturated."""
        steps = np.rint(np.asarray(values, np.float32) / np.float32(self.scale))
        return np.asarray(np.clip(steps + self.zero, 0, 255).astype(np.uint8))


@dataclass
class Graph:
    """A network: nodes in execution order and what is known about their values.

    Attributes:
        name: the file the graph came from, for messages.
        nodes: in execution order.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        shapes: static shape of every value known so far.
        constants: values known at compile time.
        opset: version of the default ONNX operator set.
        domains: versions of other operator sets, by domain; their operators are `TYPE@DOMAIN` here.
        requested: sparsity asked for when the masks were made, by convolution, where the file
            notes it.
        dtypes: of values known only at run time that are not float32.
        border: types of inputs and outputs that the graph computes in float32 all the same.
        scales: values that are uint8 when the engine runs, and what they stand for.
        halves: values that are float16 then.
    """

    name: str
    nodes: Nodes
    inputs: list[str]
    outputs: list[str]
    shapes: dict[str, Shape]
    constants: dict[str, Array]
    opset: int
    requested: dict[str, float] = field(default_factory=dict)
    dtypes: dict[str, np.dtype[Any]] = field(default_factory=dict)
    border: dict[str, np.dtype[Any]] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    halves: set[str] = field(default_factory=set)

    def copy(self) -> Graph:
        """Return a graph that can be changed without changing this one; arrays are shared."""
        return replace(
            self,
            nodes=Nodes(self.nodes),
            inputs=list(self.inputs),
            outputs=list(self.outputs),
            shapes=dict(self.shapes),
            constants=dict(self.constants),
            dtypes=dict(self.dtypes),
            scales=dict(self.scales),
            halves=set(self.halves),
        )

    def shape(self, value: str) -> Shape:
        """Return the static shape of `value`.

        Raises:
            ActivsparseError: the shape could not be inferred.
        """
        if value not in self.shapes:
            raise ActivsparseError(
                f"{self.name}: the shape of value '{value}' is unknown; "
                "export the model with fixed shapes or give ",
                Option("input_shapes"),
                "; what depends on the values of an input, ONNX Runtime runs with ",
                Option("fallback", "onnxruntime"),
            )
        return self.shapes[value]

    def producer(self, value: str) -> Node | None:
        """Return the node that writes `value`, or None for inputs and constants."""
        return self.nodes.producer(value)

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read `value`, in the order of execution."""
        return self.nodes.readers(value)

    def uses(self, value: str) -> int:
        """Count how often nodes and graph outputs read `value`."""
        return self.nodes.reads(value) + self.outputs.count(value)

    def only_consumer(self, value: str) -> Node | None:
        """Return the node that is the only reader of `value`; None if there are more or none."""
        if self.uses(value) != 1:
            return None
        return next(iter(self.nodes.readers(value)), None)
