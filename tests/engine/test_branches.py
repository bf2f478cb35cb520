"""Files with control flow: an `If` whose condition is known goes, the rest a fallback runs."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, Session, cli
from activsparse.export.read import read_masks

FLOAT = TensorProto.FLOAT


def body(name: str, nodes, outputs, constants=()) -> onnx.GraphProto:
    """A sub-graph; what it does not write itself, it reads from outside."""
    values = [helper.make_tensor_value_info(output, FLOAT, None) for output in outputs]
    made = [helper.make_node(op, i, o, name=f"{op}_{o[0]}", **more) for op, i, o, more in nodes]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    return helper.make_graph(made, name, [], values, tensors)


def conv_or_more(b: graphs.Builder, seen: str, weight: str, deep: bool = False):
    """Branches that share names of their values; the second holds a constant and passes one on."""
    same = {"pads": [1, 1, 1, 1]}
    then = body("then", [("Conv", [seen, weight], ["u"], same), ("Relu", ["u"], ["r"], {})], ["r"])
    nodes = [("Neg", [seen], ["u"], {}), ("Add", ["u", "k"], ["r"], {})]
    other = body("else", nodes, ["r"], [("k", b.normal(1, 8, 1, 1))])
    if deep:
        inner = helper.make_node("If", ["deep"], ["d"], then_branch=then, else_branch=other)
        nodes = [("Abs", [seen], ["v"], {})]
        then = body("outer", nodes, ["d"])
        then.node.append(inner)
        then.node.add().CopyFrom(helper.make_node("Mul", ["v", "d"], ["m"]))
        then.output[0].name = "m"
    return then, other


def network(tmp_path: Path, seed: int, known: bool, opset: int = 17, deep: bool = False) -> Path:
    """Two of them behind each other, on a tensor that an Identity hands on."""
    b = graphs.Builder(seed, opset)
    x = b.node("Identity", b.conv(b.input(1, 3, 10, 12), 8))
    weight = b.constant(b.normal(8, 8, 3, 3) / np.float32(8))
    b.constant(np.array(bool(b.rng.integers(2))), "deep")
    for _ in range(2):
        if known:
            sizes = b.node("Shape", x)
            channels = b.node("Gather", sizes, b.constant(np.array(1)))
            wanted = b.constant(np.array(int(b.rng.choice([8, 9]))))
            condition = b.node("Equal", channels, wanted)
        else:
            total = b.node("ReduceMean", x, keepdims=0)
            condition = b.node("Greater", total, b.constant(np.float32(b.rng.normal() / 50)))
        then, other = conv_or_more(b, x, weight, deep)
        shape = b.shapes[x]
        x = b.node("If", condition, shape=shape, then_branch=then, else_branch=other)
    y = b.conv(x, 4)
    return b.save(tmp_path / f"{seed}.onnx", y, x)


def expected(path: Path, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options).run(None, {"x": x})


def assert_same(session: Session, path: Path, x: np.ndarray) -> None:
    for y, z in zip(session.run(x), expected(path, x), strict=True):
        np.testing.assert_allclose(y, z, atol=1e-4 * max(1, np.abs(z).max()), err_msg=str(path))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("opset", [11, 17])
def test_of_a_known_condition_the_branch_taken_is_left(tmp_path, opset, deep):
    for seed in range(6):
        path = network(tmp_path, seed, known=True, opset=opset, deep=deep)
        x = np.random.default_rng(seed).standard_normal((1, 3, 10, 12), np.float32)
        assert_same(Session(path), path, x)


@pytest.mark.parametrize("deep", [False, True])
def test_of_one_that_is_not_a_fallback_runs_it(tmp_path, deep):
    for seed in range(4):
        path = network(tmp_path, seed, known=False, deep=deep)
        with pytest.raises(ActivsparseError, match=r"\(If\) chooses by a value that only a run kn"):
            Session(path)
        session = Session(path, fallback="onnxruntime")
        assert any(row.algorithm == "onnxruntime" for row in session.explain())
        assert any(row.kind.startswith("conv") for row in session.explain())
        for draw in range(4):
            x = np.random.default_rng(draw).standard_normal((1, 3, 10, 12), np.float32)
            assert_same(session, path, x)


def test_float16_branches_are_widened(tmp_path):
    half = TensorProto.FLOAT16
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float16)
    values = [("w", weight), ("yes", np.array(True))]
    then = helper.make_graph(
        [helper.make_node("Mul", ["c", "two"], ["m"])],
        "then",
        [],
        [helper.make_tensor_value_info("m", half, None)],
        [numpy_helper.from_array(np.array(2, np.float16), "two")],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=then),
        ],
        "half",
        [helper.make_tensor_value_info("x", half, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", half, (1, 4, 6, 6))],
        [numpy_helper.from_array(value, name) for name, value in values],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float16)
    (z,) = expected(tmp_path / "m.onnx", x)
    y = Session(tmp_path / "m.onnx").run(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float32), z.astype(np.float32), atol=0.05)


def test_a_loop_is_left_to_the_fallback(tmp_path):
    b = graphs.Builder(3, 17)
    x = b.conv(b.input(1, 3, 10, 12), 8)
    state = helper.make_tensor_value_info("s", FLOAT, (1, 8, 10, 12))
    inner = helper.make_graph(
        [
            helper.make_node("Mul", ["s", x], ["t"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "loop",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, ()),
            state,
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("t", FLOAT, (1, 8, 10, 12)),
        ],
    )
    count = b.constant(np.array(3))
    y = b.node("Loop", count, "", x, body=inner, shape=(1, 8, 10, 12))
    path = b.save(tmp_path / "m.onnx", b.conv(y, 4), x)
    with pytest.raises(ActivsparseError, match=r"\(Loop\) holds a sub-graph; .*fallback"):
        Session(path)
    x = np.random.default_rng(0).standard_normal((1, 3, 10, 12), np.float32)
    assert_same(Session(path, fallback="onnxruntime"), path, x)


@pytest.mark.parametrize("known", [True, False])
def test_every_command_takes_such_a_file(tmp_path, known, capsys):
    path = network(tmp_path, 1, known)
    fallback = [] if known else ["--fallback", "onnxruntime"]
    assert cli.main(["info", str(path)]) == 0
    assert cli.main(["verify", str(path), *fallback]) == 0
    assert cli.main(["explain", str(path), *fallback]) == 0
    masked = tmp_path / "masked.onnx"
    command = ["mask", str(path), "--sparsity", "0.3", "--pattern", "lattice"]
    assert cli.main([*command, "--out", str(masked), "--include-stem"]) == 0
    assert read_masks(masked)
    assert cli.main(["verify", str(masked), *fallback]) == 0


def test_damaged_branches_are_refused_in_a_line(tmp_path):
    def damaged(change) -> str:
        model = onnx.load(network(tmp_path, 0, known=True))
        node = next(node for node in model.graph.node if node.op_type == "If")
        change(node)
        onnx.save(model, tmp_path / "damaged.onnx")
        with pytest.raises(ActivsparseError) as error:
            Session(tmp_path / "damaged.onnx")
        return str(error.value)

    def then(node: onnx.NodeProto) -> onnx.GraphProto:
        return next(a.g for a in node.attribute if a.name == "then_branch")

    assert "needs a condition and two branches" in damaged(lambda node: node.attribute.pop())
    assert "needs a condition and two branches" in damaged(lambda node: node.input.append("x"))
    for kind in set(onnx.AttributeProto.AttributeType.values()) - {onnx.AttributeProto.GRAPH}:
        assert "(If)" in damaged(lambda n, kind=kind: setattr(n.attribute[0], "type", kind))
    assert "which nothing writes" in damaged(lambda n: then(n).node[0].input.__setitem__(0, "?"))
    assert "is never written" in damaged(lambda n: setattr(then(n).output[0], "name", "?"))
    assert "is written twice" in damaged(lambda n: then(n).node[0].output.__setitem__(0, "r"))


@pytest.mark.parametrize("operator", ["Greater", "Less", "Equal", "Add", "Mul", "Max", "Sub"])
@pytest.mark.parametrize("constant_first", [False, True])
def test_a_scalar_meets_a_scalar_constant(tmp_path, operator, constant_first):
    b = graphs.Builder(4, 17)
    total = b.node("ReduceMean", b.conv(b.input(1, 3, 10, 12), 4), keepdims=0, shape=())
    inputs = [total, b.constant(np.float32(0.25))]
    y = b.node(operator, *(inputs[::-1] if constant_first else inputs), shape=())
    kind = TensorProto.BOOL if operator in ("Greater", "Less", "Equal") else FLOAT
    path = b.save(tmp_path / "m.onnx", y)
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(y, kind, ()))
    onnx.save(model, path)
    x = np.random.default_rng(2).standard_normal((1, 3, 10, 12), np.float32)
    found, wanted = Session(path).run(x), expected(path, x)[0]
    assert found.shape == wanted.shape == ()
    np.testing.assert_allclose(np.float32(found), np.float32(wanted), atol=1e-5)
