"""Vectors with a value per channel, on values of every rank."""

from __future__ import annotations

import graphs
import oracle
import pytest


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_chains_of_norms_and_constants(tmp_path, rank, seed):
    """Equal sizes on several axes show a vector that is laid along the wrong one."""
    b = graphs.Builder(100 * rank + seed)
    shape = tuple(b.rng.choice([1, 2, 3], rank).tolist())
    x = b.input(*shape)
    for _ in range(3):
        kind = b.rng.choice(["norm", "Mul", "Add", "Sub", "Div", "Relu"])
        if kind == "norm":
            x = b.norm(x)
        elif kind == "Relu":
            x = b.node("Relu", x)
        else:
            kept = b.rng.random(rank) < 0.5
            first = b.rng.integers(rank)
            sizes = [size if keep else 1 for size, keep in zip(shape, kept, strict=True)][first:]
            constant = b.constant(b.uniform(*sizes))
            swapped = kind != "Div" and b.rng.random() < 0.5
            x = b.node(kind, *((constant, x) if swapped else (x, constant)), shape=shape)
    y = b.node("Tanh", x)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(rank, seed, shape))


def test_a_norm_that_is_not_over_channels_is_refused(tmp_path):
    from activsparse import ActivsparseError, Session

    b = graphs.Builder(opset=8)
    values = map(b.constant, (b.uniform(3, 4, 4), b.normal(3, 4, 4)) * 2)
    y = b.node("BatchNormalization", b.input(1, 3, 4, 4), *values, spatial=0)
    with pytest.raises(ActivsparseError, match="norm per position"):
        Session(b.save(tmp_path / "m.onnx", y))
