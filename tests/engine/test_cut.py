"""Where networks are cut between two engines: no more passes than has to, and results stay."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.cut import cut, passed_elements
from activsparse.engine.load import load
from activsparse.engine.passes.infer import infer
from activsparse.engine.verify import compare_with_onnxruntime

FOREIGN = "Sinh"


def natives(graph) -> list[bool]:
    return [node.op != FOREIGN for node in graph.nodes]


def drawn(b, seed):
    """A random network of convolutions, cheap operators and operators of another engine."""
    rng = np.random.default_rng(seed)
    values = [b.input(1, 8, 8, 8)]
    for _ in range(int(rng.integers(6, 20))):
        x = values[int(rng.integers(max(0, len(values) - 3), len(values)))]
        kind = rng.choice(["conv", "Relu", "Add", FOREIGN, "Sigmoid", "Slice"])
        if kind == "conv":
            values.append(b.conv(x, 8))
        elif kind == "Add":
            values.append(b.node("Add", x, values[int(rng.integers(len(values)))]))
        elif kind == "Slice":
            ends = [b.constant(np.array([v])) for v in (0, 4, 1)]
            half = b.node("Slice", x, *ends, shape=(1, 4, 8, 8))
            values.append(b.node("Concat", half, half, axis=1, shape=(1, 8, 8, 8)))
        else:
            values.append(b.node(kind, x))
    return dict.fromkeys([values[-1], b.node(FOREIGN, values[-2])])


@pytest.mark.parametrize("seed", range(12))
def test_less_passes_and_results_stay(tmp_path, seed):
    b = graphs.Builder(seed)
    path = b.save(tmp_path / "m.onnx", *drawn(b, seed))
    graph = infer(load(path, None, foreign=True), lenient=True)
    before = natives(graph)
    after = cut(graph, before)
    assert all(was or not shall for was, shall in zip(before, after, strict=True)), seed
    assert passed_elements(graph, after) <= passed_elements(graph, before), seed
    kept = [node.op for node, ours in zip(graph.nodes, after, strict=True) if ours]
    assert kept.count("Conv") == [node.op for node in graph.nodes].count("Conv"), seed
    session = Session(path, fallback="onnxruntime", tune=False)
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, (seed, row)


def foreign_kinds(path) -> list[str]:
    rows = Session(path, fallback="onnxruntime", tune=False).explain()
    return [row.kind for row in rows if row.algorithm == "onnxruntime"]


def test_what_lies_between_two_foreign_nodes_stays_there(tmp_path):
    b = graphs.Builder(0)
    x = b.node(FOREIGN, b.conv(b.input(1, 3, 8, 8), 8))
    x = b.node(FOREIGN, b.node("Relu", b.node("Add", x, x)))
    path = b.save(tmp_path / "m.onnx", b.conv(x, 4))
    assert foreign_kinds(path) == [f"{FOREIGN} Add Relu"]


def test_a_map_grows_behind_the_cut(tmp_path):
    """Small values pass, and are made large on the other side."""
    b = graphs.Builder(0)
    x = b.conv(b.input(1, 3, 8, 8), 8)
    scales = b.constant(np.array([1, 1, 4, 4], np.float32))
    large = b.node("Resize", x, "", scales, mode="nearest", shape=(1, 8, 32, 32))
    path = b.save(tmp_path / "m.onnx", b.node(FOREIGN, large))
    assert foreign_kinds(path) == [f"Resize {FOREIGN}"]
    # Where the engine itself reads it as well, it is made here.
    b.conv(large, 4)
    path = b.save(tmp_path / "both.onnx", b.node(FOREIGN, large), b.conv(large, 4))
    assert foreign_kinds(path) == [FOREIGN]


def test_without_foreign_nodes_nothing_is_handed_over(tmp_path):
    b = graphs.Builder(0)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.input(1, 3, 8, 8)))
    graph = infer(load(path, None))
    assert cut(graph, natives(graph)) == [True]
    assert passed_elements(graph, [True]) == 2 * 3 * 8 * 8
