"""The shell scripts are plain POSIX ones: run by the shells that users have, dash above all."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from activsparse import cli

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    [ROOT / "setup.sh", ROOT / ".ci" / "run", *ROOT.glob("*/*.sh")], key=lambda path: str(path)
)
SHELLS = [shell for shell in ("dash", "bash", "zsh", "busybox") if shutil.which(shell)]


def shell_words(shell: str) -> list[str]:
    return ["busybox", "sh"] if shell == "busybox" else [shell]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell != "zsh"])
def test_every_script_is_plain_sh(script: Path, shell: str):
    if script.name != "setup.sh":
        assert script.read_text().startswith("#!/bin/sh\n")
        assert os.access(script, os.X_OK)
    subprocess.run([*shell_words(shell), "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run(["shellcheck", "-s", "sh", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the scripts with this Python as `.venv`, and a `make` that has nothing to do."""
    tree = tmp_path / "a tree"
    for name in ("examples", "reproduce"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("setup.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.move(tmp_path / "setup.sh", tree)
    commands = tree / ".venv" / "bin"
    commands.mkdir(parents=True)
    write_command(commands / "python", f'exec "{sys.executable}" "$@"')
    write_command(commands / "activsparse", f'exec "{sys.executable}" -m activsparse "$@"')
    (commands / "activate").write_text("ACTIVATED=yes\n")
    (tmp_path / "path").mkdir()
    write_command(tmp_path / "path" / "make", 'exit "${MAKE_STATUS:-0}"')
    return tree


def write_command(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def environment(tree: Path, **more: str) -> dict[str, str]:
    path = f"{tree.parent / 'path'}:{os.environ['PATH']}"
    sources = os.pathsep.join([str(tree.parent), str(ROOT / "src")])
    return {**os.environ, "PATH": path, "PYTHONPATH": sources, **more}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_setup_activates_the_environment(tree: Path, shell: str, elsewhere: bool):
    told = shell in ("bash", "zsh")  # the others do not say which file they read
    file = tree / "setup.sh" if elsewhere else "./setup.sh"
    script = f"set -u; . '{file}' && echo \"$ACTIVATED\" || echo failed; pwd"
    where = tree.parent if elsewhere else tree
    done = subprocess.run(
        [*shell_words(shell), "-c", script],
        cwd=where,
        env=environment(tree),
        capture_output=True,
        text=True,
    )
    expected = "yes" if told or not elsewhere else "failed"
    assert done.stdout.split("\n") == [expected, str(where), ""], done
    assert done.returncode == 0
    assert ("change to its folder" in done.stderr) == (expected == "failed")


@pytest.mark.parametrize("shell", SHELLS)
def test_setup_does_not_end_the_shell_where_make_fails(tree: Path, shell: str):
    done = subprocess.run(
        [*shell_words(shell), "-c", ". ./setup.sh || echo still here"],
        cwd=tree,
        env=environment(tree, MAKE_STATUS="2"),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "still here\n"
    assert "make venv failed" in done.stderr


@pytest.mark.parametrize(
    ("script", "words", "first", "commands"),
    [
        ("run_fashion_mnist.sh", ["--epochs", "3"], "examples/demo.py --data fashion_mnist", 1),
        ("run_resnet18_flowers102.sh", ["--set", "seed=1"], "-m activsparse train --recipe", 4),
        ("run_yolov5n_scenes.sh", [], "reproduce/fashion_scenes.py --runs runs", 7),
        ("run_yolov5n_scenes.sh", ["out", "seed=1"], "reproduce/fashion_scenes.py --runs out", 7),
    ],
)
def test_examples_call_what_they_say(tree: Path, script, words, first, commands):
    log = tree.parent / "log"
    for name in ("python", "activsparse"):
        write_command(
            tree / ".venv" / "bin" / name, f'cat > /dev/null < /dev/null; echo "$@" >> "{log}"'
        )
    done = subprocess.run(
        ["sh", tree / "examples" / script, *words],
        env=environment(tree),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    assert lines[0].startswith(first)
    assert lines[0].endswith(words[-1] if words else "--set")
    assert len(lines) == commands


@pytest.mark.parametrize("quick", ["", "1"])
def test_solar_cells_are_one_command(tree: Path, quick: str):
    log = tree.parent / "log"
    for name in ("python", "activsparse"):
        write_command(tree / ".venv" / "bin" / name, f'echo "$@" >> "{log}"')
    subprocess.run(
        ["sh", tree / "examples" / "solar_cells.sh", "cells", "--threads", "2"],
        env=environment(tree, QUICK=quick),
        check=True,
    )
    data, command = log.read_text().splitlines()
    assert data == "reproduce/solar_cells.py --out cells"
    args = cli.build_parser("sparsify").parse_args(command.split())
    assert (args.model, args.weights) == ("timm:tf_efficientnet_lite0", "cells/lite0.pth")
    assert (args.data, args.threads, args.quick) == ("cells/fold0", 2, bool(quick))
    assert args.out == ("cells/quick_faster" if quick else "cells/faster")


@pytest.mark.slow
def test_the_trial_on_solar_cells_runs_to_its_end(tree: Path):
    # Smaller than the script's own trial: what is tried here is that its steps fit each other.
    smaller = ["--input-size", "64x64", "--target-speedup", "1.05"]
    script = ["sh", tree / "examples" / "solar_cells.sh", "cells", *smaller]
    done = subprocess.run(
        script, env=environment(tree, QUICK="1"), cwd=tree.parent, capture_output=True, text=True
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("pip finds no package of the photographs or weights")
    assert done.returncode == 0, done.stderr
    made = tree / "cells" / "quick_faster"
    assert "times as fast as your dense network here" in done.stdout
    assert "held-out images" in (made / "README.md").read_text()
    answers = np.load(made / "predictions.npz")
    often = np.bincount(answers["labels"]).max() / len(answers["labels"])
    assert (answers["dense"] == answers["labels"]).mean() > often, "learned nothing"
    subprocess.run(
        [sys.executable, "-m", "activsparse", "verify", made / "masked.onnx"], check=True
    )


def test_a_failing_step_ends_the_script(tree: Path):
    write_command(tree / ".venv" / "bin" / "python", "exit 2")
    script = tree / "examples" / "run_resnet18_flowers102.sh"
    assert subprocess.run(["sh", script], env=environment(tree)).returncode == 2


def write_flowers(folder: Path) -> None:
    """Oxford's 102 flowers in the published format, twelve of them; with torchvision's checksums.

    torchvision knows the published lists by their checksums, so that those of ours are put in their
    place for the processes that the script starts.
    """
    import scipy.io
    from PIL import Image

    base = folder / "flowers-102"
    (base / "jpg").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(1, 13):
        pixels = rng.integers(0, 256, (300, 240, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(base / "jpg" / f"image_{i:05}.jpg")
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.arange(1, 13)[None] * 8})
    parts = {"trnid": [1, 2, 3, 4, 5, 6], "valid": [7, 8, 9], "tstid": [10, 11, 12]}
    scipy.io.savemat(base / "setid.mat", {k: np.array([v]) for k, v in parts.items()})
    sums = {
        key: (name, hashlib.md5((base / name).read_bytes()).hexdigest())
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    (folder / "sitecustomize.py").write_text(
        f"import torchvision\ntorchvision.datasets.Flowers102._file_dict = {sums!r}\n"
    )


@pytest.mark.slow
def test_resnet18_on_flowers_runs_to_its_end(tree: Path):
    write_flowers(tree.parent)
    data = [f"data.root={tree.parent}", "data.batch_size=3", "data.workers=0", "data.image_size=64"]
    script = tree / "examples" / "run_resnet18_flowers102.sh"
    command = ["sh", script, "--set", "training.epochs=1", "model.weights=null", *data]
    done = subprocess.run(
        command, env=environment(tree, OUT="runs/flowers"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tree / "runs" / "flowers"
    made = {"sparse.onnx", "dense.onnx", "masks.h", "summary.json"}
    assert made <= {file.name for file in run.iterdir()}
    assert "holds" in done.stdout
    assert "x own" in done.stdout
