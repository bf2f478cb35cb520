"""Operators that move or pick bytes, of QOperator files and between pairs."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
import quantised
from onnx import numpy_helper, parser
from oracle import expected
from test_quantised import outside

from activsparse import Session

# An operator on the bytes `q` of (1, 12, 9, 10), and whether it runs on bytes.
PLAIN = {
    "Slice": ("Slice(q, starts, ends, axes, steps)", True),
    "Slice of channels": ("Slice(q, one, five, one)", True),
    "Slice backwards": ("Slice(q, five, front, axis3, minus)", True),
    "Pad": ("Pad(q, pads, frame)", True),
    "Pad by byte 0": ("Pad(q, pads)", True),
    "Pad and cut": ("Pad(q, mixed, frame)", False),
    "Pad reflect": ('Pad<mode = "reflect">(q, pads)', True),
    "Pad edge": ('Pad<mode = "edge">(q, pads)', True),
    "Pad of channels": ("Pad(q, deep, frame)", False),
    "Gather of rows": ("Gather<axis = 2>(q, rows)", True),
    "Gather of channels": ("Gather<axis = 1>(q, rows)", False),
    "MaxPool": ("MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(q)", True),
    "Resize nearest": ('Resize<mode = "nearest">(q, none, scales)', True),
    "Resize linear": ('Resize<mode = "linear">(q, none, scales)', False),
    "Reshape": ("Reshape(q, shape)", False),
    "Flatten": ("Flatten(q)", False),
    "Transpose": ("Transpose<perm = [0, 2, 3, 1]>(q)", False),
    "Concat": ("Concat<axis = 1>(q, q)", True),
    "Concat with a constant": ("Concat<axis = 1>(q, bytes)", False),
    "Tile": ("Tile(q, twice)", False),
    "DepthToSpace": ("DepthToSpace<blocksize = 2>(q)", False),
    "ReduceMax": ("ReduceMax<axes = [2, 3], keepdims = 1>(q)", False),
}
CONSTANTS = {
    "starts": [1, 2], "ends": [8, 9], "axes": [2, 3], "steps": [1, 2], "one": [1], "five": [5],
    "minus": [-1], "front": [-99], "axis3": [3], "pads": [0, 0, 1, 2, 0, 0, 0, 1],
    "shape": [1, 6, 18, 10],
    "mixed": [0, 0, -1, 2, 0, 0, 3, -2], "deep": [0, 2, 0, 0, 0, 1, 0, 0], "rows": [2, 2, 0, 7],
    "twice": [1, 1, 2, 1],
}  # fmt: skip


def model_of(body: str, dtype: str, zero: int, frame: int) -> onnx.ModelProto:
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 14]>
        g (float[1, 12, 9, 10] x) => (float y)
        <float s = {{0.05}}, {dtype} z = {{{zero}}}, {dtype} frame = {{{frame}}}, float none = {{}},
         float[4] scales = {{1.0, 1.0, 2.0, 2.0}}>
        {{ q = QuantizeLinear(x, s, z)  {body} }}"""
    )
    for t in list(model.graph.initializer):
        if t.name == "none":
            t.dims[:] = [0]
    known = {key: np.array(value) for key, value in CONSTANTS.items()}
    known["bytes"] = np.arange(90, dtype=dtype).reshape(1, 1, 9, 10)
    tensors = [numpy_helper.from_array(value, key) for key, value in known.items()]
    model.graph.initializer.extend(tensors)
    return model


def kinds_of(session: Session) -> list[str]:
    return [r.kind for r in session.explain()]


@pytest.mark.parametrize(("dtype", "zero", "frame"), [("uint8", 121, 7), ("int8", -9, -100)])
@pytest.mark.parametrize("operator", PLAIN)
def test_plain_operators_on_bytes(tmp_path, operator, dtype, zero, frame):
    text, on_bytes = PLAIN[operator]
    body = f"r = {text}  y = DequantizeLinear(r, s, z)"
    onnx.save(model_of(body, dtype, zero, frame), tmp_path / "q.onnx")
    x = np.random.default_rng(3).normal(0, 3, (1, 12, 9, 10)).astype(np.float32)
    session = Session(tmp_path / "q.onnx")
    (truth,) = expected(tmp_path / "q.onnx", {"x": x})
    room = 0.0501 if "linear" in operator else 1e-6  # which ONNX Runtime truncates
    got = session.run(x)
    assert got.shape == truth.shape
    np.testing.assert_allclose(got, truth, rtol=0, atol=room, err_msg=operator)
    if on_bytes:
        assert kinds_of(session).count("quantise") == 1, kinds_of(session)


def test_an_index_of_bytes_is_no_byte(tmp_path):
    body = "y = ArgMax<axis = 1>(q)"
    model = model_of(body, "uint8", 121, 0)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, tmp_path / "q.onnx")
    x = np.random.default_rng(4).normal(0, 3, (1, 12, 9, 10)).astype(np.float32)
    (truth,) = expected(tmp_path / "q.onnx", {"x": x})
    np.testing.assert_array_equal(Session(tmp_path / "q.onnx").run(x), truth)


