"""Which operators compute in float16 (`precision="float16"`), and where values change their type.

An operator reads and writes values of one type. Each runs in the type that makes the network
fastest by estimate: float16 does twice as many multiply-adds in an instruction and moves half the
bytes, Winograd's algorithms, of which there are none in float16, do fewer, and a value that is
wanted in both types has to be converted. What has no form in float16 stays in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from activsparse import _native
from activsparse.engine.choose import Request, able
from activsparse.engine.graph import Array, Graph, Node, Nodes
from activsparse.engine.memory import ALIGNMENT
from activsparse.errors import ActivsparseError, Option

__all__ = ["check_precision", "compute_in_half"]

_MOVES = ("gather_positions", "resize_nearest", "resize_positions")
_MAPS = ("activate", "add", "mul")
_POOLS = ("average_pool", "global_average_pool", "max_pool")
_HALF = ("conv", "gemm", "concat", *_MAPS, *_POOLS, *_MOVES)

# Times in the unit of `_native.estimates`, a multiply-add of float32: of an element that is read or
# written, by its type, and of one that is converted, which is both. Not fitted on any machine: what
# moves data is taken to be as long as its bytes.
_TOUCHED = {False: 4.0, True: 2.0}
_CONVERTED = _TOUCHED[False] + _TOUCHED[True]

# The largest weight of an output, so that none that matters is denormal, and the largest at all.
_LEAST, _LARGEST = 2.0**-12, float(np.finfo(np.float16).max)

# As many passes over the network as it may take to find what no change makes faster.
_MOST_PASSES = 20


def check_precision(isa: str, precision: str) -> None:
    """Refuse float16 arithmetic where there is none.

    Raises:
        ActivsparseError: the instruction set has no kernels on float16, or this processor, which is
            to run them, no instructions for them.
    """
    if precision == "float32" or _native.computes_halves(isa):
        return
    here = isa in _native.available_isas()
    lacking = (
        f"this processor does not compute in float16 (on 64-bit ARM those from ARMv8.2 on do that "
        f"say fphp and asimdhp in /proc/cpuinfo), '{isa}'"
        if isa == "neon" and here
        else f"the engine has no float16 arithmetic for '{isa}'"
    )
    raise ActivsparseError(
        Option("precision", precision),
        f": {lacking}; leave it out, compile for a processor that has it with ",
        Option("target", "aarch64"),
        ", or keep weights alone in half the memory with ",
        Option("weights", "float16"),
    )


def compute_in_half(graph: Graph, isa: str, winograd: bool = True) -> Graph:
    """Let float16 compute what it is estimated to be faster at.

    Of an optimised graph. `Graph.halves` names the values of float16 then; nodes that stay in
    float32 have the attribute `in_float`, which says why.

    Args:
        graph: is left as it is.
        isa: instruction set.
        winograd: whether Winograd's algorithms are allowed.
    """
    network = _Network(graph, isa, winograd)
    halves = network.fastest()
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.output in halves or node.op not in _HALF or _is_free(graph, node):
            continue
        why = network.obstacles.get(node.output, "faster by estimate, with its neighbours")
        graph.nodes.replace(node, node.with_attributes(in_float=f"in float32: {why}"))
    graph.halves = set(halves)
    return _with_conversions(graph)


class _Network:
    """What each operator takes in either type, by the name of its result."""

    def __init__(self, graph: Graph, isa: str, winograd: bool) -> None:
        self.graph, self.isa, self.winograd = graph, isa, winograd
        self.costs: dict[str, tuple[float, float]] = {}  # in float32, in float16
        self.obstacles: dict[str, str] = {}
        for node in graph.nodes:
            why = self._obstacle(node)
            if why:
                self.obstacles[node.output] = why
            else:
                self.costs[node.output] = self._cost(node, False), self._cost(node, True)

    def fastest(self) -> set[str]:
        """Results of the operators that should compute in float16."""
        single = {name for name, (single, half) in self.costs.items() if half < single}
        found = [self._improved(start) for start in (set(self.costs), single, set())]
        return min(found, key=self._total)

    def _improved(self, halves: set[str]) -> set[str]:
        """From there on by changes of one operator, or of neighbours of one type together."""
        halves = set(halves)
        total = self._total(halves)
        for _ in range(_MOST_PASSES):
            before = total
            for changed in (*({name} for name in self.costs), *self._regions(halves)):
                tried = halves ^ changed
                cost = self._change(halves, changed)
                if cost < 0:
                    halves, total = tried, total + cost
            if total >= before:
                break
        return halves

    def _regions(self, halves: set[str]) -> list[set[str]]:
        """Operators of one type that read each other's results, of those that can change it."""
        region: dict[str, set[str]] = {}
        for node in self.graph.nodes:
            if node.output not in self.costs:
                continue
            mine = {node.output}
            for name in node.inputs:
                if name in region and (name in halves) == (node.output in halves):
                    mine |= region[name]
            for name in mine:
                region[name] = mine
        return list({id(one): one for one in region.values()}.values())

    def _total(self, halves: set[str]) -> float:
        values = {name for node in self.graph.nodes for name in (*node.inputs, *node.outputs)}
        own = sum(costs[name in halves] for name, costs in self.costs.items())
        return own + self._conversions(values, halves)

    def _change(self, halves: set[str], changed: set[str]) -> float:
        tried = halves ^ changed
        own = sum(
            self.costs[name][name in tried] - self.costs[name][name in halves] for name in changed
        )
        values = set(changed)
        for name in changed:
            node = self.graph.producer(name)
            values.update(node.inputs if node is not None else ())
        return own + self._conversions(values, tried) - self._conversions(values, halves)

    def _conversions(self, values: Iterable[str], halves: set[str]) -> float:
        graph = self.graph
        return sum(
            _CONVERTED * float(np.prod(graph.shapes.get(name, ())))
            for name in values
            if any((reader.output in halves) != (name in halves) for reader in graph.readers(name))
            or (name in halves and name in graph.outputs)
        )

    def _descs(
        self, node: Node, half: bool
    ) -> tuple[list[_native.TensorDesc], list[_native.TensorDesc]]:
        dtype = "float16" if half else "float32"
        descs = [_desc(self.graph.shape(name), dtype) for name in (*node.inputs, node.output)]
        return descs[:-1], descs[-1:]

    def _request(self, node: Node, half: bool) -> Request:
        return Request(node, *self._descs(node, half))

    def _obstacle(self, node: Node) -> str:
        """Why an operator cannot compute in float16; '' where it can."""
        graph = self.graph
        values = (*node.inputs, node.output)
        if any(name in graph.scales for name in values):
            return "it computes on bytes"
        if _is_free(graph, node):
            return ""
        if node.op not in _HALF or "in_float" in node.attributes:
            return "there is no such operator in float16"
        if any(len(graph.shape(name)) not in (2, 4) for name in values):
            return "its values are no images"
        if node.op == "conv" and node.inputs[0] in graph.inputs:
            return "it reads the input as it comes"
        if "weight" in node.arrays and not _holds(node.arrays["weight"]):
            return "its weights leave float16's range"
        try:
            able(self._request(node, True), self.isa)
        except ActivsparseError as error:
            return str(error)
        return ""

    def _cost(self, node: Node, half: bool) -> float:
        if _is_free(self.graph, node):
            return 0.0
        elements = sum(float(np.prod(self.graph.shape(v))) for v in (*node.inputs, node.output))
        moved = _TOUCHED[half] * elements
        if node.op == "gemm":
            # Each weight is fetched for few rows.
            return moved + _TOUCHED[half] * node.arrays["weight"].size
        if node.op != "conv":
            return moved
        spec = self._request(node, half).spec()
        taken = _native.choose(spec, self.isa, self.winograd)
        return max(_native.estimates(spec, self.isa, [taken])[0], moved)


