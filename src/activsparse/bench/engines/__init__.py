"""The engines `activsparse bench` can time: one small module and class each.

Engines are loaded by name so that none of their packages is imported unless it takes part.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import NamedTuple

from activsparse.bench.engines.base import Engine
from activsparse.errors import ActivsparseError, Option

__all__ = ["ENGINES", "Engine", "Source", "engine_class", "is_installed"]


class Source(NamedTuple):
    """Where an engine comes from.

    Attributes:
        class_name: its class, in the module of its name.
        package: the Python package it needs.
        extra: the extra that installs that.
        reads_onnx: whether it takes ONNX files; the others look for another file beside it.
    """

    class_name: str
    package: str
    extra: str
    reads_onnx: bool = True


ENGINES: dict[str, Source] = {
    "activsparse": Source("Activsparse", "activsparse", ""),
    "onnxruntime": Source("OnnxRuntime", "onnxruntime", "bench"),
    "openvino": Source("OpenVino", "openvino", "engines"),
    "ncnn": Source("Ncnn", "ncnn", "engines"),
    "xnnpack": Source("Xnnpack", "executorch", "xnnpack", reads_onnx=False),
    "inductor": Source("Inductor", "torch", "train", reads_onnx=False),
}
"""Engine name, which is also its module's, to its source."""


def is_installed(name: str) -> bool:
    """Whether the package of an engine in `ENGINES` can be imported."""
    return find_spec(ENGINES[name].package) is not None


def engine_class(name: str) -> type[Engine]:
    """Find an engine by name.

    Raises:
        ActivsparseError: there is no such engine, or its package is not installed.
    """
    if name not in ENGINES:
        raise ActivsparseError(f"no engine named {name!r}; choose from {', '.join(ENGINES)}")
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ActivsparseError(
            f"engine {name}: the package {error.name} is not installed; "
            f"pip install 'activsparse[{ENGINES[name].extra}]', or leave {name} out of ",
            Option("engines"),
        ) from error
    found: type[Engine] = getattr(module, ENGINES[name].class_name)
    return found
