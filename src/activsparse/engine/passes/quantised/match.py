"""Float operators between `DequantizeLinear` and `QuantizeLinear` become operators on bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Scale
from activsparse.engine.passes.clean import clean
from activsparse.engine.passes.convert import convert_node
from activsparse.engine.passes.evaluate import evaluate
from activsparse.engine.passes.infer import constants_of
from activsparse.engine.passes.quantised.chain import Chain, chain_before, limits_of, mask_of
from activsparse.engine.passes.quantised.functions import function_of_one, table_of
from activsparse.engine.passes.quantised.moves import MOVING, Move, move_of, slices_of
from activsparse.engine.passes.quantised.pairs import (
    DEQUANTISE,
    QUANTISE,
    Weight,
    check_constant,
    scale_of,
    weight_of,
)

__all__ = ["match_quantised"]

# Operators that move elements and change none.
_MOVES = ("Flatten", "Gather", "Reshape", "Squeeze", "Unsqueeze")

# The scale of a bias is the product of two others, rounded by whoever wrote it.
_SAME_SCALE = 1e-6


def match_quantised(graph: Graph) -> Graph:
    """Make operators on bytes of what stands between quantised values.

    Of a graph with ONNX nodes and shapes. Constants are dequantised; nodes that read or write bytes
    and are not matched stay as they are, for `settle_quantised`.
    """
    graph = graph.copy()
    if not any(node.op in (QUANTISE, DEQUANTISE) for node in graph.nodes):
        return graph
    match = _Matcher(graph)
    match.dequantise_inputs()
    match.dequantise_constants()
    match.cut_splits()
    match.move_on_bytes()
    match.graph = graph = clean(graph)
    for node in list(graph.nodes):
        if node.op == QUANTISE and node in graph.nodes:
            match.quantise(node)
    for node in list(graph.nodes):
        if node.op in ("Conv", "Gemm", "MatMul"):
            match.to_float(node)
    return clean(graph)


class _Matcher:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.weights: dict[str, Weight] = {}
        self.moved: set[str] = set()
        self.rules: dict[str, Callable[[Node, Node, list[Node], Scale], list[Node] | None]] = {
            "Add": self._add,
            "AveragePool": self._pool,
            "Concat": self._concat,
            "Conv": self._product,
            "Gemm": self._product,
            "GlobalAveragePool": self._pool,
            "GlobalMaxPool": self._pool,
            "MatMul": self._product,
            "MaxPool": self._pool,
            "Mul": self._mul,
            "ReduceMean": self._pool,
            "Resize": self._resize,
            "Upsample": self._resize,
        }

    # Preparations ---------------------------------------------------------------------------------

    def dequantise_inputs(self) -> None:
        """Bytes that the graph is given come as whole float32 numbers."""
        graph = self.graph
        for node in list(graph.nodes):
            scale = scale_of(graph, node) if node.op == DEQUANTISE else None
            if scale is None or node.inputs[0] not in graph.inputs:
                continue
            y = node.outputs[0]
            zero = graph.constants[node.inputs[2]] if len(node.inputs) > 2 else np.zeros(())
            steps, names = f"{y}.steps", (f"{y}.zero", f"{y}.scale")
            graph.shapes[steps] = graph.shape(y)
            values = (np.float32(zero.reshape(())), np.float32(scale.scale))
            for name, value in zip(names, values, strict=True):
                graph.constants[name], graph.shapes[name] = np.asarray(value), ()
            graph.dtypes.pop(node.inputs[0], None)
            minus = Node("Sub", node.name, (node.inputs[0], names[0]), (steps,))
            times = Node("Mul", node.name, (steps, names[1]), node.outputs)
            graph.nodes.replace(node, minus, times)

    def dequantise_constants(self) -> None:
        """And what is computed of them alone: weights may be transposed, or quantised once more."""
        graph = self.graph
        for node in list(graph.nodes):
            if not node.op[0].isupper() or any(n not in graph.constants for n in node.inputs if n):
                continue
            if node.op == DEQUANTISE:
                check_constant(graph, node)
                weight = weight_of(graph, node)
                if weight is not None:
                    self.weights[node.outputs[0]] = weight
                values: dict[str, Array] | None = evaluate(graph, node)
            else:
                values = constants_of(graph, node)
            if values is not None:
                graph.constants |= values
                graph.shapes |= {name: value.shape for name, value in values.items()}
                graph.nodes.replace(node)

    def cut_splits(self) -> None:
        """Let each result of a split have operators of its own."""
        for node in list(self.graph.nodes):
            if node.op == "Split" and self.source(node.inputs[0]) is not None:
                self.graph.nodes.replace(node, *slices_of(self.graph, node))

    def move_on_bytes(self) -> None:
        """Reshapes and the like of a value whose scale they keep move its bytes.

        What follows on bytes that were moved does so whether or not its result is quantised again:
        a fill `nearest` is three of them, and an activation may stand behind it. So do masks and
        fills, whoever reads them.
        """
        for move in list(self.graph.nodes):
            if move.op in ("Mul", "gather_positions"):
                self._overwrite(move)
                continue
            if move.op in MOVING and self._pick(move):
                continue
            source = self.source(move.inputs[0]) if move.op in _MOVES else None
            if source is None:
                continue
            q = self.graph.only_consumer(move.outputs[0])
            if q is not None and q.op == QUANTISE and source[1] == scale_of(self.graph, q):
                self._move(move, source, q.outputs[0])
                self.graph.nodes.replace(q)
            elif source[0] in self.moved:
                y = f"{move.outputs[0]}.bytes"
                moved = self._move(move, source, y)
                self.graph.nodes.replace(moved, moved, self._behind(move.inputs[0], y, move))

    def _overwrite(self, move: Node) -> None:
        """Mask or fill bytes rather than what they stand for, where the factors are ones."""
        positions = move.arrays.get("source")
        if positions is None:
            positions = mask_of(self.graph, move, tolerance=0.0)
        value = next((name for name in move.inputs if name not in self.graph.constants), "")
        source = self.source(value)
        if source is not None and positions is not None:
            self._gather(move, value, source, Move(0, positions, 0.0))

    def _pick(self, move: Node) -> bool:
        """Move bytes of an image, or a part of it, where the result is quantised again."""
        graph, source = self.graph, self.source(move.inputs[0])
        reader: Node | None = move
        while reader is not None and reader.op in (*MOVING, "Clip", "Relu"):
            reader = graph.only_consumer(reader.outputs[0])
        if source is None or reader is None or reader.op != QUANTISE:
            return False
        found = move_of(graph, move)
        if found is not None:
            self._gather(move, move.inputs[0], source, found)
        return found is not None

    def _gather(self, move: Node, value: str, source: tuple[str, Scale], what: Move) -> None:
        """Put what moves bytes in the place of what moves the `value` they stand for."""
        graph, (x, scale) = self.graph, source
        q = graph.only_consumer(move.outputs[0])
        same = q is not None and q.op == QUANTISE and scale_of(graph, q) == scale
        y = q.outputs[0] if same and q is not None else f"{move.outputs[0]}.bytes"
        self._know(x, scale)
        self._know(y, scale)
        graph.shapes[y] = graph.shape(move.outputs[0])
        attributes = {"zero": int(scale.bytes_of(np.float32(what.fill)))}
        if what.first or graph.shape(x)[1] != graph.shape(y)[1]:
            attributes["first"] = what.first
        arrays = {} if what.source is None else {"source": np.ascontiguousarray(what.source)}
        gather = Node("gather_u8", move.name, (x,), (y,), attributes, arrays)
        if same and q is not None:
            graph.nodes.replace(q)
            graph.nodes.replace(move, gather)
        else:
            graph.nodes.replace(move, gather, self._behind(value, y, move))

    def _behind(self, value: str, y: str, move: Node) -> Node:
        """What dequantises bytes that were moved before they were dequantised as `value`."""
        graph = self.graph
        (before,) = (node for node in graph.nodes if value in node.outputs)
        graph.shapes[y] = graph.shape(move.outputs[0])
        if before.inputs[0] in graph.dtypes:
            graph.dtypes[y] = graph.dtypes[before.inputs[0]]
        return replace(before, inputs=(y, *before.inputs[1:]), outputs=move.outputs)

    def _move(self, move: Node, source: tuple[str, Scale], y: str) -> Node:
        moved = replace(move, inputs=(source[0], *move.inputs[1:]), outputs=(y,))
        self.moved.add(y)
        self._know(y, source[1])
        self._know(*source)
        self.graph.nodes.replace(move, moved)
        return moved

    # What values are ------------------------------------------------------------------------------

    def source(self, value: str) -> tuple[str, Scale] | None:
        """The bytes that a float value is made of."""
        node = self.graph.producer(value)
        scale = scale_of(self.graph, node) if node and node.op == DEQUANTISE else None
        return None if node is None or scale is None else (node.inputs[0], scale)

    def _know(self, value: str, scale: Scale) -> None:
        self.graph.scales[value] = scale

    def _operands(self, node: Node) -> list[tuple[str, Scale]] | None:
        found = [self.source(name) for name in node.inputs if name not in self.graph.constants]
        return None if None in found else [operand for operand in found if operand is not None]

    # Matching -------------------------------------------------------------------------------------

    def quantise(self, quantise: Node) -> None:
        """Replace a `QuantizeLinear` by an operator on bytes, with all it is the only reader of."""
        graph, scale, q = self.graph, scale_of(self.graph, quantise), quantise
        if scale is None:
            return
        chain = chain_before(graph, q.inputs[0])
        if chain.node is None:
            return
        result, moved = q.outputs[0], f"{q.outputs[0]}.unmoved"
        if chain.moves:
            q = replace(q, outputs=(moved,))
            graph.shapes[moved] = graph.shape(result)
        new: list[Node] = []
        gone: list[Node] = []
        source = self.source(chain.value)
        if chain.moves and not chain.clips and source is not None and source[1] == scale:
            moved = source[0]
        else:
            new, gone = self._computed(chain, q, scale)
            if not new:
                return
        for i, (name, positions) in enumerate(chain.moves, 1):
            self._know(moved, scale)
            x, moved = moved, result if i == len(chain.moves) else f"{result}.moved{i}"
            graph.shapes[moved] = graph.shape(result)
            new.append(_gathered(name, x, moved, scale, positions))
        self._know(result, scale)
        graph.nodes.replace(quantise, *new)
        for node in (*chain.nodes, *gone):
            graph.nodes.replace(node)

    def _computed(self, chain: Chain, q: Node, scale: Scale) -> tuple[list[Node], list[Node]]:
        """What computes a chain's operator and clips on bytes, and what that replaces beside it.

        Nothing where there is no such operator.
        """
        graph, node, clips = self.graph, chain.node, chain.clips
        new: list[Node] | None = None
        if node is None:
            return [], []
        if node.op == DEQUANTISE:
            return self._lookup(clips, q, scale, chain.value) or [], []
        if node.op in self.rules and self._only(node):
            new = self.rules[node.op](node, q, clips, scale)
        if new is None and self._only(node) and len(node.outputs) == 1:
            operands = self._operands(node)
            if operands and len(operands) == 1:
                value = next(n for n in node.inputs if n not in graph.constants)
                new = self._lookup([node, *clips], q, scale, value)
        if new is not None:
            return new, [node]
        value, functions = function_of_one(graph, chain.value)
        if functions:
            new = self._lookup([*functions, *clips], q, scale, value)
        return new or [], functions

    def _only(self, node: Node) -> bool:
        return self.graph.uses(node.outputs[0]) == 1

    def to_float(self, node: Node) -> None:
        """A product of bytes whose result is needed in float32."""
        new = self._product(node, None, [], None)
        if new is not None:
            self.graph.nodes.replace(node, *new)

    def _bounds(self, clips: list[Node], scale: Scale) -> tuple[float, float] | None:
        """What clips leave of a result, in steps from its zero point."""
        lo, hi = -np.inf, np.inf
        for clip in clips:
            limits = limits_of(self.graph, clip)
            if limits is None:
                return None
            low, high = limits
            lo, hi = (min(max(v, low), high) for v in (lo, hi))
        least, most = -scale.zero, 255 - scale.zero
        step = np.float32(scale.scale)
        lo, hi = (np.rint(np.clip(np.float32(v) / step, least, most)) for v in (lo, hi))
        return float(lo), float(hi)

    def _product(
        self, node: Node, q: Node | None, clips: list[Node], scale: Scale | None
    ) -> list[Node] | None:
        graph = self.graph
        source = self.source(node.inputs[0])
        raw = self.weights.get(node.inputs[1])
        if source is None or raw is None or raw.values.dtype != np.int8:
            return None
        converted = convert_node(graph, node)
        if converted is None or len(converted) != 1 or converted[0].op not in ("conv", "gemm"):
            return None
        made = converted[0]
        values = raw.values
        if made.op == "gemm":
            if node.op == "MatMul" or not node.attributes.get("transB", 0):
                if raw.scale.size > 1:
                    return None
                values = values.T
            if node.attributes.get("alpha", 1.0) != 1.0:
                return None
            values = values[:, :, None, None]
        x, at = source
        scales = np.float32(at.scale) * np.broadcast_to(raw.scale, len(values))
        attributes = {**made.attributes, "input_zero": at.zero}
        arrays: dict[str, Array] = {"weight": np.ascontiguousarray(values)}
        if "bias" in made.arrays:
            found = self._bias(node, made.arrays["bias"], scales)
            if found is None:
                return None
            arrays |= found
        if not _in_32_bits(arrays["weight"], arrays.get("bias")):
            return None
        self._know(*source)
        if q is None or scale is None:
            arrays["scale"] = scales.astype(np.float32)
            return [Node("conv_u8", made.name, (x,), node.outputs[:1], attributes, arrays)]
        bounds = self._bounds(clips, scale)
        if bounds is None:
            return None
        arrays["scale"] = (scales / np.float32(scale.scale)).astype(np.float32)
        if "shift" in arrays:
            arrays["shift"] = arrays["shift"] / np.float32(scale.scale)
        attributes |= {"zero": scale.zero, "lo": bounds[0], "hi": bounds[1]}
        return [Node("conv_u8", made.name, (x,), q.outputs, attributes, arrays)]

    def _bias(self, node: Node, bias: Array, scales: Array) -> dict[str, Array] | None:
        """A bias in whole products, and what of a float32 one is left beside them."""
        raw = self.weights.get(node.inputs[2])
        if raw is not None and raw.values.dtype == np.int32 and raw.values.shape == bias.shape:
            same = np.abs(raw.scale / scales - 1).max() < _SAME_SCALE
            if same and node.attributes.get("beta", 1.0) == 1.0:
                return {"bias": raw.values}
        steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
        if np.abs(steps).max(initial=0) > 2**30:
            return None
        rest = bias - steps * scales.astype(np.float64)
        return {"bias": steps.astype(np.int32), "shift": rest.astype(np.float32)}

    def _add(self, node: Node, q: Node, clips: list[Node], scale: Scale) -> list[Node] | None:
        operands, bounds = self._operands(node), self._bounds(clips, scale)
        if not operands or len(operands) != 2 or bounds is None:
            return None
        if any(self.graph.shape(n) != self.graph.shape(q.outputs[0]) for n in node.inputs):
            return None
        (a, a_at), (b, b_at) = operands
        attributes = {
            "a_scale": _ratio(a_at, scale),
            "b_scale": _ratio(b_at, scale),
            "a_zero": a_at.zero,
            "b_zero": b_at.zero,
            "zero": scale.zero,
            "lo": bounds[0],
            "hi": bounds[1],
        }
        for operand in operands:
            self._know(*operand)
        return [Node("add_u8", node.name, (a, b), q.outputs, attributes)]

    def _mul(self, node: Node, q: Node, clips: list[Node], scale: Scale) -> list[Node] | None:
        operands = self._operands(node)
        if operands is None or len(operands) != 2:
            return None
        out = self.graph.shape(q.outputs[0])
        shapes = [self.graph.shape(name) for name in node.inputs]
        if shapes[0] != out:
            operands, shapes = operands[::-1], shapes[::-1]
        bounds = self._bounds(clips, scale)
        if (
            bounds is None
            or shapes[0] != out
            or shapes[1] not in (out, (*out[:2], 1, 1)[: len(out)])
        ):
            return None
        (a, a_at), (b, b_at) = operands
        attributes = {
            "a_scale": float(
                np.float32(a_at.scale) * np.float32(b_at.scale) / np.float32(scale.scale)
            ),
            "a_zero": a_at.zero,
            "b_zero": b_at.zero,
            "zero": scale.zero,
            "lo": bounds[0],
            "hi": bounds[1],
        }
        for operand in operands:
            self._know(*operand)
        return [Node("mul_u8", node.name, (a, b), q.outputs, attributes)]

    def _pool(self, node: Node, q: Node, clips: list[Node], scale: Scale) -> list[Node] | None:
        source, converted = self.source(node.inputs[0]), convert_node(self.graph, node)
        if source is None or clips or converted is None or len(converted) != 1:
            return None
        made = converted[0]
        x, at = source
        if made.op in ("average_pool", "global_average_pool"):
            attributes = {**made.attributes, "input_zero": at.zero, "zero": scale.zero}
            attributes["scale"] = _ratio(at, scale)
            self._know(*source)
            return [Node("average_pool_u8", node.name, (x,), q.outputs, attributes)]
        if made.op != "max_pool":
            return None
        self._know(*source)
        y = q.outputs[0] if at == scale else f"{q.outputs[0]}.pooled"
        pool = Node("max_pool_u8", node.name, (x,), (y,), made.attributes)
        return [pool, *self._rescaled(pool, q, at, scale)]

    def _rescaled(self, node: Node, q: Node, at: Scale, scale: Scale) -> list[Node]:
        """What brings a node's result to another scale."""
        if at == scale:
            return []
        self.graph.shapes[node.output] = self.graph.shape(q.outputs[0])
        self._know(node.output, at)
        return [_requantised(q.name, node.output, q.outputs[0], at, scale)]

    def _resize(self, node: Node, q: Node, clips: list[Node], scale: Scale) -> list[Node] | None:
        source, converted = self.source(node.inputs[0]), convert_node(self.graph, node)
        if source is None or clips or converted is None or len(converted) != 1:
            return None
        made = converted[0]
        h, w = self.graph.shape(node.inputs[0])[2:]
        if made.op == "resize_nearest":
            rows = np.arange(h * made.attributes["scale_h"]) // made.attributes["scale_h"]
            columns = np.arange(w * made.attributes["scale_w"]) // made.attributes["scale_w"]
            positions = (rows[:, None] * w + columns).reshape(-1).astype(np.int32)
        elif made.op == "resize_positions":
            positions = made.arrays["source"]
        else:
            return None
        x, at = source
        self._know(*source)
        y = q.outputs[0] if at == scale else f"{q.outputs[0]}.resized"
        moved = _gathered(node.name, x, y, at, positions)
        return [moved, *self._rescaled(moved, q, at, scale)]

    def _concat(self, node: Node, q: Node, clips: list[Node], scale: Scale) -> list[Node] | None:
        operands, shape = self._operands(node), self.graph.shape(q.outputs[0])
        axis = int(node.attributes["axis"]) % len(shape)
        if operands is None or clips or len(operands) != len(node.inputs):
            return None
        if len(shape) != 4 or axis != 1:
            return None
        parts, nodes = [], []
        for i, (name, (x, at)) in enumerate(zip(node.inputs, operands, strict=True)):
            self._know(x, at)
            if at != scale:
                part = f"{q.outputs[0]}.part{i}"
                self.graph.shapes[part] = self.graph.shape(name)
                self._know(part, scale)
                nodes.append(_requantised(f"{node.name}[{i}]", x, part, at, scale))
                x = part
            parts.append(x)
        return [*nodes, Node("concat", node.name, tuple(parts), q.outputs)]

    def _lookup(
        self, functions: list[Node], q: Node, scale: Scale, value: str
    ) -> list[Node] | None:
        """Any function of one quantised value: what it gives for each of the 256."""
        source = self.source(value)
        if source is None or self.graph.shape(value) != self.graph.shape(q.outputs[0]):
            return None
        x, at = source
        if len(self.graph.shape(value)) not in (2, 4):
            return None
        if all(node.op in ("Clip", "Relu") for node in functions):
            bounds = self._bounds(functions, scale)
            if bounds is None:
                return None
            self._know(*source)
            name = functions[0].name if functions else q.name
            return [_requantised(name, x, q.outputs[0], at, scale, bounds)]
        table = table_of(self.graph, functions, value, at, scale)
        if table is None:
            return None
        self._know(*source)
        return [Node("lookup_u8", functions[0].name, (x,), q.outputs, {}, {"table": table})]


