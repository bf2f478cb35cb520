"""A wheel for aarch64, cross-built, imported and run by Debian's arm64 Python under qemu."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import graphs
import numpy as np
import pytest
from aarch64 import EMULATOR, ROOT, needs_aarch64

from activsparse import Session
from activsparse.engine.compile import compile_file
from activsparse.engine.tolerance import network_bound, sums_of

pytestmark = [
    pytest.mark.slow,
    needs_aarch64,
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in ("apt-get", "dpkg")),
        reason="needs apt-get and dpkg, to unpack Debian's arm64 Python",
    ),
]
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PYTHON = ROOT / "build" / "aarch64-python"
RUN = """
import json, platform, sys
import numpy as np
import activsparse
session = activsparse.Session("model.plan")
arrays = np.load("arrays.npz")
error = float(np.abs(session.run(arrays["x"]) - arrays["y"]).max())
others = sorted({"onnx", "torch"} & set(sys.modules))
print(json.dumps([platform.machine(), session.isa, error, others]))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's and numpy's content, and nothing else."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core and nanobind")
    pytest.importorskip("nanobind", reason="needs scikit-build-core and nanobind")
    folder = tmp_path_factory.mktemp("aarch64")
    built = subprocess.run(
        [ROOT / "cmake" / "aarch64_wheel.sh", sys.executable, folder],
        capture_output=True,
        text=True,
    )
    if built.returncode == 3:
        pytest.skip(built.stderr.splitlines()[-1])
    assert built.returncode == 0, built.stdout[-1000:] + built.stderr[-2000:]
    words = ["-q", "--no-deps", "--only-binary", ":all:", "--python-version", VERSION]
    words += ["--platform", "manylinux2014_aarch64", "--platform", "manylinux_2_28_aarch64"]
    words += ["-d", str(folder), "numpy"]
    subprocess.run([sys.executable, "-m", "pip", "download", *words], check=True)
    wheels = list(folder.glob("*aarch64.whl"))
    assert len(wheels) == 2, wheels
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "packages")
    return folder / "packages"


@pytest.mark.timeout(1800)
def test_a_plan_made_here_runs_there(packages: Path, tmp_path: Path) -> None:
    b = graphs.Builder(0)
    first = b.node("Relu", b.mask(b.conv(b.input(1, 3, 40, 40), 32)))
    second = b.node("Relu", b.fill(b.conv(first, 32)))
    wide = b.node(
        "Relu", b.mask(b.conv(b.node("Add", first, second), 64, (1, 1), pads=(0, 0, 0, 0)))
    )
    model = b.save(tmp_path / "model.onnx", b.conv(wide, 24))
    plan = compile_file(model, tmp_path / "model.plan", target="aarch64")
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40), np.float32)
    y = Session(model, tune=False).run(x)
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    emulator = [*EMULATOR[:-1], str(PYTHON)]
    ran = subprocess.run(
        [*emulator, PYTHON / "usr" / "bin" / f"python{VERSION}", "-c", RUN],
        cwd=tmp_path,
        env={"PYTHONPATH": str(packages), "PATH": os.environ["PATH"], "ACTIVSPARSE_CACHE": "off"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    machine, isa, error, others = json.loads(ran.stdout)
    assert (machine, isa, others) == ("aarch64", "neon", [])
    assert error <= network_bound(sums_of(plan.reports), y)
