"""ScatterND and ScatterElements of constant indices: parts of values that are assigned."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest

from activsparse import ActivsparseError, Session

SHAPES = [(7,), (3, 19), (2, 5, 7), (2, 6, 9, 8), (1, 2, 3, 4, 5)]


def box(rng, shape):
    """Coordinates along each axis: all, a run, every second, some."""
    kinds = rng.integers(0, 4, len(shape))
    chosen = []
    for kind, size in zip(kinds, shape, strict=True):
        start = int(rng.integers(size))
        end = int(rng.integers(start, size)) + 1
        some = np.sort(rng.permutation(size)[: rng.integers(1, size + 1)])
        chosen.append(
            [np.arange(size), np.arange(start, end), np.arange(start, size, 2), some][kind]
        )
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_a_box_is_written(tmp_path, seed):
    """`data[a:b, c:d] = updates`, as torch exports it: indices of all elements."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    at = box(rng, shape)
    depth = int(rng.integers(1, len(shape) + 1))
    sizes = [len(axis) for axis in at[:depth]]
    indices = np.stack(np.meshgrid(*at[:depth], indexing="ij"), axis=-1).astype(np.int64)
    if seed % 3 == 0:
        indices -= np.array(shape[:depth])  # counted from behind
    b = graphs.Builder(seed, opset=[11, 13, 16, 18][seed % 4])
    data = b.input(*shape)
    updates = b.input(*sizes, *shape[depth:], name="u")
    if seed % 5 == 0:
        data = b.constant(b.normal(*shape))
    y = b.node("ScatterND", data, b.constant(indices), updates, shape=shape)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", y) if seed % 2 else y)
    oracle.check(path, context=(seed, shape, sizes))


@pytest.mark.parametrize("seed", range(10))
def test_elements_in_any_order_are_written(tmp_path, seed):
    rng = np.random.default_rng(100 + seed)
    shape = SHAPES[seed % len(SHAPES)]
    count = int(rng.integers(1, np.prod(shape) + 1))
    places = rng.permutation(int(np.prod(shape)))[:count]
    indices = np.stack(np.unravel_index(places, shape), axis=-1).astype(np.int64)
    b = graphs.Builder(seed)
    x, u = b.input(*shape), b.input(count, name="u")
    y = b.node("ScatterND", x, b.constant(indices), u, shape=shape)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(seed, shape, count))


@pytest.mark.parametrize("seed", range(12))
def test_along_an_axis(tmp_path, seed):
    """ScatterElements, and Scatter of old files: indices of a part of the shape, each its own."""
    rng = np.random.default_rng(200 + seed)
    shape = SHAPES[seed % len(SHAPES)]
    axis = int(rng.integers(len(shape)))
    part = [int(rng.integers(1, size + 1)) for size in shape]
    order = np.argsort(rng.random((*part[:axis], shape[axis], *part[axis + 1 :])), axis)
    indices = np.take(order, np.arange(part[axis]), axis)
    old = seed % 4 == 0
    b = graphs.Builder(seed, opset=9 if old else 18)
    x, u = b.input(*shape), b.input(*part, name="u")
    op = "Scatter" if old else "ScatterElements"
    axis -= len(shape) * (seed % 2) * (not old)
    y = b.node(op, x, b.constant(indices), u, axis=axis, shape=shape)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(seed, shape, part, axis))


def test_a_part_of_a_convolution_is_written_between_its_neighbours(tmp_path):
    """No element is picked by itself where a run of channels or rows is assigned."""
    b = graphs.Builder(1)
    first = b.conv(b.input(1, 3, 8, 8), 16)
    second = b.conv(first, 16)
    at = np.arange(4, 8)
    indices = np.stack(np.meshgrid([0], at, indexing="ij"), axis=-1)
    part = b.node(
        "Slice", second, *(b.constant(np.array([k])) for k in (4, 8, 1)), shape=(1, 4, 8, 8)
    )
    y = b.node("ScatterND", first, b.constant(indices), part, shape=(1, 16, 8, 8))
    path = b.save(tmp_path / "m.onnx", b.conv(y, 8))
    oracle.check(path)
    kinds = {row.kind for row in Session(path, tune=False).explain()}
    assert "resize_positions" not in kinds, kinds


@pytest.mark.parametrize("case", ["sum", "indices"])
def test_what_is_refused_runs_in_the_fallback(tmp_path, case):
    b = graphs.Builder(2)
    x = b.input(4, 5)
    indices = b.constant(np.array([[1], [3]]))
    if case == "indices":  # known only at run time
        indices = b.node("Cast", b.node("Relu", b.input(2, 1, name="i")), to=7)
    settings = {"reduction": "add"} if case == "sum" else {}
    y = b.node("ScatterND", x, indices, b.input(2, 5, name="u"), shape=(4, 5), **settings)
    path = b.save(tmp_path / "m.onnx", y)
    with pytest.raises(ActivsparseError, match=r"\(ScatterND\): .*fallback='onnxruntime'"):
        Session(path)
    feed = {k: np.clip(v, 0, 3) for k, v in oracle.random_input(path).items()}
    oracle.check(path, feed, fallback="onnxruntime")
