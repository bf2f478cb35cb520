"""A wheel for aarch64, cross-built, imported and run by Debian's arm64 Python under qemu.

Alone, and inside the aarch64 wheels of LiteRT and ONNX Runtime.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import graphs
import numpy as np
import pytest
from aarch64 import EMULATOR, ROOT, needs_aarch64, one_at_a_time

import activsparse
from activsparse import Session
from activsparse.engine.compile import compile_file
from activsparse.engine.tolerance import network_bound, sums_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    needs_aarch64,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="needs root and unshare, to show the emulated Python an ARM /proc/cpuinfo",
    ),
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
CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
LITERT = """
import importlib.util, json
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate
library = importlib.util.find_spec("activsparse").submodule_search_locations[0]
delegate = load_delegate(library + "/libactivsparse_litert.so", {"threads": "2"})
found = []
for name in ("float32", "int8"):
    interpreter = Interpreter(
        name + ".tflite",
        experimental_delegates=[delegate],
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    claims = [op["op_name"] for op in interpreter._get_ops_details()].count("DELEGATE")
    arrays = np.load(name + ".npz")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], arrays["x"])
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    found.append([claims, float(np.abs(y - arrays["y"]).max())])
print(json.dumps(found))
"""
ONNXRUNTIME = """
import importlib.util, json
import numpy as np
import onnxruntime
library = importlib.util.find_spec("activsparse").submodule_search_locations[0]
onnxruntime.register_execution_provider_library(
    "activsparse", library + "/libactivsparse_onnxruntime.so"
)
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == "activsparse"]
options.add_provider_for_devices(devices, {"plan": "model.plan", "threads": "2"})
arrays = np.load("arrays.npz")
session = onnxruntime.InferenceSession("model.onnx", options)
(y,) = session.run(None, {session.get_inputs()[0].name: arrays["x"]})
print(json.dumps(float(np.abs(y - arrays["y"]).max())))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's and numpy's content, and nothing else."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core and nanobind")
    pytest.importorskip("nanobind", reason="needs scikit-build-core and nanobind")
    pytest.importorskip("auditwheel", reason="needs auditwheel and twine")
    folder = tmp_path_factory.mktemp("aarch64")
    command = [sys.executable, ROOT / "cmake" / "wheels.py", "--machine", "aarch64", "--no-test"]
    command += ["--python", sys.executable, "--out", folder]
    with one_at_a_time(PYTHON):
        built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode == 3:
        pytest.skip(built.stdout.splitlines()[-1])
    assert built.returncode == 0, built.stdout[-1000:] + built.stderr[-2000:]
    download(folder, "numpy")
    wheels = list(folder.glob("*aarch64.whl"))
    assert len(wheels) == 2, wheels
    unpack(folder, folder / "packages")
    return folder / "packages"


def download(folder: Path, *packages: str) -> None:
    """Let pip fetch wheels for that machine, without what they depend on."""
    words = ["-q", "--no-deps", "--only-binary", ":all:", "--python-version", VERSION]
    for platform in ("manylinux2014", "manylinux_2_27", "manylinux_2_28"):
        words += ["--platform", f"{platform}_aarch64"]
    command = [sys.executable, "-m", "pip", "download", *words, "-d", str(folder), *packages]
    subprocess.run(command, check=True)


def unpack(folder: Path, out: Path) -> None:
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out)


def network(path: Path) -> Path:
    """Masked convolutions with and without a fill, one of them a 1x1 behind an addition."""
    b = graphs.Builder(0)
    first = b.node("Relu", b.mask(b.conv(b.input(1, 3, 40, 40), 32)))
    second = b.node("Relu", b.fill(b.conv(first, 32)))
    wide = b.node(
        "Relu", b.mask(b.conv(b.node("Add", first, second), 64, (1, 1), pads=(0, 0, 0, 0)))
    )
    return b.save(path, b.conv(wide, 24))


def run(script: str, folder: Path, *packages: Path) -> str:
    """What a script prints under the arm64 Python, with an ARM /proc/cpuinfo."""
    path = os.pathsep.join(map(str, packages))
    (folder / "cpuinfo").write_text(CPUINFO)
    python = [*EMULATOR[:-1], str(PYTHON), str(PYTHON / "usr" / "bin" / f"python{VERSION}")]
    ran = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", 'mount --bind cpuinfo /proc/cpuinfo && exec "$@"'),
            *("sh", *python, "-c", script),
        ],
        cwd=folder,
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "ACTIVSPARSE_CACHE": "off"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@pytest.mark.timeout(1800)
def test_a_plan_made_here_runs_there(packages: Path, tmp_path: Path) -> None:
    model = network(tmp_path / "model.onnx")
    plan = compile_file(model, tmp_path / "model.plan", target="aarch64")
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40), np.float32)
    y = Session(model, tune=False).run(x)
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    ran = run(RUN, tmp_path, packages)
    machine, isa, error, others = json.loads(ran)
    assert (machine, isa, others) == ("aarch64", "neon", [])
    assert error <= network_bound(sums_of(plan.reports), y)


@pytest.mark.timeout(1800)
def test_the_delegate_runs_in_litert_there(packages: Path, tmp_path: Path) -> None:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    from activsparse import litert

    download(tmp_path, f"ai-edge-litert=={version('ai-edge-litert')}", "flatbuffers")
    unpack(tmp_path, tmp_path / "packages")
    model = network(tmp_path / "model.onnx")
    (check,) = litert.convert(model, tmp_path / "float32.tflite").errors
    samples = np.random.default_rng(1).standard_normal((8, 3, 40, 40)).astype(np.float32)
    activsparse.quantize(model, samples, tmp_path / "int8.onnx", per_layer=False)
    litert.convert(tmp_path / "int8.onnx", tmp_path / "int8.tflite", verify=False)
    x = np.random.default_rng(0).standard_normal((1, 40, 40, 3), np.float32)
    for name, interpreter in (
        ("float32", interpreters.Interpreter(str(tmp_path / "float32.tflite"))),
        ("int8", litert.interpreter(tmp_path / "int8.tflite", tune=False)),
    ):
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    found = json.loads(run(LITERT, tmp_path, packages, tmp_path / "packages"))
    (claims, error), (claims_int8, error_int8) = found
    assert claims
    assert error <= check.bound
    assert claims_int8
    assert error_int8 == 0  # sums of bytes are exact on every processor


@pytest.mark.timeout(1800)
def test_the_provider_runs_in_onnxruntime_there(packages: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", minversion="1.23")
    download(tmp_path, f"onnxruntime=={onnxruntime.__version__}", "flatbuffers")
    unpack(tmp_path, tmp_path / "packages")
    model = network(tmp_path / "model.onnx")
    plan = compile_file(model, tmp_path / "model.plan", target="aarch64")
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40), np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    np.savez(tmp_path / "arrays.npz", x=x, y=y)
    error = json.loads(run(ONNXRUNTIME, tmp_path, packages, tmp_path / "packages"))
    assert error <= network_bound(sums_of(plan.reports), y)
