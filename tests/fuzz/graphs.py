"""A random graph from a seed: inputs of ranks 1 to 5, operator sets 7 to 24, odd outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

import fuzz.rarer  # noqa: F401  (its steps enter the tables)
from fuzz.growth import Growth
from fuzz.operators import ENGINE, FOREIGN, PLAIN

OPSETS = (*range(7, 11), *range(11, 24), *range(13, 23))
"""Operator sets to draw from, the common ones twice."""


@dataclass
class Case:
    """A graph as a file, and what to feed it.

    Attributes:
        model: with float32 inputs and outputs, checked by `onnx.checker`.
        feed: an array per input.
        open_batch: whether the file leaves the first size of the inputs open.
        masked: whether some position need not be computed.
        foreign: whether a node is beyond the engine.
    """

    model: onnx.ModelProto
    feed: dict[str, np.ndarray]
    open_batch: bool = False
    masked: bool = False
    foreign: bool = False

    def save(self, folder: Path, name: str) -> Path:
        """Write `name`.onnx and `name`.npz; returns the first."""
        onnx.save(self.model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **self.feed)
        return folder / f"{name}.onnx"


def _input_shape(g: Growth) -> tuple[int, ...]:
    rank = g.pick([4, 4, 4, 4, 4, 4, 2, 3, 5, 1])
    n = g.pick([1, 1, 1, 2, 3])
    if rank == 4:
        return (n, g.pick([1, 2, 3, 3, 4, 5, 8, 16, 17]), g.between(1, 26), g.between(1, 26))
    return (n, *(g.between(1, 12) for _ in range(rank - 1)))


def random_case(seed: int) -> Case:
    """A random network; the same one from the same seed."""
    rng = np.random.default_rng(seed)
    g = Growth(seed, int(rng.choice(OPSETS)))
    g.pool = [g.input(*_input_shape(g))]
    if g.chance(0.15):
        shape = g.shapes["x"] if g.chance(0.5) else _input_shape(g)
        g.pool.append(g.input(*shape, name="second"))
    table = ENGINE
    if len(g.shapes["x"]) == 4 and g.chance(0.4):  # a plain network, which the delegate takes too
        table = [(step, weight) for step, weight in ENGINE if step.__name__ in PLAIN]
    steps, weights = zip(*table, strict=True)
    foreign = g.chance(0.12)
    odds = np.array(weights) / sum(weights)
    x, last = g.pool[0], g.between(1, 10)
    for number in range(last):
        if g.chance(0.25):
            x = g.pick(g.pool)
        for _ in range(4):  # most steps fit some values only
            step = steps[int(g.rng.choice(len(steps), p=odds))]
            if foreign and (g.chance(0.3) or (number == last - 1 and not g.foreign)):
                step = g.pick(FOREIGN)[0]
            made = step(g, x)
            if made is not None:
                g.foreign |= any(step is f for f, _ in FOREIGN)
                x = made
                g.pool.append(made)
                break
    if not g.nodes:
        x = g.node("Relu", x)
        g.pool.append(x)
    return _finished(g, x)


def _finished(g: Growth, x: str) -> Case:
    outputs = {x: None}
    if x in (value.name for value in g.inputs):
        x = g.node("Relu", x)
        outputs = {x: None}
    if g.chance(0.3):
        outputs |= dict.fromkeys(g.pick(g.pool, g.between(1, 3)))
    values = dict.fromkeys(value for node in g.nodes for value in node.output)
    outputs = [name for name in outputs if name in values or g.chance(0.3)]
    open_batch = g.chance(0.15) and len(g.inputs) == 1
    inputs = [_described(value, g.shapes[value.name], open_batch) for value in g.inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(g.nodes, "random", inputs, results, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=9)
    scale = float(g.pick([1, 1, 1, 1, 1, 1, 100, 1e-3, 0]))
    feed = {
        value.name: (scale * g.normal(*g.shapes[value.name])).astype(np.float32)
        for value in g.inputs
    }
    return Case(model, feed, open_batch, g.masked, g.foreign)


def _described(value, shape: tuple[int, ...], open_batch: bool):
    sizes = ("N", *shape[1:]) if open_batch else shape
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, sizes)
