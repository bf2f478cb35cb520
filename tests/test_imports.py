"""Who may import whom: the rules of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import activsparse

ROOT = Path(activsparse.__file__).parent

TORCH = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "timm"}
ENGINE = {"activsparse.engine", "activsparse._native", "activsparse.Session"}
TRAINING = {"activsparse.train", "activsparse.models", "activsparse.data", "activsparse.export"}

FORBIDDEN = {
    "train": ENGINE,
    "models": ENGINE,
    "data": ENGINE,
    "export": ENGINE,
    "detect": ENGINE,
    "engine": TORCH | TRAINING,
    "onnx_file": TORCH | TRAINING | ENGINE,
    "masks": TORCH | TRAINING | ENGINE | {"onnx"},
    "bench": TRAINING,
    "report": TORCH | TRAINING,
}


class WithoutTyping(ast.NodeTransformer):
    """Drops what only type checkers import."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if typing else self.generic_visit(node)


def imported_names(source: Path) -> set[str]:
    """Every module a file imports when it runs, and for `from m import n` also `m.n`."""
    names = set()
    tree = WithoutTyping().visit(ast.parse(source.read_text(encoding="utf-8")))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("part", FORBIDDEN)
def test_halves_stay_apart(part: str):
    for source in sorted((ROOT / part).rglob("*.py")):
        for name in imported_names(source):
            for forbidden in FORBIDDEN[part]:
                assert not f"{name}.".startswith(f"{forbidden}."), f"{source} imports {name}"


@pytest.mark.parametrize("statement", ["import activsparse", "import activsparse.masks"])
def test_import_loads_neither_torch_nor_onnx(statement: str):
    code = f"{statement}; import sys; sys.exit(bool({{'torch', 'onnx'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
