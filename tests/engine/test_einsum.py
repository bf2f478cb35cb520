"""Einsum against ONNX Runtime, on random equations."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from activsparse import ActivsparseError, Session
from activsparse.engine.verify import compare_with_onnxruntime


def shuffled(rng: np.random.Generator, axes: str) -> str:
    return "".join(rng.permutation(list(axes))) if axes else ""


def check(tmp_path, b: graphs.Builder, *inputs: str, equation: str) -> None:
    y = b.node("Einsum", *inputs, equation=equation, shape=())
    path = b.save(tmp_path / "m.onnx", b.node("Tanh", y))
    for row in compare_with_onnxruntime(path, Session(path)):
        assert row.holds, (equation, [b.shapes.get(name) for name in inputs], row)


@pytest.mark.parametrize("seed", range(60))
def test_random_equations_of_two_values(tmp_path, seed):
    b = graphs.Builder(seed, 17)
    kinds = {k: "abcdefgh"[2 * i : 2 * i + int(b.rng.integers(3))] for i, k in enumerate("bmnk")}
    if not kinds["b"] and not kinds["m"]:
        kinds["m"] = "c"
    if not kinds["k"] and not kinds["n"]:
        kinds["n"] = "e"
    left = shuffled(b.rng, kinds["b"] + kinds["m"] + kinds["k"])
    right = shuffled(b.rng, kinds["b"] + kinds["n"] + kinds["k"])
    if not right:
        left, right = left + "z", "z"
        kinds["k"] = "z"
    result = shuffled(b.rng, kinds["b"] + kinds["m"] + kinds["n"])
    size = {axis: int(b.rng.integers(1, 5)) for axis in left + right}
    x = b.node("Sigmoid", b.input(*(size[axis] for axis in left)))
    shape = tuple(size[axis] for axis in right)
    z = b.constant(b.normal(*shape)) if seed % 3 == 0 else b.input(*shape, name="z")
    check(tmp_path, b, x, z, equation=f"{left}, {right} -> {result}")


@pytest.mark.parametrize(
    ("shapes", "equation"),
    [
        ([(2, 3, 4), (2, 4, 5)], "...ij,...jk->...ik"),
        ([(2, 6, 3, 4), (2, 6, 4, 5)], "...ij,...jk"),
        ([(3, 4), (4, 5)], "ij,jk"),
        ([(2, 3, 4, 5), (2, 3, 6, 5)], "bhid,bhjd->bhij"),
        ([(2, 3, 4, 4), (2, 4, 3, 5)], "bhij,bjhd->bihd"),
        ([(2, 1, 4), (4, 5)], "bij,jk->bk"),
        ([(2, 3, 4)], "bij->jbi"),
        ([(2, 1, 4)], "bij->jb"),
        ([(3,), (4,)], "i,j->ji"),
    ],
)
def test_forms_that_networks_have(tmp_path, shapes, equation):
    b = graphs.Builder(len(equation), 17)
    inputs = [b.input(*shape, name=f"x{at}") for at, shape in enumerate(shapes)]
    check(tmp_path, b, *inputs, equation=equation)


@pytest.mark.parametrize(
    ("shapes", "equation", "why"),
    [
        ([(3, 3)], "ii->i", "takes a diagonal"),
        ([(3, 4)], "ij->i", "sums along an axis that one value alone has"),
        ([(3, 4), (4, 5)], "ij,jk->k", "sums along an axis that one value alone has"),
        ([(3, 4), (4, 5), (5, 6)], "ij,jk,kl->il", "multiplies 3 values"),
    ],
)
def test_others_are_refused_by_name(tmp_path, shapes, equation, why):
    b = graphs.Builder(0, 17)
    inputs = [b.input(*shape, name=f"x{at}") for at, shape in enumerate(shapes)]
    y = b.node("Einsum", *inputs, equation=equation, shape=())
    path = b.save(tmp_path / "m.onnx", b.node("Tanh", y))
    with pytest.raises(ActivsparseError, match=rf"{y}' \(Einsum\): .*{why}"):
        Session(path)
    session = Session(path, fallback="onnxruntime")
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
