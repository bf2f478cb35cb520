"""Compiled plans as files: docs/plan-format.md says what every byte means.

A plan is mapped into memory and its weights are used where they lie. Nothing of it is believed
before the checksum over the whole file holds.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from activsparse import __version__, _native
from activsparse.engine.plan import Plan
from activsparse.engine.report import NodeReport
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path, require_file

__all__ = ["FORMAT_VERSION", "MAGIC", "is_plan", "read_plan", "write_plan"]

MAGIC = b"\x8fASPLAN\n"
# Rises with every change of the layout of this file, or of any operator's packed data.
FORMAT_VERSION = 2

_BYTE_ORDER = 0x01020304
_ALIGNMENT = 64

_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("byte_order", "=u4"),
        ("format_version", "=u4"),
        ("checksum", "=u4"),
        ("inputs", "=u4"),
        ("outputs", "=u4"),
        ("reserved", "=u4"),
        ("file_bytes", "=u8"),
        ("arena_floats", "=u8"),
        ("engine_version", "S16"),
        ("isa", "S16"),
        *((f"{name}_{what}", "=u8") for name in ("tensors", "steps", "ids", "metadata")
          for what in ("offset", "count")),
        ("padding", "V48"),
    ]
)  # fmt: skip
_TENSOR = np.dtype(
    [(name, "=i4") for name in ("n", "h", "w", "c", "stride", "nchw", "padded", "dtype")]
    + [("offset", "=i8")]
)
_STEP = np.dtype(
    [
        ("kind", "S24"),
        ("algorithm", "S24"),
        ("ids", "=u4"),
        ("inputs", "=u4"),
        ("outputs", "=u4"),
        ("reserved", "=u4"),
        ("data_offset", "=u8"),
        ("data_bytes", "=u8"),
    ]
)
_Bytes = npt.NDArray[np.uint8]


def is_plan(path: str | os.PathLike[str]) -> bool:
    """Whether a file starts as plans do."""
    with require_file(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def write_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Write a plan to one file.

    Raises:
        ActivsparseError: the folder does not exist or cannot be written to.
    """
    checksum = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for section in _sections(plan):
            for part in (section.data, bytes(_aligned(section.nbytes) - section.nbytes)):
                checksum = zlib.crc32(part, checksum)
                file.write(part)
        file.seek(_HEADER.fields["checksum"][1])  # type: ignore[index]
        file.write(np.array([checksum], "=u4").tobytes())