def _is_free(graph: Graph, node: Node) -> bool:
    """Whether it is another description of the same memory, and so of either type."""
    if node.op == "flatten":
        return True
    before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
    return (
        node.op == "reshape"
        and {len(before), len(after)} == {2, 4}
        and before[:2] == after[:2]
        and before[2:] in ((), (1, 1))
        and after[2:] in ((), (1, 1))
    )


def _holds(weight: Array) -> bool:
    """Whether float16 has the weights of every output, to its relative precision."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    return bool(((largest == 0) | ((largest >= _LEAST) & (largest <= _LARGEST))).all())


def _desc(shape: tuple[int, ...], dtype: str) -> _native.TensorDesc:
    n, c, h, w = shape if len(shape) == 4 else (*shape, 1, 1)
    stride = -(-c // ALIGNMENT) * ALIGNMENT
    return _native.TensorDesc(n, h, w, c, stride, padded=True, dtype=dtype)


def _with_conversions(graph: Graph) -> Graph:
    """Convert values where others read them in another type than they are computed in."""
    nodes: list[Node] = []
    converted: dict[str, str] = {}

    def wanted(name: str, half: bool) -> str:
        if (name in graph.halves) == half:
            return name
        if name not in converted:
            to = "float16" if half else "float32"
            converted[name] = f"{name}.{to}"
            graph.shapes[converted[name]] = graph.shape(name)
            if half:
                graph.halves.add(converted[name])
            nodes.append(Node(f"to_{to}", f"{name} in {to}", (name,), (converted[name],)))
        return converted[name]

    for node in list(graph.nodes):
        half = node.output in graph.halves
        inputs = tuple(wanted(name, half) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs) if inputs != node.inputs else node)
    graph.outputs = [wanted(name, False) for name in graph.outputs]
    graph.nodes = Nodes(nodes)
    return graph
