"""Which extra a command needs, as the README says: it does without all others, or names it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import activsparse
from activsparse.bench.engines import ENGINES
from activsparse.cli import COMMAND_EXTRAS, COMMANDS, EXTRAS

SOURCE = str(Path(activsparse.__file__).resolve().parents[1])
README = Path(__file__).parents[2] / "README.md"

WORDS = {
    "sparsify": "small_resnet --data digits --target-speedup 1.5 --out made",
    "mask": "dense.onnx --include-stem --sparsity 0.3 --out masked.onnx",
    "compile": "sparse.onnx --out model.plan",
    "info": "sparse.onnx",
    "explain": "sparse.onnx --repeat 1",
    "run": "sparse.onnx --input x.npy --output y.npy",
    "verify": "sparse.onnx",
    "check": "sparse.onnx",
    "bench": "--dense dense.onnx --sparse sparse.onnx --repeat 1",
    "train": "--recipe digits_tiles --out run",
    "export": "run --out out.onnx",
    "sensitivity": "run",
    "detect": "sparse.onnx picture.png",
    "report": "run --out report.html",
    "prune": "run --ratio 0.3 --out small",
    "plan": "run --target-speedup 1.5 --out plan.yaml",
    "calibrate": "--force --seconds 0.1",
    "quantize": "sparse.onnx --data x.npz --out q.onnx",
    "convert": "sparse.onnx --tflite out.tflite",
}


def documented() -> dict[str, str]:
    """Command to the first word of its extra in the README's table."""
    found = {}
    for line in README.read_text().splitlines():
        if row := re.fullmatch(r"\| (`[a-z`, ]+`) \| (?:`(\w+)`|none)[^|]* \|", line):
            found |= dict.fromkeys(re.findall(r"\w+", row[1]), row[2] or "")
    return found


def without_packages(folder: Path, command: str, installed: str) -> subprocess.CompletedProcess:
    """Run a command where only the packages of one extra can be imported."""
    missing = [package for package, extra in EXTRAS.items() if extra != installed]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing}))\n"
        "from activsparse.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, command, *WORDS[command].split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCE, "ACTIVSPARSE_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_readme_has_every_command():
    assert sorted(documented()) == sorted(COMMANDS)


def test_every_hint_names_an_extra_that_exists():
    project = (README.parent / "pyproject.toml").read_text()
    section = project.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE))
    sources = [*Path(SOURCE, "activsparse").rglob("*.py"), *README.parent.glob("docs/*.md"), README]
    hints = r"pip install '?(?:\.|\./|activsparse)*\[([\w,]+)\]"
    named = {path: re.findall(hints, path.read_text()) for path in sources}
    named[Path("cli")] = [*EXTRAS.values(), *COMMAND_EXTRAS.values()]
    named[Path("bench/engines")] = [engine.extra for engine in ENGINES.values() if engine.extra]
    assert sum(map(len, named.values())) > 20
    for path, hint in named.items():
        assert {extra for words in hint for extra in words.split(",")} <= extras, path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_its_extra_names_it(command, dense, sparse, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    np.savez(tmp_path / "x.npz", np.ones((4, 3, 8, 8), np.float32))
    extra = documented()[command]
    result = without_packages(tmp_path, command, installed="")
    if not extra:
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"pip install 'activsparse[{extra}]'" in line


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_a_command_does_with_its_extra_alone(command, dense, sparse, tmp_path):
    result = without_packages(tmp_path, command, installed=documented()[command])
    assert result.returncode == 0, result.stderr


def test_the_onnxruntime_module_without_onnxruntime(monkeypatch):
    from activsparse import ActivsparseError, onnxruntime

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for call in (onnxruntime.register, lambda options: onnxruntime.add_provider(options, "x.plan")):
        with pytest.raises(ActivsparseError, match=r"pip install 'activsparse\[bench\]'"):
            call(None)
