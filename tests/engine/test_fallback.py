"""Parts of a model in ONNX Runtime, on request only."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest
from onnx import helper

from activsparse import ActivsparseError, Session
from activsparse.cli import main
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.export.read import read_masks


def mixed(tmp_path, *extra):
    """Convolutions around a hyperbolic sine; the second result says which is the largest."""
    b = graphs.Builder(0)
    x = b.input(1, 3, 8, 8)
    first = b.conv(x, 16)
    odd = b.node("Sinh", first)
    last = b.conv(b.node("Add", b.node("Relu", odd), first), 8)
    flat = b.node("Flatten", last, shape=(1, 512))
    best = b.node("Hardmax", flat, axis=1)
    return b.save(tmp_path / "mixed.onnx", last, best, *extra)


def test_an_unknown_operator_is_an_error_by_default(tmp_path):
    with pytest.raises(ActivsparseError, match=r"\(Sinh\) is not an operator.*fallback"):
        Session(mixed(tmp_path))


def test_unknown_operators_run_in_onnxruntime_on_request(tmp_path):
    path = mixed(tmp_path)
    session = Session(path, fallback="onnxruntime", threads=2)
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
    rows = session.profile(3)
    foreign = [row for row in rows if row.algorithm == "onnxruntime"]
    # `last` is a result, and so it has left this engine before it is flattened.
    assert [row.kind for row in foreign] == ["Sinh", "Flatten Hardmax"]
    assert all(row.time_ms is not None and "ONNX Runtime" in row.reason for row in foreign)
    assert [row.kind for row in rows].count("conv") == 2
    with pytest.raises(ActivsparseError, match="a plan cannot hold"):
        session.save(tmp_path / "mixed.plan")


def test_nothing_falls_back_that_need_not(tmp_path):
    b = graphs.Builder(1)
    path = b.save(tmp_path / "plain.onnx", b.node("Relu", b.conv(b.input(1, 3, 8, 8), 4)))
    session = Session(path, fallback="onnxruntime")
    assert [row.kind for row in session.explain()] == ["conv", "to_nchw"]
    session.save(tmp_path / "plain.plan")
    np.testing.assert_array_equal(
        Session(tmp_path / "plain.plan").run(np.ones((1, 3, 8, 8), np.float32)),
        session.run(np.ones((1, 3, 8, 8), np.float32)),
    )


def test_a_fill_by_nearest_positions_does_not_fall_back(tmp_path):
    b = graphs.Builder(3)
    filled = b.node("Relu", b.fill(b.conv(b.input(1, 3, 8, 8), 16)))
    path = b.save(tmp_path / "fill.onnx", b.conv(b.node("Sinh", filled), 8))
    session = Session(path, fallback="onnxruntime")
    kinds = [row.kind for row in session.explain() if row.algorithm == "onnxruntime"]
    assert kinds == ["Sinh"]
    assert session.explain()[0].achieved > 0
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row


def test_sizes_known_only_at_run_time_stay_there(tmp_path):
    b = graphs.Builder(2)
    features = b.conv(b.input(1, 3, 8, 8), 4)
    found = b.node("NonZero", b.node("Relu", features))
    path = b.save(tmp_path / "open.onnx", b.node("Cast", found, to=1))
    session = Session(path, fallback="onnxruntime")
    assert session.outputs[0][1] == ()
    y = session.run(np.ones((1, 3, 8, 8), np.float32))
    assert y.shape[0] == 4


def test_the_command_line_option(tmp_path, capsys):
    path = mixed(tmp_path)
    assert main(["explain", str(path), "--repeat", "1"]) == 2
    assert main(["explain", str(path), "--repeat", "1", "--fallback", "onnxruntime"]) == 0
    printed = capsys.readouterr().out
    assert "Sinh onnxruntime" in printed
    assert printed.index("Hardmax") < printed.index("n_v0_conv")


def test_what_nobody_reads_is_left_out(tmp_path):
    b = graphs.Builder(5)
    kept = b.node("Relu", b.conv(b.input(1, 3, 8, 8), 8))
    b.node("Sinh", b.conv(b.node("Sinh", kept), 4))
    path = b.save(tmp_path / "dead.onnx", kept)
    session = Session(path, fallback="onnxruntime")
    assert [row.kind for row in session.explain()] == ["conv", "to_nchw"]
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row


def test_what_only_lowering_refuses_falls_back(tmp_path):
    """A value of more axes than views have, which must be copied, stops a part as a whole."""
    b = graphs.Builder(7)
    x = b.conv(b.input(1, 3, 16, 16), 8)
    cut = b.node("Reshape", x, b.constant(np.array([2] * 11)), shape=(2,) * 11)
    order = [*range(0, 11, 2), *range(1, 11, 2)]
    moved = b.node("Transpose", b.node("Relu", cut), perm=order)
    whole = b.node("Reshape", moved, b.constant(np.array([1, 8, 16, 16])), shape=(1, 8, 16, 16))
    path = b.save(tmp_path / "axes.onnx", b.conv(whole, 8))
    session = Session(path, fallback="onnxruntime")
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
    rows = session.explain()
    foreign = [row.kind for row in rows if row.algorithm == "onnxruntime"]
    assert foreign
    assert set(" ".join(foreign).split()) <= {"Relu", "Reshape", "Transpose"}
    assert [row.kind for row in rows].count("conv") == 2


def test_operators_of_other_domains_run_there(tmp_path):
    """ONNX Runtime's own ones, which quantisers and optimisers write, and they alone."""
    b = graphs.Builder(11)
    x = b.conv(b.node("Relu", b.conv(b.input(1, 3, 8, 8), 8)), 8)
    odd = b.node("FastGelu", x, domain="com.microsoft")
    path = b.save(tmp_path / "m.onnx", b.conv(b.conv(odd, 8), 8))
    model = onnx.load(path)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    described = onnx.helper.make_tensor_value_info(model.graph.output[0].name, 1, [1, 8, 8, 8])
    model.graph.output[0].CopyFrom(described)
    onnx.save(model, path)
    with pytest.raises(ActivsparseError, match=r"domain 'com\.microsoft'.*fallback"):
        Session(path)
    masked = tmp_path / "masked.onnx"
    assert main(["mask", str(path), "--sparsity", "0.3", "--out", str(masked)]) == 0
    assert len(read_masks(masked)) == 2  # the last one is the answer
    for file in (path, masked):
        session = Session(file, fallback="onnxruntime")
        foreign = [row for row in session.explain() if row.algorithm == "onnxruntime"]
        assert [row.kind for row in foreign] == ["FastGelu@com.microsoft"]
        for row in compare_with_onnxruntime(file, session):
            assert row.holds, row


