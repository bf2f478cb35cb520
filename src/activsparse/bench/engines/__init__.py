"""The engines `activsparse bench` can time: one small module and class each.

Engines are loaded by name so that none of their packages is imported unless it takes part.
"""

from __future__ import annotations

import importlib

from activsparse.bench.engines.base import Engine
from activsparse.errors import ActivsparseError

__all__ = ["ENGINES", "Engine", "engine_class"]

ENGINES: dict[str, tuple[str, str]] = {
    "activsparse": ("Activsparse", ""),
    "onnxruntime": ("OnnxRuntime", "bench"),
    "openvino": ("OpenVino", "engines"),
    "ncnn": ("Ncnn", "engines"),
}
"""Engine name, which is also its module's, to its class and the extra that installs its package."""


def engine_class(name: str) -> type[Engine]:
    """Find an engine by name.

    Raises:
        ActivsparseError: there is no such engine, or its package is not installed.
    """
    if name not in ENGINES:
        raise ActivsparseError(f"no engine named {name!r}; choose from {', '.join(ENGINES)}")
    class_name, extra = ENGINES[name]
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ActivsparseError(
            f"engine {name}: the package {error.name} is not installed; "
            f"pip install 'activsparse[{extra}]', or leave {name} out of --engines"
        ) from error
    found: type[Engine] = getattr(module, class_name)
    return found
