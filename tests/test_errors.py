"""What an error says, and that each interface is answered in its own words."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import activsparse
from activsparse.cli.wording import spell
from activsparse.errors import ActivsparseError, Call, Option, Setting

SOURCES = Path(activsparse.__file__).parent


@pytest.mark.parametrize(
    ("named", "python", "command_line"),
    [
        (Option("input_shapes"), "input_shapes", "--input-shape"),
        (
            Option("input_shapes", {"x": (1, 3, 8, 9)}),
            "input_shapes={'x': (1, 3, 8, 9)}",
            "--input-shape x=1x3x8x9",
        ),
        (Option("input_size", (8, 9)), "input_size=(8, 9)", "--input-size 8x9"),
        (Option("fallback", "onnxruntime"), "fallback='onnxruntime'", "--fallback onnxruntime"),
        (Option("tune", False), "tune=False", "--no-tune"),
        (Option("replace", True), "replace=True", "--replace"),
        (Option("kernel_sizes"), "kernel_sizes", "--kernel-sizes"),
        (Option("overrides", "a b"), "overrides='a b'", "--set 'a b'"),
        (Setting("data.name", "digits"), "data.name=digits", "--set data.name=digits"),
        (
            Call("activsparse.train.trainer.resume", ("runs/x y",)),
            "activsparse.train.trainer.resume('runs/x y')",
            "activsparse train --resume 'runs/x y'",
        ),
    ],
)
def test_each_interface_has_its_own_words(named, python: str, command_line: str):
    inner = ActivsparseError("give ", named)
    error = ActivsparseError("m.onnx: ", inner, " or leave it")
    assert str(error) == f"m.onnx: give {python} or leave it"
    assert error.worded(spell) == f"m.onnx: give {command_line} or leave it"
    for again in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert str(again) == str(error)


def test_a_line_is_one_line_without_control_characters():
    error = ActivsparseError("a\nb: node '\x1b[31m\x00é' is\r\n  odd")
    assert error.worded(spell) == r"a b: node '\x1b[31m\x00é' is odd"


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal that is no docstring."""
    tree = ast.parse(path.read_text())
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def raised(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal within a call that makes an error."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("Error", ".fail")):
            for node in ast.walk(call):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.lineno, node.value


def test_only_the_command_line_names_its_options():
    files = [p for p in SOURCES.rglob("*.py") if "cli" not in p.relative_to(SOURCES).parts]
    found = [f"{p}:{n}: {t}" for p in files for n, t in texts(p) if re.search(r"--[a-z]", t)]
    assert not found, "\n".join(found)


def test_no_error_spells_an_argument_of_python():
    # `a.b=c` is a recipe's key; C0=1 in a message is no argument's name.
    keyword = re.compile(r"(?<![\w.])[a-z_]{2,}=(?!=)")
    found = [
        f"{path}:{line}: {text}"
        for path in SOURCES.rglob("*.py")
        for line, text in raised(path)
        if keyword.search(text)
    ]
    assert not found, "\n".join(found)