def _in_32_bits(weight: Array, bias: Array | None) -> bool:
    """Whether no sum of products and its bias overflows; quantisers clip biases to int32's ends."""
    most = 255 * np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    if bias is not None:
        most = most + np.abs(bias.astype(np.int64))
    return bool(most.max(initial=0) < 2**31)


def _gathered(name: str, x: str, y: str, scale: Scale, positions: Array) -> Node:
    """Pixels from elsewhere; -1 stands for zero."""
    arrays = {"source": np.ascontiguousarray(positions, np.int32)}
    return Node("gather_u8", name, (x,), (y,), {"zero": scale.zero}, arrays)


def _ratio(at: Scale, scale: Scale) -> float:
    return float(np.float32(at.scale) / np.float32(scale.scale))


def _requantised(
    name: str,
    x: str,
    y: str,
    at: Scale,
    scale: Scale,
    bounds: tuple[float, float] | None = None,
) -> Node:
    """To another scale, and within bounds: in steps of the new one from its zero point."""
    lo, hi = bounds or (float(-scale.zero), float(255 - scale.zero))
    kept = _ratio(at, scale)
    steps = (np.arange(256) - at.zero).astype(np.float32) * np.float32(kept)
    table = (np.clip(np.rint(steps), lo, hi) + scale.zero).astype(np.uint8)
    # The numbers say the same as the table, to a convolution that can do it itself.
    attributes = {"kept": kept, "zero": scale.zero, "input_zero": at.zero, "lo": lo, "hi": hi}
    return Node("lookup_u8", name, (x,), (y,), attributes, {"table": table})
