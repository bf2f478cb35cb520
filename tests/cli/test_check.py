"""`activsparse check`: a line on each network, whatever becomes of it."""

from __future__ import annotations

import csv

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from activsparse.cli import main


def write(path, nodes, shape=(1, 3, 16, 16), constants=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return str(path)


@pytest.fixture
def open_size(tmp_path):
    rng = np.random.default_rng(0)
    weights = [(n, rng.standard_normal((8, i, 3, 3), np.float32)) for n, i in (("a", 3), ("b", 8))]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"], strides=[2, 2], pads=[1] * 4),
    ]
    return write(tmp_path / "open.onnx", nodes, (1, 3, "h", "w"), weights)


@pytest.fixture
def unknown(tmp_path):
    return write(tmp_path / "unknown.onnx", [helper.make_node("Cosh", ["x"], ["y"])])


def lines(capsys, *words, status):
    assert main(["check", *map(str, words)]) == status
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


def test_a_line_each_and_none_stops_the_others(dense, open_size, unknown, tmp_path, capsys):
    table = tmp_path / "found.csv"
    words = (unknown, tmp_path / "none.onnx", dense, open_size, "--input-size", "16x16")
    stops, missing, runs, sized = lines(capsys, *words, "--csv", table, status=1)
    assert stops.startswith(f"{unknown}: dense stops: {unknown}: ")
    assert "--fallback onnxruntime" in stops
    assert "none.onnx: dense stops: " in missing
    assert runs.startswith(f"{dense}: dense stops") or "dense holds; masked holds" in runs
    assert sized.startswith(f"{open_size}: dense holds; masked holds (1 layers at 0.3)")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [str(word) for word in words[:4]]
    assert float(rows[3]["relative_error"]) < 1e-4


def test_what_the_engine_leaves_to_another_holds(unknown, capsys):
    (line,) = lines(capsys, unknown, "--fallback", "onnxruntime", status=0)
    assert line == f"{unknown}: dense holds; nothing to mask"


def test_what_a_file_leaves_open_becomes_a_common_image(open_size, tmp_path, capsys):
    pool = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2])
    last = write(tmp_path / "last.onnx", [pool], ("n", "h", "w", 3))
    first, second = lines(capsys, open_size, last, status=0)
    assert first.startswith(f"{open_size} at x=1x3x224x224: dense holds; masked holds (1 layers")
    assert second == f"{last} at x=1x224x224x3: dense holds; nothing to mask"
    (given,) = lines(capsys, open_size, "--input-shape", "x=1x3x16x16", status=0)
    assert given.startswith(f"{open_size}: dense holds")
    (without,) = lines(capsys, write(tmp_path / "none.onnx", [pool], None), status=0)
    assert " at x=1x3x224x224: dense holds" in without


def test_times_stand_beside_the_fastest_other(open_size, monkeypatch, capsys):
    monkeypatch.setattr("activsparse.bench.machine.busy_cores", lambda: 0.0)
    words = (open_size, "--input-size", "64x64", "--time", "--repeat", "3", "--sparsity", "0.5")
    (line,) = lines(capsys, *words, status=0)
    assert "(1 layers at 0.5)" in line
    assert " ms, masked " in line
    assert "times as fast as " in line


def test_times_on_a_busy_machine_are_told_to_be_less_certain(
    open_size, monkeypatch, capsys, caplog
):
    words = (open_size, "--input-size", "64x64", "--repeat", "1")
    monkeypatch.setattr("activsparse.bench.machine.busy_cores", lambda: 1.5)
    assert main(["check", *words]) == 0
    assert not caplog.messages
    assert main(["check", *words, "--time"]) == 0
    (told,) = [text for text in caplog.messages if "busy" in text]
    assert "1.5 cores at work beside this" in told


def test_a_wrong_output_is_told(open_size, monkeypatch, capsys):
    from activsparse.engine.session import Session

    run = Session.run
    monkeypatch.setattr(Session, "run", lambda *a, **k: 1.01 * run(*a, **k))
    (line,) = lines(capsys, open_size, "--input-size", "16x16", status=1)
    assert "dense WRONG: output 'y', error " in line


@pytest.mark.slow
def test_networks_by_name(capsys):
    pytest.importorskip("torchvision")
    good, bad = lines(capsys, "squeezenet1_1", "nosuchnet", "--input-size", "64x64", status=1)
    assert good.startswith("squeezenet1_1: dense holds; masked holds (")
    assert bad.startswith("nosuchnet: dense stops: model 'nosuchnet' is unknown")


def test_a_plan_is_told_to_be_one(dense, tmp_path, capsys):
    plan = str(tmp_path / "dense.plan")
    assert main(["compile", str(dense), "--out", plan]) == 0
    capsys.readouterr()
    (line,) = lines(capsys, plan, status=1)
    assert line.endswith("cannot run a compiled plan; name the model it was compiled from")


def test_a_table_that_cannot_be_written_stops_at_once(dense, tmp_path, capsys):
    assert main(["check", str(dense), "--csv", str(tmp_path / "none" / "x.csv")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "none" in printed.err


def test_a_quantised_file_has_nothing_to_mask(tmp_path, capsys):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    weight = np.random.default_rng(0).standard_normal((8, 3, 3, 3), np.float32)
    constants = [("s", np.float32(0.05)), ("z", np.uint8(128)), ("w", weight)]
    path = write(tmp_path / "q.onnx", nodes, constants=constants)
    (line,) = lines(capsys, path, status=0)
    assert line == f"{path}: dense holds; nothing to mask"


def test_an_unknown_operator_is_named_in_one_short_line(unknown, capsys):
    (line,) = lines(capsys, unknown, status=1)
    assert "node 'y' (Cosh) is not an operator this engine runs" in line
    assert "--fallback onnxruntime" in line
    assert "MaxPool" not in line


def test_where_heads_are_all_there_is_the_option_that_masks_them_is_named(tmp_path, capsys):
    from activsparse.cli import main as command

    weights = [
        (name, np.random.default_rng(0).standard_normal((8, i, 3, 3), np.float32))
        for name, i in (("a", 3), ("b", 8))
    ]
    weights[1] = ("b", weights[1][1][:3, :, :1, :1].copy())
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], pads=[1] * 4),
        helper.make_node("Conv", ["h", "b"], ["y"]),
    ]
    path = write(tmp_path / "heads.onnx", nodes, constants=weights)
    out = str(tmp_path / "m.onnx")
    assert command(["mask", path, "--sparsity", "0.3", "--include-stem", "--out", out]) in (0, 2)
    assert command(["mask", path, "--sparsity", "0.3", "--out", out]) == 2
    error = capsys.readouterr().err
    assert "use --include-stem or --include-head" in error
    words = ["mask", path, "--sparsity", "0.3", "--out", out, "--include-head"]
    assert command(words) == 0
