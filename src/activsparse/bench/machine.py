"""What a measurement must name: the processor, what of it may be used, the versions involved."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from activsparse import __version__
from activsparse.engine.calibrate import MOST_BUSY, busy_cores

__all__ = ["BUSY", "LESS_CERTAIN", "busy_warning", "describe_machine", "summary_line"]

CPU_FOLDER = Path("/sys/devices/system/cpu")
BOARD = Path("/proc/device-tree/model")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def cpu_name(name: str) -> str:
    """The processor as the engine names it, with family and model; of a board, the board's name.

    Server processors of different generations may all be called `AMD EPYC`. ARM kernels give only
    numbers, but boards name themselves in the device tree.
    """
    board = (_read(BOARD) or "").rstrip("\0")
    if name.startswith("ARM") and board:
        return board
    return name if name != "unknown" else platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Cache name (`L1d`, `L2`...) to its size as the kernel writes it, for the first core."""
    caches = {}
    for index in sorted((CPU_FOLDER / "cpu0" / "cache").glob("index*")):
        level, kind, size = (_read(index / field) for field in ("level", "type", "size"))
        if level and size:
            caches[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind or "", "")] = size
    return caches


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    installed = {package: version(package) for package in packages if find_spec(package)}
    return {"activsparse": __version__, "python": platform.python_version(), **installed}


def describe_machine() -> dict[str, Any]:
    """Describe this machine and process; every value is JSON. Unknown values are None."""
    from activsparse import _native

    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "cpu": cpu_name(str(_native.cpu_info()["name"])),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "affinity": affinity,
        "caches": _caches(),
        "governor": _read(CPU_FOLDER / "cpu0" / "cpufreq" / "scaling_governor"),
        "instruction_sets": _native.available_isas(),
        "os": platform.platform(),
        "versions": _versions(("numpy", "onnx", "torch", "onnxruntime", "openvino", "ncnn")),
    }


BUSY = "the machine is busy"
LESS_CERTAIN = "times are less certain"


def busy_warning() -> str | None:
    """What to say where other programs are at work beside this one; takes half a second."""
    busy = busy_cores()
    if busy <= MOST_BUSY:
        return None
    return f"{BUSY} ({busy:.1f} cores at work beside this); {LESS_CERTAIN}"


def summary_line(machine: dict[str, Any]) -> str:
    """One line for tables and reports: `AMD EPYC (family 26, model 2), 2 cores, avx512, ...`."""
    parts = [machine["cpu"], f"{machine['cores']} cores"]
    affinity = machine["affinity"]
    if affinity is not None and len(affinity) != machine["cores"]:
        parts.append(f"pinned to {','.join(map(str, affinity))}")
    parts.append(machine["instruction_sets"][-1])
    parts += [f"{name} {size}" for name, size in machine["caches"].items() if name != "L1i"]
    return ", ".join(parts)
