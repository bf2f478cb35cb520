"""The index of a graph's nodes follows every change, and the passes' work grows with the graph."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from activsparse.engine.graph import Node, Nodes
from activsparse.engine.load import load
from activsparse.engine.passes import fuse_inverted_residual, join_branches, optimise


@pytest.mark.parametrize("seed", range(20))
def test_the_index_is_that_of_a_plain_list(seed):
    rng = random.Random(seed)
    values = [f"v{i}" for i in range(12)]

    def node(i):
        inputs = tuple(rng.choices(values, k=rng.randint(1, 3)))
        return Node("op", f"n{i}", inputs, (f"o{i}", f"p{i}"))

    plain = [node(i) for i in range(10)]
    nodes = Nodes(plain)
    for step in range(30):
        if plain and rng.random() < 0.8:
            place = rng.randrange(len(plain))
            new = [node(100 + 10 * step + i) for i in range(rng.choice((0, 1, 1, 2)))]
            if rng.random() < 0.2:
                new.append(plain[place])
            nodes.replace(plain[place], *new)
            plain[place : place + 1] = new
        else:
            plain.append(node(1000 + step))
            nodes.append(plain[-1])
        assert nodes == plain, seed
        assert len(nodes) == len(plain)
        assert list(reversed(nodes)) == plain[::-1]
        assert [nodes.place(n) for n in plain] == sorted(nodes.place(n) for n in plain)
        for value in values:
            assert nodes.reads(value) == sum(n.inputs.count(value) for n in plain), (seed, value)
            assert nodes.readers(value) == [n for n in plain if value in n.inputs], (seed, value)
        for n in plain:
            assert all(nodes.producer(output) is n for output in n.outputs)
        assert nodes.producer("nobody") is None


def test_a_walk_meets_what_is_put_ahead_and_not_what_is_gone():
    a, b, c = (Node("op", name, (), (name,)) for name in "abc")
    nodes, met = Nodes([a, b, c]), []
    for node in nodes:
        met.append(node.name)
        if node is a:
            nodes.replace(c, Node("op", "d", (), ("d",)))
            nodes.replace(b)
    assert met == ["a", "d"]


def chain(blocks, path):
    """Blocks of a pad, a convolution, a norm, a SiLU written out and a residual addition."""
    nodes, constants, x = [], [], "x"
    pads = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads")
    for i in range(blocks):
        weight = np.full((4, 4, 3, 3), 0.1, np.float32)
        constants.append(numpy_helper.from_array(weight, f"w{i}"))
        constants += [numpy_helper.from_array(np.ones(4, np.float32), f"{n}{i}") for n in "sbmv"]
        nodes += [
            helper.make_node("Pad", [x, "pads"], [f"p{i}"]),
            helper.make_node("Conv", [f"p{i}", f"w{i}"], [f"c{i}"]),
            helper.make_node(
                "BatchNormalization", [f"c{i}", *(f"{n}{i}" for n in "sbmv")], [f"n{i}"]
            ),
            helper.make_node("Sigmoid", [f"n{i}"], [f"g{i}"]),
            helper.make_node("Mul", [f"n{i}", f"g{i}"], [f"a{i}"]),
            helper.make_node("Add", [f"a{i}", x], [f"x{i}"]),
        ]
        x = f"x{i}"
    shape = (1, 4, 8, 8)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
        [pads, *constants],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def test_the_passes_take_twice_the_steps_for_twice_the_nodes(tmp_path):
    def steps(blocks):
        chain(blocks, tmp_path / "chain.onnx")
        graph = load(tmp_path / "chain.onnx")
        count = 0

        def trace(frame, event, arg):
            nonlocal count
            if "activsparse" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            join_branches(fuse_inverted_residual(optimise(graph)))
        finally:
            sys.settrace(before)
        return count

    assert steps(64) < 2.1 * steps(32)