def test_an_operator_that_no_tool_knows_leaves_nothing_behind(tmp_path, monkeypatch, capfd):
    """ONNX Runtime's shape inference would write a file into the working folder."""
    b = graphs.Builder(12)
    odd = b.node("Unheard", b.conv(b.input(1, 3, 8, 8), 8), domain="com.example")
    path = b.save(tmp_path / "m.onnx", b.conv(odd, 8))
    model = onnx.load(path)
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    masked = main(["mask", str(path), "--sparsity", "0.3", "--out", str(tmp_path / "o.onnx")])
    with pytest.raises(ActivsparseError):
        Session(path, fallback="onnxruntime")
    assert sorted(tmp_path.iterdir()) == sorted(
        [*before, *([] if masked else [tmp_path / "o.onnx"])]
    )
    assert "symbolic" not in capfd.readouterr().err


def _rarer(b, case):
    """Something this engine does not do, though it may know the operator."""
    x = b.conv(b.input(1, 3, 8, 8), 4)
    if case == "indices":
        b.nodes.append(helper.make_node("MaxPool", [x], ["m", "i"], "n", kernel_shape=[2, 2]))
        b.nodes[-1].attribute.append(helper.make_attribute("strides", [2, 2]))
        return b.node(
            "MaxUnpool", "m", "i", kernel_shape=[2, 2], strides=[2, 2], shape=(1, 4, 8, 8)
        )
    if case == "grid":
        grid = b.constant(b.normal(1, 5, 6, 2))
        return b.node("GridSample", x, grid, shape=(1, 4, 5, 6))
    if case == "kernel":
        kernel = b.node("Reshape", x, b.constant(np.array([4, 4, 4, 4])), shape=(4, 4, 4, 4))
        return b.node("Conv", x, kernel, shape=(1, 4, 5, 5))
    cube = b.node("Reshape", x, b.constant(np.array([1, 4, 4, 4, 4])), shape=(1, 4, 4, 4, 4))
    if case == "conv3d":
        return b.node("Conv", cube, b.constant(b.normal(3, 4, 2, 2, 2)), shape=(1, 3, 3, 3, 3))
    if case == "convtranspose3d":
        return b.node("ConvTranspose", cube, b.constant(b.normal(4, 3, 2, 2, 2)))
    if case == "pool3d":
        return b.node("MaxPool", cube, kernel_shape=[2, 2, 2])
    if case == "resize3d":
        return b.node("Resize", cube, "", b.constant(np.float32([1, 1, 2, 2, 2])))
    if case == "power":
        return b.node("Pow", b.node("Abs", x), b.constant(np.float32(1.37)))
    if case == "slopes":
        return b.node("PRelu", x, b.node("GlobalAveragePool", x, shape=(1, 4, 1, 1)))
    if case == "norm":
        table = b.node("ReduceMean", x, b.constant(np.array([0, 2, 3])), keepdims=0, shape=(4,))
        one = b.node("Exp", table, shape=(4,))
        return b.node("BatchNormalization", x, one, one, table, one)
    if case == "gather":
        best = b.node("ArgMax", x, axis=3, shape=(1, 4, 8, 1))
        return b.node("GatherElements", x, best, axis=3, shape=(1, 4, 8, 1))
    if case == "last":
        return b.node("Cast", b.node("ArgMax", x, axis=1, select_last_index=1), to=1)
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        *("conv3d", "convtranspose3d", "gather", "grid", "indices", "kernel", "last", "norm"),
        *("pool3d", "power", "resize3d", "slopes"),
    ],
)
def test_what_is_not_done_is_refused_in_a_line_that_names_node_and_fallback(tmp_path, case):
    b = graphs.Builder(len(case))
    path = b.save(tmp_path / "m.onnx", _rarer(b, case))
    with pytest.raises(ActivsparseError, match=r"node 'n.*' \(\w+\).*fallback='onnxruntime'"):
        Session(path)
    oracle.check(path, context=case, fallback="onnxruntime")
