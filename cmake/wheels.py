"""Wheels in DIST: for this machine, and cross-built for 64-bit ARM; `make wheels` runs this.

usage: wheels.py [--machine x86_64 aarch64] [--python PYTHON ...] [--out DIST] [--no-test]

For each Python at hand: one wheel for 3.10, one for 3.11, and one of the stable interface (abi3)
for 3.12 and all that follow. Each is tagged by auditwheel with the oldest C library it runs on,
checked by twine and tried in an empty environment. Its bytes depend on the sources and the
compiler alone. What was not made, and why, is said at the end; that a Python is missing is no
failure.

ARM's need Debian's cross compiler and Debian's arm64 Python, whose headers and interpreter are
unpacked beside the build (nothing is installed). Run it by a Python that has auditwheel and twine,
as `make venv` installs them.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "wheels"
EMULATOR = ["qemu-aarch64-static", "-cpu", "cortex-a72", "-L"]
VERSIONS = ("3.10", "3.11", "3.12")  # the last stands for all later ones, too
BUILDERS = ("scikit-build-core", "nanobind", "cmake", "ninja")
# Makes what is verified in an empty environment: a masked convolution.
SMALL_FILE = """
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
weight = np.random.default_rng(0).standard_normal((8, 3, 3, 3), np.float32)
mask = np.ones((1, 1, 32, 32), np.float32)
mask[..., ::3] = 0
nodes = [helper.make_node("Conv", ["x", "conv.weight"], ["c"], pads=[1] * 4),
         helper.make_node("Mul", ["c", "conv.activation_mask"], ["m"]),
         helper.make_node("Relu", ["m"], ["y"])]
value = lambda name, c: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, 32, 32])
constants = [numpy_helper.from_array(weight, "conv.weight"),
             numpy_helper.from_array(mask, "conv.activation_mask")]
graph = helper.make_graph(nodes, "small", [value("x", 3)], [value("y", 8)], constants)
opset = [helper.make_opsetid("", 18)]
save(helper.make_model(graph, opset_imports=opset, ir_version=9), "small.onnx")
"""


class NotMadeError(Exception):
    """Why a wheel cannot be made here."""


def run(*command: object, **options: object) -> str:
    """A command's output; ends the program with it where the command fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return str(done.stdout)