def _sections(plan: Plan) -> Iterator[_Bytes]:
    """The parts of the file in order; each starts at a multiple of 64 bytes."""
    ids = [*plan.input_ids, *plan.output_ids]
    steps = np.zeros(len(plan.steps), _STEP)
    for row, (packed, inputs, outputs) in zip(steps, plan.steps, strict=True):
        row["kind"], row["algorithm"] = packed.kind.encode(), packed.algorithm.encode()
        row["ids"], row["inputs"], row["outputs"] = len(ids), len(inputs), len(outputs)
        row["data_bytes"] = packed.nbytes
        ids += [*inputs, *outputs]
    tensors = np.zeros(len(plan.tensors), _TENSOR)
    for row, (desc, offset) in zip(tensors, plan.tensors, strict=True):
        for name in ("n", "h", "w", "c", "stride", "nchw", "padded"):
            row[name] = getattr(desc, name)
        row["offset"] = offset
    metadata = {
        "model": Path(plan.name).name,
        "threads": plan.threads,
        "inputs": plan.inputs,
        "outputs": plan.outputs,
        "reports": [asdict(report) for report in plan.reports],
    }
    tables = {
        "tensors": tensors,
        "steps": steps,
        "ids": np.array(ids, "=i4"),
        "metadata": np.frombuffer(json.dumps(metadata).encode(), np.uint8),
    }
    header = np.zeros((), _HEADER)
    end = _HEADER.itemsize  # 192
    for name, table in tables.items():
        header[f"{name}_offset"], header[f"{name}_count"] = end, table.size
        end = _aligned(end + table.nbytes)
    for row in steps:
        row["data_offset"] = end
        end = _aligned(end + int(row["data_bytes"]))
    header["magic"], header["byte_order"] = MAGIC, _BYTE_ORDER
    header["format_version"], header["file_bytes"] = FORMAT_VERSION, end
    header["engine_version"], header["isa"] = __version__.encode(), plan.isa.encode()
    header["inputs"], header["outputs"] = len(plan.input_ids), len(plan.output_ids)
    header["arena_floats"] = plan.arena_floats
    for table in (header, *tables.values()):
        yield np.frombuffer(table.tobytes(), np.uint8)
    for packed, _, _ in plan.steps:
        yield packed.data


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Map a plan into memory; it must not be changed in place while it is in use.

    Raises:
        ActivsparseError: the file is no plan, damaged, of another format, of a newer engine, or
            compiled for a machine unlike this one.
    """
    file = require_file(path)
    data = _mapped(file)
    header = _checked_header(file, data)
    isa = header["isa"].decode()
    if isa not in _native.available_isas():
        have = ", ".join(_native.available_isas())
        raise ActivsparseError(
            f"{file}: compiled for '{isa}', this machine has {have}; compile the model for it"
        )
    try:
        return _plan(file, header, data)
    except ActivsparseError as error:
        raise ActivsparseError(f"{file}: {error}") from error
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        _fail(file, "its tables are damaged", error)


def _mapped(file: Path) -> _Bytes:
    size = file.stat().st_size
    if size < _HEADER.itemsize:
        with file.open("rb") as stream:
            known = stream.read(len(MAGIC)) == MAGIC
        _fail(file, "the plan is cut short" if known else "not a compiled plan")
    with file.open("rb") as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def _checked_header(file: Path, data: _Bytes) -> Any:
    header = np.frombuffer(data[: _HEADER.itemsize].tobytes(), _HEADER)[0]
    if header["magic"] != MAGIC:
        _fail(file, "not a compiled plan")
    if header["byte_order"] != _BYTE_ORDER:
        _fail(file, "the plan is damaged, or was compiled on a machine of the other byte order")
    if header["format_version"] != FORMAT_VERSION:
        _fail(
            file,
            f"plan format {header['format_version']}, this engine reads format {FORMAT_VERSION}",
        )
    if header["file_bytes"] != data.size:
        _fail(file, f"{data.size} bytes of a plan that has {header['file_bytes']}: cut or damaged")
    if _checksum(header, data) != header["checksum"]:
        _fail(file, "the plan was altered or damaged: its checksum does not hold")
    version = header["engine_version"].decode()
    if _release(version) > _release(__version__):
        raise ActivsparseError(
            f"{file}: compiled by activsparse {version}, this is {__version__}; "
            "upgrade, or compile the model again with this version"
        )
    return header


def _checksum(header: Any, data: _Bytes) -> int:
    """CRC-32 of the file with zeros for the checksum itself."""
    blank = header.copy()
    blank["checksum"] = 0
    return zlib.crc32(data[_HEADER.itemsize :].data, zlib.crc32(blank.tobytes()))


def _plan(file: Path, header: Any, data: _Bytes) -> Plan:
    def table(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        offset, count = int(header[f"{name}_offset"]), int(header[f"{name}_count"])
        return np.frombuffer(data.data, dtype, count, offset)

    isa = header["isa"].decode()
    ids = table("ids", "=i4").tolist()
    tensors = [
        (_native.TensorDesc(n, h, w, c, stride, bool(nchw), bool(padded)), offset)
        for n, h, w, c, stride, nchw, padded, _, offset in table("tensors", _TENSOR).tolist()
    ]
    steps = []
    for kind, algorithm, first, inputs, outputs, _, offset, size in table("steps", _STEP).tolist():
        middle, last = first + inputs, first + inputs + outputs
        reads, writes = ids[first:middle], ids[middle:last]
        packed = _native.unpack(
            kind.decode(),
            algorithm.decode(),
            isa,
            data[offset : offset + size],
            [tensors[i][0] for i in reads],
            [tensors[i][0] for i in writes],
        )
        steps.append((packed, reads, writes))
    metadata = json.loads(table("metadata", np.uint8).tobytes())
    ends = int(header["inputs"]), int(header["inputs"]) + int(header["outputs"])
    return Plan(
        name=str(file),
        isa=isa,
        threads=metadata["threads"],
        inputs=[(name, tuple(shape)) for name, shape in metadata["inputs"]],
        outputs=[(name, tuple(shape)) for name, shape in metadata["outputs"]],
        tensors=tensors,
        steps=steps,
        input_ids=ids[: ends[0]],
        output_ids=ids[ends[0] : ends[1]],
        arena_floats=int(header["arena_floats"]),
        reports=[_report(row) for row in metadata["reports"]],
    )


def _report(row: dict[str, Any]) -> NodeReport:
    candidates = tuple((name, ms) for name, ms in row["candidates"])
    return NodeReport(**{**row, "shape": tuple(row["shape"]), "candidates": candidates})


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def _fail(file: Path, cause: str, error: BaseException | None = None) -> NoReturn:
    raise ActivsparseError(f"{file}: {cause}; compile the model again") from error
