"""The base install alone: built by pip in a fresh environment, without torch or any extra."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import builds
import numpy as np
import pytest

REPOSITORY = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the package installed from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    sources = copy_sources(folder / "sources")
    command = [folder / "venv/bin/pip", "install", "-q", sources]
    command += ["--config-settings", f"build-dir={sources / 'build/wheel'}"]
    subprocess.run(command, check=True, env=builds.environment(sources))
    return folder / "venv/bin"


def copy_sources(folder: Path) -> Path:
    """The repository without what was built in it."""
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.so", "__pycache__")
    shutil.copytree(REPOSITORY, folder, ignore=ignored, symlinks=True)
    return folder


def call(environment: Path, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [environment / str(args[0]), *map(str, args[1:])]
    return subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=120, check=False
    )


def test_no_torch_comes_along(environment: Path, tmp_path: Path):
    code = "import activsparse, importlib.util as u; assert not u.find_spec('torch')"
    result = call(environment, "python", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_version(environment: Path, tmp_path: Path):
    result = call(environment, "activsparse", "--version", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "instruction sets: scalar" in result.stdout


def test_the_library_for_onnxruntime_comes_along(environment: Path, tmp_path: Path):
    code = "import activsparse.onnxruntime as o; print(o.library_path())"
    result = call(environment, "python", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_runs_a_model(environment: Path, sparse: Path, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), dtype=np.float32)
    np.save(tmp_path / "x.npy", x)
    result = call(
        environment, "activsparse", "run", sparse, "--input", "x.npy", "--output", "y.npy",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (expected,) = onnxruntime.InferenceSession(sparse).run(None, {"x": x})
    # 27 products per output, summed in any order.
    atol = 27 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=0, atol=atol)


def test_missing_extra_is_named(environment: Path, sparse: Path, tmp_path: Path):
    result = call(environment, "activsparse", "bench", "--dense", sparse, cwd=tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "activsparse[bench]" in result.stderr


@pytest.mark.skipif(
    os.environ.get("ACTIVSPARSE_TWO_WHEELS") != "1",
    reason="builds two wheels: ACTIVSPARSE_TWO_WHEELS=1",
)
@pytest.mark.timeout(3000)
def test_a_wheel_is_the_same_bytes_wherever_it_is_built(tmp_path: Path):
    """From two folders of different names, with nothing kept between them."""
    wheels = []
    for name in ("here", "a longer name"):
        source = copy_sources(tmp_path / name)
        command = ["sh", source / "cmake/wheel.sh", sys.executable, source / "dist"]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1577836800", "CCACHE_DISABLE": "1"}
        subprocess.run(command, check=True, env=environment, capture_output=True)
        wheels += (source / "dist").glob("*.whl")
    first, second = wheels
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