@functools.cache
def version_of(python: Path) -> str | None:
    """As 3.11; None of what does not run or has no headers."""
    code = (
        "import os, sys, sysconfig, venv, ensurepip;"
        "os.stat(os.path.join(sysconfig.get_path('include'), 'Python.h'));"
        "print('%d.%d' % sys.version_info[:2])"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def pythons_at_hand() -> list[Path]:
    """This one, those on the path, and pyenv's."""
    found = [Path(sys.executable)]
    names = [f"python3.{minor}" for minor in range(10, 20)]
    found += [Path(path) for name in names if (path := shutil.which(name))]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return found + sorted(pyenv.glob("*/bin/python"))


def wanted(pythons: list[Path]) -> dict[str, Path | None]:
    """The Python that builds each wheel, by the version in its tag: the first one that can."""
    builders: dict[str, Path | None] = dict.fromkeys(VERSIONS)
    for python in pythons:
        version = version_of(python)
        if version is None or tuple(map(int, version.split("."))) < (3, 10):
            continue
        tag = version if version in VERSIONS else VERSIONS[-1]
        builders[tag] = builders[tag] or python
    return builders


def environment(folder: Path, python: Path, *packages: object) -> Path:
    """The `bin` of a fresh environment of `python` with `packages`."""
    run(python, "-m", "venv", "--clear", folder)
    if packages:
        run(folder / "bin/python", "-m", "pip", "install", "-q", *packages, env=clean())
    return folder / "bin"


def clean() -> dict[str, str]:
    """Variables without those that let sources or other packages in."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in hidden}


def build_tools(python: Path) -> Path:
    """A Python of that kind that can build: itself, if it has the tools, or one made for it."""
    code = "import scikit_build_core, nanobind, cmake, ninja"
    if not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
        return python
    folder = WORK / f"python{version_of(python)}"
    if not (folder / ".complete").exists():
        environment(folder, python, "-c", ROOT / "constraints.txt", *BUILDERS)
        (folder / ".complete").touch()
    return folder / "bin" / "python"


def arm64_python(version: str) -> Path:
    """The folder of Debian's arm64 Python of that version, unpacked once."""
    for tool in ("aarch64-linux-gnu-g++", "apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise NotMadeError(f"there is no {tool} here")
    root = ROOT / "build" / "aarch64-python"
    mark = root / ".complete"
    if not mark.exists() or mark.read_text() != version:
        shutil.rmtree(root, ignore_errors=True)
        apt = root / ".apt"
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (apt / folder).mkdir(parents=True)
        (apt / "status").touch()
        # An apt of its own, which knows no installed package and only this architecture.
        options = [
            *("-q", "-o", f"Dir::State={apt}/state", "-o", f"Dir::Cache={apt}/cache"),
            *("-o", f"Dir::State::status={apt}/status", "-o", "APT::Architecture=arm64"),
            *("-o", "APT::Architectures=arm64", "-o", "Acquire::Languages=none"),
            *("-o", "APT::Sandbox::User="),
        ]
        packages = [f"python{version}", f"libpython{version}-dev", "libstdc++6"]
        get = ["apt-get", *options, "install", "-y", "--no-install-recommends", "--download-only"]
        for command in (["apt-get", *options, "update"], get + packages):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                shutil.rmtree(root)
                raise NotMadeError(
                    f"this Debian has no python{version} for arm64, or is out of reach"
                )
        for package in (apt / "cache/archives").glob("*.deb"):
            run("dpkg", "-x", package, root)
        shutil.rmtree(apt)
        # The one in the include folder only includes this, by a path that is not searched.
        include = root / "usr/include"
        shutil.copy(
            include / f"aarch64-linux-gnu/python{version}/pyconfig.h", include / f"python{version}"
        )
        mark.write_text(version)
    return root


def build(python: Path, machine: str, scratch: Path) -> Path:
    """A wheel as pip builds it, not yet repaired."""
    version = version_of(python)
    assert version is not None
    settings = {"build-dir": WORK / f"{machine}-{version}"}
    variables = {**clean(), "SOURCE_DATE_EPOCH": date_of_sources()}
    if machine != platform.machine():
        root = arm64_python(version)
        variables["_PYTHON_HOST_PLATFORM"] = f"linux-{machine}"
        suffix = f".cpython-{version.replace('.', '')}-{machine}-linux-gnu.so"
        variables["SETUPTOOLS_EXT_SUFFIX"] = suffix
        toolchain = ROOT / "cmake" / f"{machine}-linux-gnu.cmake"
        settings["cmake.define.CMAKE_TOOLCHAIN_FILE"] = toolchain
        settings["cmake.define.Python_INCLUDE_DIR"] = root / "usr/include" / f"python{version}"
    words = [f"--config-settings={key}={value}" for key, value in settings.items()]
    tools = build_tools(python)
    variables["PATH"] = os.pathsep.join([str(tools.parent), variables["PATH"]])
    run(
        *(tools, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", scratch / "built", *words, "."),
        cwd=ROOT, env=variables,
    )  # fmt: skip
    (wheel,) = (scratch / "built").glob("*.whl")
    return wheel


def date_of_sources() -> str:
    """Times in the archive are those of the last commit; of an unpacked source, a fixed one."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    log = ["git", "log", "-1", "--format=%ct"]
    done = subprocess.run(log, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "1577836800"


def repair(wheel: Path, out: Path) -> Path:
    """The wheel, tagged by the oldest C library it runs on; nothing may have to come along."""
    tools = Path(sys.executable).parent
    variables = {**os.environ, "SOURCE_DATE_EPOCH": date_of_sources()}
    variables["PATH"] = os.pathsep.join([str(tools), variables["PATH"]])
    repaired = out / "repaired"
    run(
        *(sys.executable, "-m", "auditwheel", "repair", "--only-plat", "-w", repaired, wheel),
        env=variables,
    )  # fmt: skip
    (made,) = repaired.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        if any(".libs/" in name for name in archive.namelist()):
            sys.exit(f"{made.name} brings libraries of this machine along")
    return made


def try_here(wheel: Path, python: Path, scratch: Path) -> str:
    """Install it into an empty environment, with what it depends on, and verify a small file."""
    folder = environment(scratch / "venv", python, f"{wheel}[verify]")
    run(folder / "python", "-c", SMALL_FILE, cwd=scratch, env=clean())
    run(folder / "activsparse", "verify", "small.onnx", cwd=scratch, env=clean())
    return "installed into an empty environment, `activsparse verify` passed"


def try_emulated(wheel: Path, python: Path, scratch: Path) -> str:
    """Import it by the arm64 Python in an emulator, with numpy alone."""
    if shutil.which(EMULATOR[0]) is None:
        return f"not tried: there is no {EMULATOR[0]} here"
    version = version_of(python)
    assert version is not None
    words = ["--no-deps", "--only-binary", ":all:", "--python-version", version]
    for name in ("manylinux2014", "manylinux_2_27", "manylinux_2_28"):
        words += ["--platform", f"{name}_aarch64"]
    run(sys.executable, "-m", "pip", "download", "-q", *words, "-d", scratch / "numpy", "numpy")
    for package in (wheel, *(scratch / "numpy").glob("*.whl")):
        with zipfile.ZipFile(package) as archive:
            archive.extractall(scratch / "packages")
    root = arm64_python(version)
    code = "from activsparse import _native; print(_native.__name__)"
    variables = {**clean(), "PYTHONPATH": str(scratch / "packages")}
    run(*EMULATOR, root, root / f"usr/bin/python{version}", "-c", code, env=variables)
    return f"imported by an emulated arm64 Python {version}"


def make(python: Path, machine: str, out: Path, test: bool) -> str:
    """Build, repair, check and try one wheel; what to say of it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        wheel = repair(build(python, machine, scratch), scratch)
        run(sys.executable, "-m", "twine", "check", "--strict", wheel)
        tried = "not tried"
        if test:
            attempt = try_here if machine == platform.machine() else try_emulated
            tried = attempt(wheel, python, scratch)
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, out)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        return f"{wheel.name}\n  {tried}\n  sha256 {digest}"


def main() -> None:
    """What `make wheels` does."""
    parser = argparse.ArgumentParser(description="Build, check and try wheels.")
    parser.add_argument("--machine", nargs="+", default=[platform.machine(), "aarch64"])
    parser.add_argument("--python", nargs="+", type=Path, default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--no-test", dest="test", action="store_false")
    args = parser.parse_args()
    os.umask(0o022)  # file modes are bytes of the archive
    builders = wanted([python.absolute() for python in args.python] or pythons_at_hand())
    made, not_made = [], []
    for machine in dict.fromkeys(args.machine):
        for version, python in builders.items():
            name = f"{machine}, Python {version}" + (
                " and later" if version == VERSIONS[-1] else ""
            )
            if python is None:
                if not args.python:
                    not_made.append(f"{name}: no such Python with headers is at hand")
                continue
            try:
                made.append(make(python, machine, args.out.resolve(), args.test))
                print(made[-1], flush=True)
            except NotMadeError as error:
                not_made.append(f"{name}: {error}")
    for line in not_made:
        print(f"not made: {line}")
    if not made:
        sys.exit(3)


if __name__ == "__main__":
    main()
