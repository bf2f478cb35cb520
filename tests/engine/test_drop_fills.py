"""Fill `nearest`: what nobody reads is not filled, and what is read is right, joined or not."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.load import load
from activsparse.engine.passes import drop_fills, optimise
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.masks import make_mask, nearest_source

NO_PADS = (0, 0, 0, 0)


def filled(b, x, mask):
    return b.gather(x, nearest_source(mask))


def random_mask(b, x):
    shape = b.shapes[x][2:]
    pattern = str(b.rng.choice(["lattice", "lattice", "tiles", "random"]))
    sparsity = float(b.rng.choice([0.2, 0.3, 0.5]))
    return make_mask(
        pattern, shape, sparsity, score=b.rng.random(shape), phase=int(b.rng.integers(5))
    )


def masked(b, x, masks):
    """Filled, mostly. `masks`: by size, where all layers shall have the same; else None."""
    size = b.shapes[x][2:]
    mask = random_mask(b, x) if masks is None else masks.setdefault(size, random_mask(b, x))
    kind = b.rng.choice(["filled", "filled", "filled", "zero", "dense"])
    if kind == "filled":
        return filled(b, x, mask)
    if kind == "dense":
        return x
    return b.node("Mul", x, b.constant(mask[None, None].astype(np.float32)))


def mobile_network(path, seed):
    """Inverted residuals of random sizes."""
    b = graphs.Builder(seed)
    rng = b.rng
    size = [int(s) for s in rng.integers(60, 90, 2)]
    x = b.node("Relu", b.conv(b.input(int(rng.integers(1, 3)), 3, *size), 16, strides=(2, 2)))
    for _ in range(int(rng.integers(1, 4))):
        c, wide = b.shapes[x][1], int(rng.integers(50, 100))
        kernel, stride = int(rng.choice([3, 5])), int(rng.choice([1, 1, 2]))
        out = c if rng.random() < 0.6 else int(rng.integers(8, 40))
        masks = {} if rng.random() < 0.5 else None
        y = b.node("Relu", masked(b, b.conv(x, wide, (1, 1), pads=NO_PADS), masks))
        pads = (kernel // 2,) * 4
        y = b.conv(y, wide, (kernel, kernel), (stride, stride), pads, group=wide)
        y = b.node("Relu", masked(b, y, masks))
        if rng.random() < 0.3:
            y = graphs._squeeze(b, y)
        y = masked(b, b.conv(y, out, (1, 1), pads=NO_PADS), masks)
        x = b.node("Add", y, x) if b.shapes[y] == b.shapes[x] else y
    if rng.random() < 0.5:
        x = b.conv(x, 24, (3, 3))
    return b.save(path, x)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(tmp_path, seed):
    path = mobile_network(tmp_path / "m.onnx", seed)
    for threads in (1, 2, 3):
        session = Session(path, threads=threads, tune=False)
        results = compare_with_onnxruntime(path, session, seed=seed)
        assert all(result.holds for result in results), f"seed {seed}, {threads} threads: {results}"


def test_nearly_all_blocks_are_joined(tmp_path):
    b = graphs.Builder()
    x = b.node("Relu", b.conv(b.input(1, 3, 64, 64), 16))
    mask = make_mask("lattice", (64, 64), 0.3)
    y = b.node("Relu", filled(b, b.conv(x, 96, (1, 1), pads=NO_PADS), mask))
    y = b.node("Relu", filled(b, b.conv(y, 96, group=96), mask))
    y = filled(b, b.conv(y, 16, (1, 1), pads=NO_PADS), mask)
    path = b.save(tmp_path / "m.onnx", b.node("Add", y, x))
    session = Session(path, tune=False)
    (row,) = [row for row in session.explain() if row.kind == "inverted_residual"]
    assert row.eligible
    assert row.achieved == pytest.approx(0.3, abs=0.03)
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=1))


def sources(path):
    """(name, its `source` as a plane) of every filled convolution, as they are compiled."""
    graph = drop_fills(optimise(load(path, None)))
    return [
        node.arrays["source"].reshape(graph.shape(node.output)[2:])
        for node in graph.nodes
        if "source" in node.arrays
    ]


def test_what_a_1x1_convolution_skips_is_not_read(tmp_path):
    b = graphs.Builder()
    mask, other = (make_mask("lattice", (12, 13), 0.3, phase=phase) for phase in (0, 1))
    x = filled(b, b.conv(b.input(1, 8, 12, 13), 8, group=8), mask)
    y = b.node("Relu", filled(b, b.conv(x, 16, (1, 1), pads=NO_PADS), other))
    path = b.save(tmp_path / "m.onnx", y)
    first, last = sources(path)
    np.testing.assert_array_equal(first == -1, ~mask & ~other)
    np.testing.assert_array_equal(last.ravel(), nearest_source(other))


def test_what_a_strided_depthwise_convolution_skips_is_not_read(tmp_path):
    b = graphs.Builder()
    mask = make_mask("lattice", (12, 12), 0.5)
    kept = np.zeros((6, 6), bool)
    kept[2, 3] = True
    x = filled(b, b.conv(b.input(1, 4, 12, 12), 8, (1, 1), pads=NO_PADS), mask)
    y = b.conv(x, 8, strides=(2, 2), group=8)
    y = b.node("Mul", y, b.constant(kept[None, None].astype(np.float32)))
    (source,) = sources(b.save(tmp_path / "m.onnx", y))
    read = np.zeros((12, 12), bool)
    read[3:6, 5:8] = True
    np.testing.assert_array_equal(source == -1, ~mask & ~read)


@pytest.mark.parametrize("reader", ["conv 3x3", "pool", "output", "sum with another"])
def test_other_readers_read_everything(tmp_path, reader):
    b = graphs.Builder()
    mask = make_mask("lattice", (12, 12), 0.5)
    x = filled(b, b.conv(b.input(1, 4, 12, 12), 8, (1, 1), pads=NO_PADS), mask)
    skips = b.conv(x, 8, (1, 1), pads=NO_PADS)
    outputs = [b.node("Mul", skips, b.constant(mask[None, None].astype(np.float32)))]
    if reader == "conv 3x3":
        y = b.conv(x, 8)
        outputs.append(b.node("Mul", y, b.constant(mask[None, None].astype(np.float32))))
    elif reader == "pool":
        outputs.append(b.node("GlobalAveragePool", x, shape=(1, 8, 1, 1)))
    elif reader == "output":
        outputs.append(x)
    else:
        outputs.append(b.node("Add", x, outputs[0]))
    (source,) = sources(b.save(tmp_path / "m.onnx", *outputs))
    np.testing.assert_array_equal(source.ravel(), nearest_source(mask))
