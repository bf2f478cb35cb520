"""A failing case made smaller while it fails in the same way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzz.doors import Feed, Options
from fuzz.judge import every_value

Fails = Callable[[onnx.ModelProto, Feed, Options], bool]


def shrink(
    model: onnx.ModelProto, feed: Feed, options: Options, fails: Fails, seconds: float = 60
) -> tuple[onnx.ModelProto, Feed, Options]:
    """Try smaller cases until none of them fails, or time is up."""
    end = time.monotonic() + seconds
    changed = True
    while changed and time.monotonic() < end:
        changed = False
        steps = itertools.chain(
            _simpler_options(model, feed, options),
            _fewer_outputs(model, feed, options),
            _later_starts(model, feed, options),
            _without_a_node(model, feed, options),
            _smaller_sizes(model, feed, options),
            _fewer_attributes(model, feed, options),
        )
        for candidate in steps:
            if time.monotonic() > end:
                break
            if fails(*candidate):
                model, feed, options = candidate
                changed = True
                break
    return model, feed, options


Case = tuple[onnx.ModelProto, Feed, Options]


def _simpler_options(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    for name, plain in (("threads", 1), ("tune", False), ("algorithm", None), ("winograd", True)):
        if getattr(options, name) != plain:
            yield model, feed, Options(**{**vars(options), name: plain})
    for name, x in feed.items():
        if len(np.unique(x)) > 2:
            yield model, {**feed, name: np.sign(x)}, options


def _rebuilt(
    model: onnx.ModelProto,
    feed: Feed,
    nodes: list[onnx.NodeProto],
    outputs: list[str],
    new_inputs: Feed | None = None,
    constants: dict[str, np.ndarray] | None = None,
) -> tuple[onnx.ModelProto, Feed]:
    """A model of some of the nodes, without what nobody reads."""
    kept: list[onnx.NodeProto] = []
    needed = set(outputs)
    for node in reversed(nodes):
        if needed & set(node.output):
            kept.insert(0, node)
            needed |= set(node.input)
    feeds = {n: x for n, x in {**feed, **(new_inputs or {})}.items() if n in needed}
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape) for n, x in feeds.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    changed = constants or {}
    tensors = [
        numpy_helper.from_array(changed[t.name], t.name) if t.name in changed else t
        for t in model.graph.initializer
        if t.name in needed and t.name not in feeds
    ]
    graph = helper.make_graph(kept, "small", inputs, results, tensors)
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return made, feeds


def _described(name: str, shape: tuple[int, ...] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _outputs(model: onnx.ModelProto) -> list[str]:
    return [value.name for value in model.graph.output]


def _fewer_outputs(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    """One output alone; or the graph cut short behind a node."""
    nodes, outputs = list(model.graph.node), _outputs(model)
    ends = [name for node in nodes for name in node.output if name]
    for name in (*(outputs if len(outputs) > 1 else ()), *ends):
        if [name] != outputs:
            yield *_rebuilt(model, feed, nodes, [name]), options


def _later_starts(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    """A value becomes an input."""
    nodes, outputs = list(model.graph.node), _outputs(model)
    for name, value in reversed(every_value(model, feed).items()):
        if value.dtype == np.float32 and value.ndim and value.size and name not in outputs:
            rest = [node for node in nodes if name not in node.output]
            made, feeds = _rebuilt(model, feed, rest, outputs, {name: value})
            if len(made.graph.node) < len(nodes):
                yield made, feeds, options


def _without_a_node(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    """Whoever reads a node's result reads one of its inputs of the same shape instead."""
    nodes, outputs = list(model.graph.node), _outputs(model)
    values = {**every_value(model, feed), **feed}
    for node in nodes:
        for source in node.input:
            same = (
                source in values
                and node.output[0] in values
                and values[source].shape == values[node.output[0]].shape
                and node.output[0] not in outputs
            )
            if same:
                rest = []
                for other in nodes:
                    if other is not node:
                        copy = onnx.NodeProto()
                        copy.CopyFrom(other)
                        for i, name in enumerate(copy.input):
                            if name == node.output[0]:
                                copy.input[i] = source
                        rest.append(copy)
                yield *_rebuilt(model, feed, rest, outputs), options


def _smaller_sizes(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    """Every axis of one size becomes shorter, in inputs, constants and shapes at once."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    sizes = {s for x in (*feed.values(), *constants.values()) for s in x.shape if s > 1}
    for size in sorted(sizes, reverse=True):
        for less in sorted({1, 2, size // 2, size - 1}):
            if 0 < less < size:
                new = {n: _cut(x, size, less) for n, x in constants.items()}
                feeds = {n: _cut(x, size, less) for n, x in feed.items()}
                nodes, outputs = list(model.graph.node), _outputs(model)
                yield *_rebuilt(model, feeds, nodes, outputs, constants=new), options


def _cut(x: np.ndarray, size: int, less: int) -> np.ndarray:
    if x.dtype == np.int64 and x.ndim == 1:
        return np.where(x == size, less, x)
    for axis, s in enumerate(x.shape):
        if s == size:
            x = x.take(range(less), axis)
    return np.ascontiguousarray(x)


def _fewer_attributes(model: onnx.ModelProto, feed: Feed, options: Options) -> Iterator[Case]:
    for i, node in enumerate(model.graph.node):
        for j in range(len(node.attribute)):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            del copy.graph.node[i].attribute[j]
            yield copy, feed, options
