"""Names of layers, values and files are printed as they are: no markup, no emoji, no escapes."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import activsparse.cli
from activsparse.cli import main

NAMES = ("[/]", "[bold]x", "[red", ":snake:", "\\[x]", "$\\foo$", "<b>&amp;", "{0}%s")


def named_model(path: Path, name: str) -> Path:
    """Two convolutions, each value and node called `name` and more; a mask on the second."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape, np.float32) for shape in ((8, 3, 3, 3), (8, 8, 3, 3))]
    mask = np.float32(rng.random((1, 1, 16, 16)) > 0.5)
    nodes = [
        helper.make_node("Conv", [f"{name}in", f"{name}w"], ["a"], name=name, pads=[1] * 4),
        helper.make_node("Conv", ["a", f"{name}v"], ["b"], name=f"{name}{name}", pads=[1] * 4),
        helper.make_node("Mul", ["b", f"{name}.activation_mask"], [name], name=f"{name}mask"),
    ]
    graph = helper.make_graph(
        nodes,
        name or "g",
        [helper.make_tensor_value_info(f"{name}in", TensorProto.FLOAT, (1, 3, 16, 16))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8, 16, 16))],
        [
            numpy_helper.from_array(weights[0], f"{name}w"),
            numpy_helper.from_array(weights[1], f"{name}v"),
            numpy_helper.from_array(mask, f"{name}.activation_mask"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_commands_print_names_as_they_are(name, tmp_path, capsys):
    path = str(named_model(tmp_path / "[i]m.onnx", name))
    masked = str(tmp_path / ":tada:.onnx")
    for command in (
        ["explain", path, "--repeat", "1"],
        ["verify", path],
        ["mask", path, "--sparsity", "0.3", "--replace", "--out", masked],
        ["compile", path, "--out", str(tmp_path / "[b]plan")],
    ):
        assert main(command) == 0
        out = capsys.readouterr().out
        shown = command[-1] if command[0] == "compile" else name
        assert shown in out.replace("\n", ""), out


def test_control_characters_are_escaped(tmp_path, capsys):
    path = str(named_model(tmp_path / "m.onnx", "\x1b[2J\x07"))
    for command in (["explain", path, "--repeat", "1"], ["verify", path]):
        assert main(command) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        assert "\\x1b[2J\\x07" in out
    assert main(["explain", "no\x1b[2J\nfile"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error


def test_every_command_prints_on_a_plain_console():
    folder = Path(activsparse.cli.__file__).parent
    for source in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                plain = node.func.id != "Console" or source.name == "console.py"
                assert plain, f"{source}:{node.lineno}: use plain_console"
