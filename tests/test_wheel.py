"""The base install alone, built by pip in a fresh environment without any extra; and wheels."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
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


def make_wheel(sources: Path, *options: str, **variables: str) -> tuple[Path, str]:
    """What `make wheels` makes for this Python and machine, and what it says."""
    command = [sys.executable, sources / "cmake/wheels.py", "--machine", platform.machine()]
    command += ["--python", sys.executable, "--out", sources / "dist", *options]
    environment = {**builds.environment(sources), **variables}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout[-1000:] + made.stderr[-3000:]
    (wheel,) = (sources / "dist").glob("*.whl")
    return wheel, made.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_wheel(copy_sources(tmp_path_factory.mktemp("wheels") / "sources"))


@pytest.mark.timeout(1800)
def test_a_wheel_is_tagged_and_verifies_a_file_in_an_empty_environment(wheel):
    path, said = wheel
    minor = min(sys.version_info[1], 12)
    python = f"cp3{minor}-abi3" if minor == 12 else f"cp3{minor}-cp3{minor}"
    tag = rf"activsparse-[\d.]+-{python}-manylinux_2_\d+_{platform.machine()}\.whl"
    assert re.fullmatch(tag, path.name), path.name
    assert path.name in said
    assert "`activsparse verify` passed" in said


@pytest.mark.timeout(1800)
def test_a_wheel_holds_three_libraries_and_no_path_of_the_machine_that_built_it(wheel):
    path, _ = wheel
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    libraries = [name for name in content if ".so" in name]
    names = sorted(re.sub(r"\..*", "", name) for name in libraries)
    assert names == [
        f"activsparse/{name}"
        for name in ("_native", "libactivsparse_litert", "libactivsparse_onnxruntime")
    ]
    assert "activsparse/py.typed" in content
    assert {name.split("/")[0].split("-")[0] for name in content} == {"activsparse"}
    built_in = path.parents[1]
    for name, data in content.items():
        for folder in (built_in, REPOSITORY, Path(sys.prefix), Path.home()):
            assert f"{folder}/".encode() not in data, f"{folder} in {name}"


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
        variables = {"SOURCE_DATE_EPOCH": "1577836800", "CCACHE_DISABLE": "1"}
        wheels.append(make_wheel(source, "--no-test", **variables)[0])
    first, second = wheels
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
