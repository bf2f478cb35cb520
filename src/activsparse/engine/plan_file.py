"""Compiled plans as files: docs/plan-format.md says what every byte means.

The format itself is the compiled half's (native/plan), for C programs read the same files. What
only Python wants to know stands in the plan's metadata.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from activsparse import _native
from activsparse.engine.graph import Shape
from activsparse.engine.plan import Plan
from activsparse.engine.report import NodeReport
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path, require_file

if TYPE_CHECKING:
    import onnx

__all__ = ["is_plan", "read_plan", "write_plan"]

# By their numbers in `as_dtype` of the C interface.
_TYPES = (
    *("float32", "int32", "uint8", "int8", "int64", "float16", "float64", "bool"),
    *("int16", "uint16", "uint32", "uint64"),
)

_DAMAGED = (ValueError, KeyError, TypeError, AttributeError)


def is_plan(path: str | os.PathLike[str] | bytes | onnx.ModelProto) -> bool:
    """Whether a file, or its content, starts as plans do."""
    magic: bytes = _native.PLAN_MAGIC
    if isinstance(path, bytes):
        return path.startswith(magic)
    if hasattr(path, "SerializeToString"):
        return False
    with require_file(path).open("rb") as file:
        return file.read(len(magic)) == magic


def write_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan to one file.

    Raises:
        ActivsparseError: the folder does not exist or cannot be written to, or the disk is full.
    """
    metadata = {
        "model": Path(plan.name).name,
        "constants": plan.weights,
        "types": plan.types,
        "reports": [asdict(report) for report in plan.reports],
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        _native.write_plan(
            file.fileno(),
            plan.isa,
            plan.threads,
            _values(plan, plan.inputs, plan.input_ids),
            _values(plan, plan.outputs, plan.output_ids),
            plan.tensors,
            plan.steps,
            plan.arena_bytes,
            json.dumps(metadata).encode(),
        )


def _values(
    plan: Plan, values: list[tuple[str, Shape]], ids: list[int]
) -> list[tuple[str, Shape, int, int]]:
    """Name, shape, tensor and type of inputs or outputs."""
    types = [plan.types.get(name, _TYPES[0]) for name, _ in values]
    known = [_TYPES.index(type_) if type_ in _TYPES else 0 for type_ in types]
    return [(*value, i, type_) for value, i, type_ in zip(values, ids, known, strict=True)]


def read_plan(path: str | os.PathLike[str] | bytes) -> Plan:
    """Map a plan into memory; it must not be changed in place while it is in use.

    Args:
        path: the file, or its content.

    Raises:
        ActivsparseError: the file is no plan, damaged, of another format or build, of a newer
            engine, or compiled for a machine unlike this one.
    """
    if isinstance(path, bytes):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "plan"
            copy.write_bytes(path)
            return read_plan(copy)  # mapped, the file may go
    file = require_file(path)
    plan = _native.open_plan(str(file))
    steps = plan.steps()
    try:
        metadata = json.loads(plan.metadata)
        reports = [_report(row) for row in metadata["reports"]]
        weights = str(metadata.get("constants", ""))
        types = {str(k): np.dtype(v).name for k, v in metadata.get("types", {}).items()}
        if len(reports) != len(steps):
            raise ValueError("as many reports as steps are needed")
    except (*_DAMAGED, OverflowError, RecursionError) as error:
        raise ActivsparseError(
            f"{file}: its metadata are damaged; compile the model again"
        ) from error
    return Plan(
        name=str(file),
        isa=plan.isa,
        threads=plan.threads,
        inputs=[(name, shape) for name, shape, *_ in plan.inputs],
        outputs=[(name, shape) for name, shape, *_ in plan.outputs],
        tensors=plan.tensors,
        steps=steps,
        input_ids=[tensor for _, _, tensor, _ in plan.inputs],
        output_ids=[tensor for _, _, tensor, _ in plan.outputs],
        arena_bytes=plan.arena_bytes,
        reports=reports,
        weights=weights,
        types=types,
        parts=plan.parts,
    )


_TEXTS = ("name", "kind", "algorithm", "kernel", "reason", "weight_type")
_NUMBERS = ("macs", "dense_macs", "weight_bytes", "index_bytes")
_PERHAPS = ("requested", "achieved", "time_ms", "sparsity", "masked_macs")


def _report(row: dict[str, Any]) -> NodeReport:
    """A report of the metadata; ValueError, TypeError or KeyError where it is none."""
    candidates = tuple((name, ms) for name, ms in row["candidates"])
    report = NodeReport(**{**row, "shape": tuple(row["shape"]), "candidates": candidates})
    texts = [getattr(report, key) for key in _TEXTS] + [name for name, _ in candidates]
    numbers = [row[key] for key in _NUMBERS] + list(report.shape)
    numbers += [n for n in (*(row.get(key) for key in _PERHAPS), *dict(candidates).values()) if n]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name is no text")
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError("a figure is no number")
    return report
