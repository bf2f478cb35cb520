"""Who may import whom: the rules of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
import importlib
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


# From the ground up: a part imports those of earlier storeys and its own only.
STOREYS = (
    ("_native", "errors", "names", "values"),
    ("files", "input_sizes", "overwrite", "distributed", "pictures", "yaml_text"),
    ("masks",),
    ("onnx_file",),
    ("data", "models"),
    ("train.recipes",),
    ("train.learning", "train.sparsify"),
    ("detect", "export"),
    ("train.tasks", "train.run"),
    ("train.plan",),
    ("train.callbacks",),
    ("train.prune",),
    ("train.phase",),
    ("train",),
    ("engine",),
    ("litert", "onnxruntime"),
    ("bench",),
    ("report",),
    ("pipeline", "quantisation", "api"),
    ("cli",),
)
# A registry of data sets names the one that builds on it.
UPWARD = {("data/registry.py", "detect.registry")}
# Beside the house: what takes names from all of it when they are first used, and what leads there.
OPEN = {"__init__.py", "__main__.py", "train/__init__.py", "export/__init__.py"}


def storey(name: str) -> int | None:
    """The storey of a module, by its longest prefix there is."""
    found = [
        (len(part), height)
        for height, parts in enumerate(STOREYS)
        for part in parts
        if f"{name}.".startswith(f"{part}.")
    ]
    return max(found)[1] if found else None


def test_no_arrow_runs_up():
    for source in sorted(ROOT.rglob("*.py")):
        path = source.relative_to(ROOT)
        if str(path) in OPEN or "former" in path.parts:
            continue
        own = storey(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
        assert own is not None, f"{path} has no storey in tests/test_imports.py"
        for name in imported_names(source):
            if not name.startswith("activsparse."):
                continue
            target = name.removeprefix("activsparse.")
            height = storey(target)
            if height is not None and (str(path), target) not in UPWARD:
                assert height <= own or any(
                    target.startswith(f"{upper}.") and str(path) == lower for lower, upper in UPWARD
                ), f"{path} imports {target} of a higher storey"


def test_rooms_are_on_their_own_storeys():
    """Every package of the training half has a storey of its own, not the whole half's."""
    top = storey("train")
    for room in sorted((ROOT / "train").iterdir()):
        if (room / "__init__.py").exists():
            assert storey(f"train.{room.name}") != top, room


@pytest.mark.parametrize("module", sorted(p.stem for p in (ROOT / "train/former").glob("*.py")))
def test_what_imported_modules_from_where_they_were_goes_on(module: str):
    pytest.importorskip("pytorch_lightning")
    former = importlib.import_module(f"activsparse.train.{module}")
    homes = {value.__module__ for value in vars(former).values() if hasattr(value, "__module__")}
    assert former.__all__
    assert not any("former" in home for home in homes)
