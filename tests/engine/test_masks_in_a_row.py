"""Several masks and fills on one convolution, with what may stand between them."""

from __future__ import annotations

import itertools

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.load import load
from activsparse.engine.passes import optimise
from activsparse.engine.verify import compare_with_onnxruntime

SIZE = (10, 9)
HOLES = ("equal", "nested", "around", "disjoint", "random")
BETWEEN = ("", "norm", "relu", "norm relu", "relu norm", "sigmoid", "add")


def two_masks(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bool maps: the second one's holes are those of the first, fewer, more, others or any."""
    drawn = rng.random(SIZE)
    first, few, other = drawn > 0.4, drawn > 0.2, drawn < 0.6
    second = {"equal": first, "nested": few, "around": drawn > 0.7, "disjoint": other}
    return first, second.get(kind, rng.random(SIZE) > 0.4)


def apply(b: graphs.Builder, x: str, kind: str, mask: np.ndarray) -> str:
    if kind == "zero":
        return b.node("Mul", x, b.constant(mask[None, None].astype(np.float32)))
    kept = np.flatnonzero(mask)
    source = kept[np.searchsorted(kept, np.arange(mask.size)) % len(kept)]
    return b.gather(x, np.where(mask.reshape(-1), np.arange(mask.size), source))


def between(b: graphs.Builder, x: str, what: str) -> str:
    for name in what.split():
        if name == "norm":
            x = b.norm(x)
        elif name == "relu":
            x = b.node("Relu", x)
        elif name == "sigmoid":
            x = b.node("Sigmoid", x)
        elif name == "silu":
            x = b.node("Mul", x, b.node("Sigmoid", x))
        elif name == "shift":
            x = b.node("Add", x, b.constant(b.normal(1, b.shapes[x][1], 1, 1)))
        else:
            x = b.node("Add", x, b.conv("x", b.shapes[x][1]))
    return x


@pytest.mark.parametrize("holes", HOLES)
def test_pairs(tmp_path, holes):
    kinds = list(itertools.product(("zero", "nearest"), repeat=2))
    for seed, ((first, second), middle) in enumerate(itertools.product(kinds, BETWEEN)):
        b = graphs.Builder(seed)
        masks = two_masks(holes, b.rng)
        y = apply(b, b.conv(b.input(1, 3, *SIZE), 8), first, masks[0])
        y = apply(b, between(b, y, middle), second, masks[1])
        # What the second one leaves is read with its zeros known.
        path = b.save(tmp_path / "m.onnx", b.conv(b.node("Relu", y), 5), y)
        session = Session(path, tune=False)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, (holes, first, middle, second, seed, row)


@pytest.mark.parametrize("seed", range(24))
def test_longer_rows(tmp_path, seed):
    b = graphs.Builder(seed)
    stride, group = int(b.rng.integers(1, 3)), int(b.rng.choice([1, 8]))
    x = b.conv(b.input(2, 3, 2 * SIZE[0], 2 * SIZE[1]), 8)
    y = b.conv(x, 8, strides=(stride, stride), group=group)
    steps = []
    for _ in range(int(b.rng.integers(2, 5))):
        steps.append(str(b.rng.choice(["zero", "nearest"], p=[0.7, 0.3])))
        y = apply(b, y, steps[-1], b.plane(y, float(b.rng.choice([0.1, 0.4]))))
        steps.append(str(b.rng.choice([word for word in BETWEEN if word != "add"])))
        y = between(b, y, steps[-1])
    path = b.save(tmp_path / "m.onnx", y)
    for row in compare_with_onnxruntime(path, Session(path, tune=False)):
        assert row.holds, (seed, steps, row)


def test_holes_a_norm_has_filled_are_skipped_only_if_all_are_emptied_again(tmp_path):
    """conv, mask, norm, mask: at a hole of the first alone stands the norm's shift."""
    for emptied in (True, False):
        b = graphs.Builder()
        first, second = two_masks("around" if emptied else "nested", b.rng)
        y = apply(
            b, b.norm(apply(b, b.conv(b.input(1, 3, *SIZE), 8), "zero", first)), "zero", second
        )
        nodes = optimise(load(b.save(tmp_path / "m.onnx", y))).nodes
        assert [n.op for n in nodes] == (["conv"] if emptied else ["conv", "mask_multiply"])