@pytest.mark.parametrize("operator", ["Softmax", "Where"])
def test_quantised_operators_of_onnxruntime(tmp_path, operator):
    parts = {
        "Softmax": "r = com.microsoft.QLinearSoftmax<axis = 1, opset = 14>(q, s, z, t, zero)",
        "Where": "r = com.microsoft.QLinearWhere(mask, q, s, z, q, u, z, t, zero)",
    }
    model = model_of(f"{parts[operator]}  y = DequantizeLinear(r, t, zero)", "uint8", 121, 0)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    wide = 1 / 256 if operator == "Softmax" else 0.09
    mask = np.random.default_rng(1).random((1, 1, 9, 10)) < 0.5
    constants = {"t": np.float32(wide), "zero": np.uint8(0), "u": np.float32(0.11), "mask": mask}
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    model.graph.initializer.extend(tensors)
    onnx.save(model, tmp_path / "q.onnx")
    x = np.random.default_rng(5).normal(0, 3, (1, 12, 9, 10)).astype(np.float32)
    (truth,) = expected(tmp_path / "q.onnx", {"x": x})
    np.testing.assert_allclose(Session(tmp_path / "q.onnx").run(x), truth, rtol=0, atol=wide * 1.01)


def random_network(seed: int) -> graphs.Builder:
    """Convolutions with moves between them that a quantiser leaves on bytes."""
    b = graphs.Builder(seed, 13)
    rng = b.rng
    x = b.node("Relu", b.conv(b.input(1, 3, *map(int, rng.integers(9, 16, 2))), 24))
    for _ in range(3):
        n, c, h, w = b.shapes[x]
        kind = rng.choice(["pad", "rows", "channels", "split", "pool", "fill"])
        if kind == "pad":
            top, left, bottom, right = map(int, rng.integers(0, 3, 4))
            amounts = b.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))
            value = [b.constant(np.float32(rng.choice([0.0, 0.5])))]
            shape = (n, c, h + top + bottom, w + left + right)
            x = b.node("Pad", x, amounts, *value, shape=shape)
        elif kind == "rows":
            corner = [b.constant(np.array(v)) for v in ([1, 0], [h, w - 1], [2, 3])]
            x = b.node("Slice", x, *corner, shape=(n, c, h - 1, w - 1))
        elif kind == "channels":
            first, size = int(rng.integers(0, 5)), int(rng.integers(3, c - 4))
            ends = [b.constant(np.array([v])) for v in (first, first + size, 1)]
            x = b.node("Slice", x, *ends, shape=(n, size, h, w))
        elif kind == "split":
            sizes = (first := int(rng.integers(1, c)), c - first)
            parts = [f"{x}.{i}.{len(b.nodes)}" for i in range(2)]
            counts = b.constant(np.array(sizes))
            b.nodes.append(onnx.helper.make_node("Split", [x, counts], parts, axis=1))
            b.shapes |= {p: (n, s, h, w) for p, s in zip(parts, sizes, strict=True)}
            x = b.node("Concat", *reversed(parts), shape=(n, c, h, w), axis=1)
        elif kind == "pool":
            x = b.node("MaxPool", x, shape=(n, c, h - 1, w - 1), kernel_shape=(2, 2))
        else:
            x = b.fill(x, 0.4)
        x = b.node("Relu", b.conv(x, int(rng.choice([16, 24, 80]))))
    b.output = b.conv(x, 8)
    return b


@pytest.mark.parametrize("style", ["u8s8 per channel", "s8s8 per channel", "operators u8s8",
                                   "operators s8s8"])  # fmt: skip
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_move_bytes(tmp_path, seed, style):
    """By ONNX Runtime's quantiser; no result is further off than a rounding."""
    b = random_network(seed)
    b.save(tmp_path / "f.onnx", b.output)
    model = quantised.typed(tmp_path / "f.onnx")
    path = quantised.by_onnxruntime(model, tmp_path / "q.onnx", quantised.STYLES[style], seed)
    session = Session(path)
    assert outside(path, session, seed) == "", f"seed {seed}"
    assert kinds_of(session).count("quantise") == 1, f"seed {seed}: {kinds_of(session)}"


def test_channels_that_fill_cache_lines_are_not_copied(tmp_path):
    b = graphs.Builder(0, 13)
    x = b.node("Relu", b.conv(b.input(1, 3, 8, 9), 128))
    halves = ["left", "right"]
    b.nodes.append(onnx.helper.make_node("Split", [x], halves, axis=1))
    b.shapes |= dict.fromkeys(halves, (1, 64, 8, 9))
    b.save(tmp_path / "f.onnx", *[b.conv(half, 8) for half in halves])
    model = quantised.typed(tmp_path / "f.onnx")
    style = quantised.STYLES["u8s8 per channel"]
    path = quantised.by_onnxruntime(model, tmp_path / "q.onnx", style)
    session = Session(path)
    assert "gather_u8" not in kinds_of(session)
    assert outside(path, session, 2) == ""
