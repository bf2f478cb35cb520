"""A whole model, node by node."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from activsparse.engine.exact.operators import INCREASING, RULES, Call
from activsparse.engine.exact.rounding import Rounding
from activsparse.engine.exact.span import Array, Span, increasing

__all__ = ["SLACK", "ExactModel"]

SLACK = 2.0**-10
"""Steps that float32 arithmetic may be off in the last place before rounding: sums of thousands of
products of 8 bits, scaled, err by less."""


class ExactModel:
    """A model of standard operators, and of the quantised ones ONNX Runtime adds.

    Args:
        model: the file, or its content; not changed.
    """

    def __init__(self, model: str | os.PathLike[str] | onnx.ModelProto) -> None:
        self._model = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        graph = self._model.graph
        self._constants = {t.name: Span.of(_value(t)) for t in graph.initializer}
        self.inputs = [v.name for v in graph.input if v.name not in self._constants]
        self.outputs = [v.name for v in graph.output]
        self._opsets = {entry.domain: entry.version for entry in self._model.opset_import}
        self._opset = max(self._opsets.get("", 0), self._opsets.get("ai.onnx", 0))
        self._references: dict[int, Any] = {}

    def run(
        self,
        feed: Mapping[str, npt.NDArray[Any]],
        *,
        slack: float = 0.0,
        jitter: np.random.Generator | None = None,
        margins: dict[str, Array] | None = None,
        keep: Collection[str] | None = None,
    ) -> dict[str, Span]:
        """Evaluate the model.

        Args:
            feed: an array for each input, by name.
            slack: steps by which engines may round on either side of a boundary. Results are then
                ranges: all that such choices, and what follows from them, can lead to.
            jitter: in place of ranges, one random choice of them.
            margins: filled, by name of the quantised tensor, with the steps that each of its values
                is away from the nearest boundary.
            keep: values to return; the outputs by default.

        Returns:
            The values by name, real ones as float64, quantised ones of their types.

        Raises:
            NotImplementedError: an operator that onnx has no reference of, or a sub-graph.
        """
        wanted = set(self.outputs if keep is None else keep)
        known: dict[str, Span] = dict(self._constants)
        for name in self.inputs:
            given = np.asarray(feed[name])
            known[name] = Span.of(given.astype(np.float64) if given.dtype.kind == "f" else given)
        rounding = Rounding(slack, jitter, margins)
        uses = self._last_uses()
        for index, node in enumerate(self._model.graph.node):
            inputs = [known[name] if name else None for name in node.input]
            found = self._evaluate(index, node, inputs, rounding)
            known.update(zip(node.output, found, strict=False))
            for name in uses.get(index, ()):
                if name not in wanted:
                    known.pop(name, None)
        return {name: known[name] for name in known if name in wanted}

    def _last_uses(self) -> dict[int, set[str]]:
        last: dict[str, int] = {}
        for index, node in enumerate(self._model.graph.node):
            last.update(dict.fromkeys((*node.input, *node.output), index))
        uses: dict[int, set[str]] = {}
        for name, index in last.items():
            uses.setdefault(index, set()).add(name)
        return uses

    def _evaluate(
        self, index: int, node: onnx.NodeProto, inputs: list[Span | None], rounding: Rounding
    ) -> list[Span]:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if not domain and node.op_type == "Constant":
            return [Span.of(_constant(node))]
        attributes = {a.name: _attribute(a) for a in node.attribute}
        rule = RULES.get((domain, node.op_type))
        if rule is not None:
            try:
                return rule(Call(inputs, attributes, list(node.output), rounding, self._opset))
            except ValueError:  # not in this form: the reference may know it
                pass
        if all(s is None or s.exact for s in inputs) or node.op_type in INCREASING:
            return increasing(lambda *arrays: self._reference(index, node, arrays), inputs)
        shapes = self._reference(index, node, [None if s is None else s.middle for s in inputs])
        return [Span(np.full(y.shape, -np.inf), np.full(y.shape, np.inf)) for y in shapes]

    def _reference(self, index: int, node: onnx.NodeProto, arrays: Any) -> list[Array]:
        """What onnx's own reference makes of a node, in double precision."""
        from onnx.reference import ReferenceEvaluator

        present = [(n, a) for n, a in zip(node.input, arrays, strict=True) if a is not None]
        feed = dict(present)
        if index not in self._references:
            inputs = [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype), None
                )
                for name, array in feed.items()
            ]
            results = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
            graph = helper.make_graph([_widened(node)], "node", inputs, results)
            opsets = [helper.make_opsetid(d, v) for d, v in self._opsets.items()]
            model = helper.make_model(graph, opset_imports=opsets)
            try:
                self._references[index] = ReferenceEvaluator(model)
            except Exception as error:  # whatever it makes of what it does not know
                raise NotImplementedError(f"{node.op_type} ({error})") from error
        with np.errstate(over="ignore", invalid="ignore"):  # of branches it does not take
            found = self._references[index].run(None, feed)
        return [_wide(np.asarray(y)) for y in found]


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype in (np.float32, np.float16) else array


def _value(tensor: onnx.TensorProto) -> Array:
    return _wide(numpy_helper.to_array(tensor))


def _constant(node: onnx.NodeProto) -> Array:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _value(value)
    array = np.asarray(value)
    return _wide(array.astype(np.float64) if attribute.name.startswith("value_float") else array)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _widened(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.HasField("t"):
            attribute.t.CopyFrom(numpy_helper.from_array(_value(attribute.t), attribute.t.name))
    return copy
