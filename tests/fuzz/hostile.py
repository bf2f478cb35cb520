"""Hostile files: valid small models, damaged field by field or byte by byte.

Whatever reads a model (`DOORS`) works, or raises ActivsparseError in one printable line: no other
exception, no crash, no hang, no large allocation. `damaged(seed)` is a file, `verdict(...)` what
its readers did, and

    python -m fuzz.hostile --cases 10000 [--first SEED]

tries many in a process of limited memory that is started again when it dies.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import secrets
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DOORS", "damaged", "templates", "verdict"]

EXTERNAL = "w.bin"
"""The file beside the models that holds external data."""

CASE_SECONDS = 60
"""A case that takes longer hangs."""

_EXTRA_BYTES = 3 << 29
"""How much more memory a case may take than Python with all packages does."""

_MOST_RUN = 1 << 20
"""Models with more input elements than this are compiled, not run."""

# Stands for bytes that are no UTF-8, which protobuf's Python refuses to write.
_PLACEHOLDER, _NO_UTF8 = "\x01NOUTF8\x01", b"\xff\xfe\xc0\xaf\xed\xa0\x80\xf8\xff"[:8]

_INTEGERS = (0, 1, -1, 2, 3, 7, 99, -(2**31), 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e38, 1e-42)
_STRINGS = (
    *("", "[/]", "[bold]", "a\nb", "\x1b[2J", "\0", "x" * 5000, "../../etc/passwd", "/etc/passwd"),
    *("{0}%s", "$\\x$", "é", "-1", "99999999999999999999", "nan", _PLACEHOLDER),
)


# Models -------------------------------------------------------------------------------------------


def templates() -> dict[str, onnx.ModelProto]:
    """The models that are damaged, by name: together they use every converter and every form."""
    rng = np.random.default_rng(0)

    def f32(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32) / 4

    node = helper.make_node
    pads = {"pads": [1, 1, 1, 1]}
    mask = (rng.random((1, 1, 8, 8)) > 0.4).astype(np.float32)
    kept = np.flatnonzero(mask)
    source = kept[np.searchsorted(kept, np.arange(64)) % len(kept)].astype(np.int64)
    positive = np.abs(f32(4)) + 1
    norm = {"g": positive, "b": f32(4), "m": f32(4), "v": positive}
    models = {
        "masked": _model(
            [
                node("Conv", ["x", "a.weight"], ["c1"], name="c1", **pads),
                node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], epsilon=1e-3),
                node("Mul", ["n1", "a.activation_mask"], ["m1"]),
                node("Relu", ["m1"], ["r1"]),
                node("Conv", ["r1", "w", "b"], ["c2"], name="c2", strides=[1, 1], **pads),
                node("Reshape", ["c2", "flat"], ["f2"]),
                node("Gather", ["f2", "c2.activation_source"], ["s2"], axis=2),
                node("Reshape", ["s2", "shape"], ["m2"]),
                node("Add", ["m2", "r1"], ["a1"]),
                node("GlobalAveragePool", ["a1"], ["p1"]),
                node("Flatten", ["p1"], ["v1"], axis=1),
                node("Gemm", ["v1", "fc", "bias"], ["y"], transB=1, alpha=0.5, beta=2.0),
            ],
            {"x": (1, 3, 8, 8)},
            {"y": (1, 5)},
            {
                **{"a.weight": f32(4, 3, 3, 3), "w": f32(4, 4, 3, 3), "a.activation_mask": mask},
                **{"flat": np.array([0, 0, -1]), "shape": np.array([0, 0, 8, 8])},
                **{"c2.activation_source": source, "fc": f32(5, 4), "bias": f32(5), **norm},
            },
        ),
        "strided": _model(
            [
                node("Split", ["x", "halves"], ["s1", "s2"], axis=1),
                node("Slice", ["s1", "starts", "ends", "axes", "steps"], ["c1"]),
                node("Transpose", ["s2"], ["t1"], perm=[0, 1, 3, 2]),
                node("Slice", ["t1", "starts", "ends", "axes", "steps"], ["c2"]),
                node("Concat", ["c1", "c2"], ["k1"], axis=1),
                node("Resize", ["k1", "", "scales"], ["u1"], mode="nearest"),
                node("Pad", ["u1", "pads", "zero"], ["p1"], mode="constant"),
                node("Conv", ["p1", "w"], ["c3"], group=2, dilations=[1, 1]),
                node("MaxPool", ["c3"], ["q1"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
                node("AveragePool", ["q1"], ["q2"], kernel_shape=[2, 2], count_include_pad=1),
                node("ReduceMean", ["q2", "hw"], ["e1"], keepdims=0),
                node("Softmax", ["e1"], ["y"], axis=-1),
                node("Squeeze", ["q3", "hw"], ["y2"]),
                node("GlobalMaxPool", ["q2"], ["q3"]),
            ],
            {"x": ("N", 4, 8, 8)},
            {"y": None, "y2": None},
            {
                **{"halves": np.array([2, 2]), "starts": np.array([0, 2]), "zero": np.float32(0)},
                **{"ends": np.array([8, -1]), "axes": np.array([2, 3]), "steps": np.array([1, 2])},
                **{"scales": np.array([1, 1, 2, 2], np.float32), "w": f32(4, 2, 3, 3)},
                **{"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "hw": np.array([2, 3])},
            },
            opset=18,
        ),
        "arithmetic": _model(
            [
                node("Constant", [], ["half"], value=numpy_helper.from_array(np.float32([0.5]))),
                node("Shape", ["x"], ["dims"]),
                node("Gather", ["dims", "zero"], ["n"], axis=0),
                node("Unsqueeze", ["n", "front"], ["n1"]),
                node("Concat", ["n1", "minus"], ["flat"], axis=0),
                node("Mul", ["x", "half"], ["a1"]),
                node("Sub", ["a1", "ramp"], ["a2"]),
                node("Div", ["a2", "three"], ["a3"]),
                node("Clip", ["a3", "lo", "hi"], ["a4"]),
                node("HardSwish", ["a4"], ["a5"]),
                node("LeakyRelu", ["a5"], ["a6"], alpha=0.1),
                node("Sigmoid", ["a6"], ["g1"]),
                node("Max", ["a6", "g1"], ["a7"]),
                node("Pow", ["a7", "two"], ["a8"]),
                node("Neg", ["a8"], ["a9"]),
                node("Tanh", ["a9"], ["a10"]),
                node("HardSigmoid", ["a10"], ["a11"], alpha=0.2),
                node("Reshape", ["a11", "flat"], ["a12"]),
                node("MatMul", ["a12", "fc"], ["y"]),
            ],
            {"x": (2, 3, 4, 5), "unused": (1, 7)},
            {"y": (2, 6)},
            {
                **{"zero": np.int64(0), "front": np.array([0]), "minus": np.array([-1])},
                **{"ramp": f32(3, 1, 1), "three": np.float32(3), "lo": np.float32(-1)},
                **{"hi": np.float32(6), "two": np.float32(2), "fc": f32(60, 6)},
            },
        ),
        "old": _model(
            [
                node("Conv", ["x", "w", "b"], ["c1"], auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
                node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"]),
                node("Upsample", ["n1", "scales"], ["u1"], mode="nearest"),
                node("Clip", ["u1"], ["a1"], min=0.0, max=6.0),
                node("Pad", ["a1"], ["p1"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.0),
                node("Conv", ["p1", "w2"], ["c2"], strides=[2, 2]),
                node("Dropout", ["c2"], ["d1"], ratio=0.5),
                node("Unsqueeze", ["d1"], ["q1"], axes=[0]),
                node("Squeeze", ["q1"], ["q2"], axes=[0]),
                node("Identity", ["q2"], ["y"]),
            ],
            {"x": (1, 3, 8, 8)},
            {"y": None},
            {
                "w": f32(4, 3, 3, 3),
                "w2": f32(2, 4, 3, 3),
                "scales": np.float32([1, 1, 2, 2]),
                **norm,
            },
            opset=9,
        ),
    }
    models["quantised"] = _model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w8", "s", "z"], ["w"], axis=1),
            node("Conv", ["d", "w"], ["y"], kernel_shape=[3, 3]),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": (1, 4, 6, 6)},
        {"s": np.float32(0.1), "z": np.int8(0), "w8": np.int8(rng.integers(-9, 9, (4, 3, 3, 3)))},
    )
    models["branch"] = _with_branch(f32)
    models["external"] = _with_external_data(models["masked"])
    models["function"] = _with_function()
    models["sparse"] = _with_sparse_constant(f32)
    return models


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, Any],
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.metadata_props.add(key="activsparse.requested", value='{"a": 0.4}')
    return model


def _with_branch(f32: Callable[..., np.ndarray]) -> onnx.ModelProto:
    """A node with sub-graphs, on a constant and on a value."""
    parts = [
        helper.make_graph(
            [helper.make_node(op, ["x"], [op])],
            op,
            [],
            [helper.make_tensor_value_info(op, TensorProto.FLOAT, None)],
        )
        for op in ("Relu", "Sigmoid")
    ]
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=parts[0], else_branch=parts[1])
    constants = {"yes": np.array([True]), "k": f32(3, 1, 1)}
    nodes = [helper.make_node("Mul", ["i", "k"], ["x"]), choice]
    return _model(nodes, {"i": (1, 3, 4, 4)}, {"y": (1, 3, 4, 4)}, constants)


def _with_external_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """All constants in the file `EXTERNAL`, one behind the other."""
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    offset = 0
    for tensor in moved.graph.initializer:
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": EXTERNAL, "offset": offset, "length": length}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        offset += length
    return moved


def _with_function() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    body = [
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["r"]),
    ]
    silu = helper.make_function("local", "Silu", ["a"], ["r"], body, opsets[:1])
    twice = helper.make_function(
        *("local", "Twice", ["a"], ["r"]),
        [
            helper.make_node("Silu", ["a"], ["s"], domain="local"),
            helper.make_node("Silu", ["s"], ["r"], domain="local"),
        ],
        opsets,
    )
    model = _model(
        [helper.make_node("Twice", ["x"], ["y"], domain="local")],
        {"x": (1, 3, 4, 4)},
        {"y": (1, 3, 4, 4)},
        {},
    )
    model.functions.extend([silu, twice])
    model.opset_import.append(opsets[1])
    return model


def _with_sparse_constant(f32: Callable[..., np.ndarray]) -> onnx.ModelProto:
    values = numpy_helper.from_array(f32(5), "w")
    indices = numpy_helper.from_array(np.array([0, 7, 20, 50, 107]), "w_indices")
    model = _model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        {"x": (1, 3, 8, 8)},
        {"y": (1, 4, 8, 8)},
        {},
    )
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(values)
    sparse.indices.CopyFrom(indices)
    sparse.dims.extend([4, 3, 3, 3])
    return model


# Damage -------------------------------------------------------------------------------------------


def damaged(seed: int) -> tuple[bytes, str]:
    """The content of a file, and what was done to it."""
    rng = np.random.default_rng([seed, 0x0FF])
    models = templates()
    name = str(rng.choice(sorted(models)))
    model, done = models[name], [name]
    kind = rng.choice(["fields", "meaning", "bytes", "cut", "both"], p=[0.4, 0.4, 0.1, 0.03, 0.07])
    times = int(rng.choice([1, 1, 1, 2, 3]))
    if kind in ("fields", "both"):
        done += [_damage_field(model, rng) for _ in range(times)]
    if kind == "meaning":
        done += [_damage_meaning(model, rng) for _ in range(times)]
    content = model.SerializeToString().replace(_PLACEHOLDER.encode(), _NO_UTF8)
    if kind in ("bytes", "both"):
        content = _damage_bytes(bytearray(content), rng, done)
    if kind == "cut":
        length = int(rng.integers(len(content)))
        content = content[:length]
        done.append(f"cut at {length}")
    return content, ", ".join(done)


def _damage_bytes(content: bytearray, rng: np.random.Generator, done: list[str]) -> bytes:
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(content)))
        how = str(rng.choice(["flip", "set", "insert", "drop", "copy"]))
        if how == "flip":
            content[at] ^= 1 << int(rng.integers(8))
        elif how == "set":
            content[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
        elif how == "insert":
            content[at:at] = rng.bytes(int(rng.integers(1, 12)))
        elif how == "drop":
            del content[at : at + int(rng.integers(1, 12))]
        else:
            start = int(rng.integers(len(content)))
            content[at:at] = content[start : start + int(rng.integers(1, 64))]
        done.append(f"{how} at {at}")
    return bytes(content)


def _damage_meaning(model: onnx.ModelProto, rng: np.random.Generator) -> str:
    """Keep the file well formed and make what it says odd."""
    graph = model.graph
    how = str(rng.choice(["values", "shape", "type", "input", "attribute", "operator", "link"]))
    if how in ("values", "shape", "type") and graph.initializer:
        tensor = graph.initializer[int(rng.integers(len(graph.initializer)))]
        if tensor.data_location == TensorProto.EXTERNAL:
            entry = tensor.external_data[int(rng.integers(3))]
            entry.value = str(_INTEGERS[int(rng.integers(len(_INTEGERS)))])
            return f"external {entry.key} of {tensor.name}: {entry.value}"
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(_odd_array(array, how, rng), tensor.name))
        return f"{how} of {tensor.name}: {tensor.data_type}, {list(tensor.dims)}"
    node = graph.node[int(rng.integers(len(graph.node)))]
    if how == "input":
        value = graph.input[int(rng.integers(len(graph.input)))]
        dims = value.type.tensor_type.shape.dim
        if dims:
            sizes = (0, 1, 2, 3, 5, 64, -1, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62)
            at = int(rng.integers(len(dims)))
            dims[at].dim_value = sizes[int(rng.integers(len(sizes)))]
            return f"size {at} of {value.name}: {dims[at].dim_value}"
    if how == "attribute" and node.attribute:
        attribute = node.attribute[int(rng.integers(len(node.attribute)))]
        if attribute.ints:
            at = int(rng.integers(len(attribute.ints)))
            attribute.ints[at] = _value_of_integer(rng)
        elif attribute.type == onnx.AttributeProto.INT:
            attribute.i = _value_of_integer(rng)
        elif attribute.type == onnx.AttributeProto.FLOAT:
            attribute.f = _FLOATS[int(rng.integers(len(_FLOATS)))]
        return f"{attribute.name} of {node.op_type}: {helper.get_attribute_value(attribute)}"[:90]
    if how == "operator":
        operators = [name for name in _names(model) if name[:1].isupper()]
        node.op_type = operators[int(rng.integers(len(operators)))]
        return f"operator of {node.output[:1]}: {node.op_type}"
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    names = sorted({*names, "", *(value.name for value in graph.input)})
    if node.input:
        at = int(rng.integers(len(node.input)))
        node.input[at] = names[int(rng.integers(len(names)))]
    return f"input of {node.op_type}: {list(node.input)}"


def _value_of_integer(rng: np.random.Generator) -> int:
    values = range(-2, 6) if rng.random() < 0.5 else _INTEGERS
    return int(values[int(rng.integers(len(values)))])


def _odd_array(array: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Another array of the type, of a shape or of values nobody expects; or of another type."""
    if how == "type":
        types = ("f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "c8")
        return array.astype(types[int(rng.integers(len(types)))])
    if how == "shape":
        shape = list(array.shape)
        change = str(rng.choice(["swap", "grow", "shrink", "zero", "more", "fewer"]))
        at = int(rng.integers(len(shape))) if shape else 0
        if not shape or change == "more":
            shape.insert(at, int(rng.choice([1, 1, 2, 0])))
        elif change == "swap":
            shape = shape[::-1]
        elif change == "fewer":
            del shape[at]
        else:
            sizes = {"grow": shape[at] + 1, "shrink": max(shape[at] - 1, 0), "zero": 0}
            shape[at] = sizes[change]
        return np.resize(array, shape)
    array = array.copy()
    odd: Any = _FLOATS if array.dtype.kind == "f" else _INTEGERS + tuple(range(-4, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if array.size:
            at = int(rng.integers(array.size))
            array.reshape(-1)[at] = np.array(odd[int(rng.integers(len(odd)))]).astype(array.dtype)
    return array


def _messages(message: Message, path: str) -> Iterator[tuple[str, Message]]:
    yield path, message
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        items = list(value) if field.is_repeated else [value]
        for i, item in enumerate(items):
            yield from _messages(item, f"{path}.{field.name}[{i}]")


def _damage_field(model: onnx.ModelProto, rng: np.random.Generator) -> str:
    """Change one field of one message; small messages get as much attention as large ones."""
    messages = list(_messages(model, "model"))
    kinds = sorted({type(m).__name__ for _, m in messages})
    kind = str(rng.choice(kinds))
    of_kind = [(path, m) for path, m in messages if type(m).__name__ == kind]
    path, message = of_kind[int(rng.integers(len(of_kind)))]
    present = [field for field, _ in message.ListFields()]
    fields = present if present and rng.random() < 0.8 else list(message.DESCRIPTOR.fields)
    field = fields[int(rng.integers(len(fields)))]
    where = f"{path}.{field.name}"
    if field.is_repeated:
        return f"{where}: {_damage_list(message, field, messages, rng)}"
    if field.type == field.TYPE_MESSAGE:
        others = [m for _, m in messages if m.DESCRIPTOR is field.message_type]
        if others and rng.random() < 0.5:
            copy = type(others[0])()
            copy.CopyFrom(others[int(rng.integers(len(others)))])
            getattr(message, field.name).CopyFrom(copy)
            return f"{where}: another one"
        if rng.random() < 0.5:
            message.ClearField(field.name)
            return f"{where}: removed"
        getattr(message, field.name).SetInParent()
        return f"{where}: set"
    if rng.random() < 0.2:
        message.ClearField(field.name)
        return f"{where}: removed"
    value = _value(field, getattr(message, field.name), model, rng)
    try:
        setattr(message, field.name, value)
    except (ValueError, TypeError):  # outside what the field can hold
        message.ClearField(field.name)
        return f"{where}: removed"
    return f"{where}: {str(value)[:40]!r}"


def _damage_list(
    message: Message, field: Any, messages: list[tuple[str, Message]], rng: np.random.Generator
) -> str:
    items = getattr(message, field.name)
    how = str(rng.choice(["drop", "clear", "double", "swap", "append", "set", "many"]))
    if field.type == field.TYPE_MESSAGE:
        others = [m for _, m in messages if m.DESCRIPTOR is field.message_type]
        if how in ("append", "set", "many") or not items:
            new = items.add()
            if others and rng.random() < 0.8:
                copy = type(new)()
                copy.CopyFrom(others[int(rng.integers(len(others)))])
                new.CopyFrom(copy)
            return "appended another one"
        at = int(rng.integers(len(items)))
        if how == "drop":
            del items[at]
        elif how == "clear":
            message.ClearField(field.name)
        elif how == "double":
            copy = type(items[at])()
            copy.CopyFrom(items[at])
            items.append(copy)
        else:
            copies = [type(item).FromString(item.SerializeToString()) for item in items]
            other = int(rng.integers(len(items)))
            copies[at], copies[other] = copies[other], copies[at]
            del items[:]
            items.extend(copies)
        return f"{how} {at}"
    values = list(items)
    at = int(rng.integers(len(values))) if values else 0
    if how == "clear" or not values:
        values = [] if values else [_value(field, None, message, rng)]
    elif how == "drop":
        del values[at]
    elif how == "double":
        values.insert(at, values[at])
    elif how == "swap":
        other = int(rng.integers(len(values)))
        values[at], values[other] = values[other], values[at]
    elif how == "append":
        values.append(_value(field, None, message, rng))
    elif how == "many":
        values = (values * 3000)[:3000]
    else:
        values[at] = _value(field, values[at], message, rng)
    try:
        del items[:]
        items.extend(values)
    except (ValueError, TypeError):
        del items[:]
        return "cleared"
    return f"{how} {at}"


def _value(field: Any, old: Any, model: Message, rng: np.random.Generator) -> Any:
    if field.type == field.TYPE_STRING:
        names = _names(model)
        if names and rng.random() < 0.6:
            return names[int(rng.integers(len(names)))]
        return _STRINGS[int(rng.integers(len(_STRINGS)))]
    if field.type == field.TYPE_BYTES:
        old = old or b""
        return [b"", old[:-1], old + b"\0", old + old, b"\xff" * len(old), rng.bytes(len(old))][
            int(rng.integers(6))
        ]
    if field.type == field.TYPE_ENUM:
        values = [value.number for value in field.enum_type.values]
        return values[int(rng.integers(len(values)))]
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return _FLOATS[int(rng.integers(len(_FLOATS)))]
    near = [*range(20), *((old + d for d in (-1, 1)) if isinstance(old, int) else ())]
    choices = near if rng.random() < 0.5 else _INTEGERS
    value = int(choices[int(rng.integers(len(choices)))])
    return max(min(value, 2**31 - 1), -(2**31)) if field.type == field.TYPE_INT32 else value


def _names(model: Message) -> list[str]:
    if not isinstance(model, onnx.ModelProto):
        return []
    graph = model.graph
    names = {name for node in graph.node for name in (*node.input, *node.output, node.op_type)}
    ops = {"Relu", "Conv", "QLinearConv", "DequantizeLinear", "Loop", "If", "Erf", "NonZero"}
    ops |= {"Expand", "ConstantOfShape", "Range", "Tile", "Einsum", "SequenceEmpty", "OneHot"}
    return sorted(names | ops | {tensor.name for tensor in graph.initializer})


# Doors --------------------------------------------------------------------------------------------


def _load(path: Path, folder: Path) -> None:
    from activsparse.engine.load import load

    load(path)


def _session(path: Path, folder: Path) -> None:
    from activsparse import Session

    session = Session(path, tune=False)
    if sum(int(np.prod(shape)) for _, shape in session.inputs) <= _MOST_RUN:
        session.run(session.random_input())


def _fallback(path: Path, folder: Path) -> None:
    from activsparse import Session

    session = Session(path, tune=False, fallback="onnxruntime")
    if sum(int(np.prod(shape)) for _, shape in session.inputs) <= _MOST_RUN:
        session.run(session.random_input())


def _given_shapes(path: Path, folder: Path) -> None:
    from activsparse import Session
    from activsparse.engine.input_size import shapes_at
    from activsparse.input_sizes import InputSizes

    sizes = InputSizes(input_size=(9, 7), batch=2)
    Session(path, tune=False, input_shapes=shapes_at(path, sizes))


def _mask(path: Path, folder: Path) -> None:
    from activsparse.export.mask import mask_model
    from activsparse.export.model_file import read_model, write_model

    masked, _ = mask_model(read_model(path), 0.3, name=path.name, replace=True)
    write_model(masked, folder / "masked.onnx")


def _mask_proto(path: Path, folder: Path) -> None:
    from activsparse.errors import ActivsparseError
    from activsparse.export.mask import mask_model

    try:
        model = onnx.load(path)
    except Exception as error:  # whoever loads by other means has other errors
        raise ActivsparseError("not a protobuf") from error
    mask_model(model, 0.3, pattern="random", fill="nearest", skip_stem=False, replace=True)


def _read_masks(path: Path, folder: Path) -> None:
    from activsparse.export.read import read_masks

    read_masks(path)


def _find_masks(path: Path, folder: Path) -> None:
    from activsparse.export.insert import find_masks
    from activsparse.export.model_file import read_model

    find_masks(read_model(path).graph)


def _convert(path: Path, folder: Path) -> None:
    from activsparse.litert import convert

    convert(path, folder / "converted.tflite", verify=False)


def _rewrite(path: Path, folder: Path) -> None:
    from activsparse.onnxruntime import rewrite

    rewrite(path, folder / "rewritten.onnx", tune=False)


def _plan(path: Path, folder: Path) -> None:
    from activsparse import Session
    from activsparse.engine.compile import compile_file

    compile_file(path, folder / "plan", target="aarch64", tune=False)
    compile_file(path, folder / "plan", tune=False)
    Session(folder / "plan").explain()


DOORS: dict[str, Callable[[Path, Path], None]] = {
    "load": _load,
    "Session": _session,
    "fallback": _fallback,
    "input_shapes": _given_shapes,
    "mask": _mask,
    "mask_model": _mask_proto,
    "read_masks": _read_masks,
    "find_masks": _find_masks,
    "convert": _convert,
    "rewrite": _rewrite,
    "plan": _plan,
}
"""What reads a file, by name: given the file and a folder to write to."""


def verdict(content: bytes, folder: Path, doors: list[str]) -> dict[str, str]:
    """What each door did: "works", "refused: the line", or "wrong: what was seen"."""
    from activsparse import ActivsparseError

    path = folder / "hostile.onnx"
    path.write_bytes(content)
    weights = templates()["masked"].graph.initializer
    (folder / EXTERNAL).write_bytes(b"".join(tensor.raw_data for tensor in weights))
    seen = {}
    for door in doors:
        try:
            DOORS[door](path, folder)
        except ActivsparseError as error:  # noqa: PERF203  (every door is tried)
            text = str(error)
            plain = text.isprintable() and len(text) <= 2100 and "please report" not in text
            seen[door] = f"{'refused' if plain else 'wrong: not one line'}: {text}"
        except Exception as error:  # anything else is what must not be
            place = traceback.extract_tb(error.__traceback__)
            ours = [f for f in place if "/activsparse/" in f.filename] or place
            at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            seen[door] = f"wrong: {type(error).__name__} at {at}: {str(error)[:200]}"
        else:
            seen[door] = "works"
    return seen


def doors_of(seed: int) -> list[str]:
    """Some of the doors: all of them for every file would take long."""
    rng = np.random.default_rng([seed, 0xD00])
    others = [door for door in DOORS if door != "Session"]
    return ["Session", *rng.choice(others, 3, replace=False).tolist()]


# Many ---------------------------------------------------------------------------------------------


def _serve() -> None:
    """Answer seeds on standard input with verdicts, in limited memory."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    os.environ["ACTIVSPARSE_CACHE"] = "off"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = templates()["masked"].SerializeToString()
        verdict(content, folder, list(DOORS))  # everything is imported and warm
        limit_memory()
        for line in sys.stdin:
            seed = int(line)
            content, done = damaged(seed)
            seen = verdict(content, folder, doors_of(seed))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({"done": done, "seen": seen, "peak_kib": peak}), file=replies)


def limit_memory() -> None:
    """Let this process take little more memory than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + _EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Server:
    """A process that answers seeds, started again when it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen | None = None

    def ask(self, seed: int) -> dict[str, Any]:
        """The verdict on a seed."""
        if self._process is None:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.hostile", "--serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        process = self._process
        process.stdin.write(f"{seed}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], CASE_SECONDS)
        line = process.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self.close()
        code = process.returncode
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        where = [text.strip() for text in lines if "activsparse" in text and "File" in text]
        cause = signal.Signals(-code).name if ready and code < 0 else f"hang, {CASE_SECONDS} s"
        return {"done": damaged(seed)[1], "seen": {"process": f"wrong: {cause} {where[:1]}"}}

    def close(self) -> None:
        """Stop the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGABRT)  # faulthandler says where it was
            process.wait()


def main() -> int:
    """Try many files and print what went wrong; 1 if anything did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, help="first seed (default: a fresh one)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        _serve()
        return 0
    first = secrets.randbelow(2**31) if args.first is None else args.first
    print(f"seeds from {first}", flush=True)
    counts: Counter[str] = Counter()
    server, peak, begin = Server(), 0, time.monotonic()
    for seed in range(first, first + args.cases):
        answer = server.ask(seed)
        peak = max(peak, answer.get("peak_kib", 0))
        for door, text in answer["seen"].items():
            kind = text.split(":")[0]
            counts[kind] += 1
            if kind == "wrong":
                print(f"seed {seed}, {door}: {text}\n    ({answer['done']})", flush=True)
    server.close()
    print(
        f"{args.cases} files in {time.monotonic() - begin:.0f} s: "
        + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        + f"; {peak / 2**20:.1f} GiB at most"
    )
    return int(counts["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
