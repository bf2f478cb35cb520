"""Products of two values against ONNX Runtime."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from activsparse import ActivsparseError, Session, _native
from activsparse.engine.verify import compare_with_onnxruntime


def check(path, seed: int = 0, threads: int = 1) -> None:
    for isa in _native.available_isas():
        session = Session(path, isa=isa, threads=threads)
        for row in compare_with_onnxruntime(path, session, seed):
            assert row.holds, (seed, isa, row, session.explain())


def matrix(b: graphs.Builder, name: str, batches: tuple[int, ...], rows: int, columns: int) -> str:
    """An input as it is, or the transpose, or the inner part, of one that was computed on."""
    kind = b.rng.choice(["plain", "transposed", "inner", "turned"])
    rank = len(batches) + 2
    if kind == "plain":
        return b.input(*batches, rows, columns, name=name)
    if kind == "transposed":
        x = b.node("Tanh", b.input(*batches, columns, rows, name=name))
        order = [*range(rank - 2), rank - 1, rank - 2]
        return b.node("Transpose", x, perm=order, shape=(*batches, rows, columns))
    if kind == "inner":
        x = b.node("Tanh", b.input(*batches, rows + 2, columns + 2, name=name))
        bounds = [b.constant(np.array(v)) for v in ((2, 1), (2**40, columns + 1), (-2, -1))]
        return b.node("Slice", x, *bounds, shape=(*batches, rows, columns))
    x = b.node("Tanh", b.input(*reversed(batches), columns, rows, name=name))
    order = [*reversed(range(rank - 2)), rank - 1, rank - 2]
    return b.node("Transpose", x, perm=order, shape=(*batches, rows, columns))


@pytest.mark.parametrize("seed", range(80))
def test_random_products(tmp_path, seed):
    b = graphs.Builder(seed)
    rng = b.rng
    m, n, k = (int(rng.choice([1, 2, 7, 16, 33, int(rng.integers(1, 90))])) for _ in range(3))
    batches = tuple(int(v) for v in rng.integers(1, 4, int(rng.integers(0, 3))))
    # Batches of either side may be missing or repeat.
    left = tuple(s if rng.random() < 0.7 else 1 for s in batches)
    right = tuple(s if rng.random() < 0.7 else 1 for s in batches)
    right = right[int(rng.integers(0, len(right) + 1)) :] if rng.random() < 0.3 else right
    x, y = matrix(b, "x", left, m, k), matrix(b, "y", right, k, n)
    shape = (*np.broadcast_shapes(left, right), m, n)
    z = b.node("MatMul", x, y, shape=shape)
    if rng.random() < 0.3:
        z = b.node("Relu", z)
    if rng.random() < 0.5:
        order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        z = b.node("Transpose", z, perm=order, shape=tuple(shape[i] for i in order))
    if rng.random() < 0.5:
        z = b.node("Mul", z, b.constant(np.float32(0.5)))
    check(b.save(tmp_path / "product.onnx", z), seed, threads=1 + seed % 2)


@pytest.mark.parametrize(("heads", "keys", "size"), [(2, 16, 5), (1, 32, 7), (4, 8, 20)])
def test_attention_as_detectors_have_it(tmp_path, heads, keys, size):
    """One convolution gives queries, keys and values of a map's positions."""
    b = graphs.Builder(heads)
    width, positions = 2 * keys, size * size
    x = b.conv(b.input(1, 3, size, size), heads * width)
    qkv = b.conv(x, heads * (2 * keys + width), (1, 1), pads=(0, 0, 0, 0))
    apart = b.constant(np.array([1, heads, 2 * keys + width, positions]))
    qkv = b.node("Reshape", qkv, apart, shape=(1, heads, 2 * keys + width, positions))
    parts = []
    for begin, end in ((0, keys), (keys, 2 * keys), (2 * keys, 2 * keys + width)):
        bounds = [b.constant(np.array([v])) for v in (begin, end, 2)]
        parts.append(b.node("Slice", qkv, *bounds, shape=(1, heads, end - begin, positions)))
    q, k, v = parts
    q = b.node("Transpose", q, perm=[0, 1, 3, 2], shape=(1, heads, positions, keys))
    weights = b.node("MatMul", q, k, shape=(1, heads, positions, positions))
    weights = b.node("Mul", weights, b.constant(np.float32(keys**-0.5)))
    weights = b.node("Softmax", weights, axis=-1)
    weights = b.node("Transpose", weights, perm=[0, 1, 3, 2])
    mixed = b.node("MatMul", v, weights, shape=(1, heads, width, positions))
    whole = b.constant(np.array([1, heads * width, size, size]))
    mixed = b.node("Reshape", mixed, whole, shape=(1, heads * width, size, size))
    mixed = b.node("Add", mixed, b.conv(x, heads * width, group=heads * width))
    path = b.save(
        tmp_path / "attention.onnx",
        b.conv(mixed, heads * width, (1, 1), pads=(0, 0, 0, 0)),
    )
    check(path, threads=2)


def test_a_product_with_a_vector_is_refused(tmp_path):
    b = graphs.Builder()
    x, y = b.input(3, 4), b.input(4, name="y")
    path = b.save(tmp_path / "vector.onnx", b.node("MatMul", x, y, shape=(3,)))
    with pytest.raises(ActivsparseError, match="second axis"):
        Session(path)
