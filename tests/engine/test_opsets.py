"""Operators whose meaning or form changed between operator sets, at each of them."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest
from onnx import defs
from onnx.reference import ReferenceEvaluator

from activsparse import ActivsparseError, Session

OPSETS = range(7, defs.onnx_opset_version() + 1)


def int64(*values):
    return np.array(values, np.int64)


def as_input(b, name, value, since):
    """(attributes, inputs) of what is an attribute before opset `since` and an input from it on."""
    if b.opset < since:
        return {name: value}, ()
    return {}, (b.constant(int64(*value)),)


def squeeze(b, x):
    attributes, inputs = as_input(b, "axes", [0, 2], 13)
    return b.node("Squeeze", x, *inputs, **attributes)


def unsqueeze(b, x):
    attributes, inputs = as_input(b, "axes", [1], 13)
    return b.node("Unsqueeze", x, *inputs, **attributes)


def clip(b, x):
    if b.opset < 11:
        return b.node("Clip", x, min=-0.5, max=0.25)
    bounds = (b.constant(np.float32(-0.5)), b.constant(np.float32(0.25)))
    return b.node("Clip", x, *bounds)


def softmax(axis):
    return lambda b, x: b.node("Softmax", x, axis=axis)


def softmax_by_default(b, x):
    return b.node("Softmax", x)


def split(b, x):
    attributes, inputs = as_input(b, "split", [1, 2], 13)
    b.node("Split", x, *inputs, axis=1, **attributes)
    b.nodes[-1].output.append("second")
    return "second"


def cut(b, x):
    if b.opset < 10:
        return b.node("Slice", x, axes=[3], starts=[1], ends=[-1])
    return b.node("Slice", x, *map(b.constant, (int64(1), int64(-1), int64(3))))


def mean(b, x):
    attributes, inputs = as_input(b, "axes", [2, 3], 18)
    return b.node("ReduceMean", x, *inputs, keepdims=1, **attributes)


def dropout(b, x):
    return b.node("Dropout", x)


def norm(b, x):
    return b.norm(x)


def flatten(b, x):
    return b.node("Flatten", x, axis=2)


def upsample(b, x):
    scales = np.float32([1, 1, 2, 3])
    if b.opset < 9:
        return b.node("Upsample", x, scales=scales.tolist())
    if b.opset < 11:
        return b.node("Upsample" if b.opset == 9 else "Resize", x, b.constant(scales))
    roi = b.constant(np.zeros(0, np.float32))
    return b.node(
        "Resize",
        x,
        roi,
        b.constant(scales),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def over(op, since):
    def reduced(b, x):
        attributes, inputs = as_input(b, "axes", [1, 3], since)
        return b.node(op, x, *inputs, keepdims=0, **attributes)

    return reduced


def frame(b, x):
    amounts = [0, 1, 0, 2, 0, 0, 1, 0]
    if b.opset < 11:
        return b.node("Pad", x, pads=amounts, value=0.5)
    return b.node("Pad", x, b.constant(int64(*amounts)), b.constant(np.float32(0.5)))


def prelu(b, x):
    return b.node("PRelu", x, b.constant(np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1)))


def upconvolution(b, x):
    return b.node("ConvTranspose", x, b.constant(b.normal(3, 4, 2, 3)), strides=[2, 2])


def instance_norm(b, x):
    pair = (b.constant(b.uniform(3)), b.constant(b.normal(3)))
    return b.node("InstanceNormalization", x, *pair)


def cube(b, x):
    return b.node("Pow", x, b.constant(np.float32(3)))


def apart(b, x):
    q = [b.constant(np.float32(0.125)), b.constant(np.uint8(120))]
    return b.node("DequantizeLinear", b.node("QuantizeLinear", x, *q), *q)


def largest_two(b, x):
    if b.opset < 10:
        b.node("TopK", x, k=2, axis=3)
    else:
        b.node("TopK", x, b.constant(int64(2)), axis=3)
    b.nodes[-1].output.append("places")
    return b.nodes[-1].output[0]


def root_mean_square(b, x):
    return b.node("RMSNormalization", x, b.constant(b.uniform(6)), axis=-1)


def to_channels(mode):
    return lambda b, x: b.node("SpaceToDepth", x, blocksize=2, **mode)


STEPS = {
    "clip": clip,
    "cube": cube,
    "elu": lambda b, x: b.node("Elu", x, alpha=0.5),
    "frame": frame,
    "instance norm": instance_norm,
    "l2": over("ReduceL2", 18),
    "largest": over("ReduceMax", 18),
    "prelu": prelu,
    "response": lambda b, x: b.node("LRN", x, size=3, alpha=0.1),
    "sum": over("ReduceSum", 13),
    "upconvolution": upconvolution,
    "cut": cut,
    "dropout": dropout,
    "flatten": flatten,
    "mean": mean,
    "norm": norm,
    "softmax": softmax_by_default,
    "softmax over 1": softmax(1),
    "softmax over 2": softmax(2),
    "softmax over -1": softmax(-1),
    "split": split,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "upsample": upsample,
    "cast": lambda b, x: b.node("Cast", b.node("Cast", x, to=7), to=1),
    "celu": lambda b, x: b.node("Celu", x, alpha=0.5),
    "constant shape": lambda b, x: b.node("Reshape", x, b.constant(int64(0, -1))),
    "einsum": lambda b, x: b.node("Einsum", x, x, equation="nchw,nchv->nhwv"),
    "gelu": lambda b, x: b.node("Gelu", x, approximate="tanh"),
    "identity": lambda b, x: b.node("Relu", b.node("Identity", x)),
    "largest two": largest_two,
    "log of sums": over("ReduceLogSumExp", 18),
    "mish": lambda b, x: b.node("Mish", x),
    "quantised": apart,
    "root mean square": root_mean_square,
    "swish": lambda b, x: b.node("Swish", x, alpha=0.5),
    "to channels": to_channels({}),
    "to channels by depth": to_channels({"mode": "CRD"}),
    "to depth": lambda b, x: b.node("DepthToSpace", x, blocksize=2, mode="CRD"),
    "transpose": lambda b, x: b.node("Transpose", x, perm=[0, 2, 3, 1]),
}
SINCE = {
    "celu": 12,
    "einsum": 12,
    "gelu": 20,
    "mish": 18,
    "quantised": 10,
    "root mean square": 23,
    "swish": 24,
    "to channels by depth": 28,
    "to depth": 11,
}
"""Operator sets that operators or attributes came with, where that is no 7."""
CHANNELS = {"to depth": 4}


@pytest.mark.parametrize(
    ("opset", "step"),
    [(opset, step) for opset in OPSETS for step in STEPS if opset >= SINCE.get(step, 0)],
)
def test_of_an_input(tmp_path, opset, step):
    b = graphs.Builder(opset, opset=opset)
    x = b.input(1, CHANNELS.get(step, 3), 1 if "squeeze" in step else 5 + ("channels" in step), 6)
    path = b.save(tmp_path / "m.onnx", STEPS[step](b, x))
    feed = {"x": b.normal(*b.shapes[x])}
    oracle.check(path, feed, (opset, step), meaning(path, feed, step))


def meaning(path, feed, step):
    """What ONNX Runtime makes of a file, or the onnx package of what that does not know yet."""
    try:
        return oracle.expected(path, feed)
    except Exception as error:  # its exception types share no narrower base
        known = "opset" in str(error) or "implementation" in str(error)
        if not known or step == "response":  # of which the package is wrong
            raise
        return ReferenceEvaluator(str(path)).run(None, feed)


def test_what_the_onnx_package_computes_wrongly_is_no_constant(tmp_path):
    b = graphs.Builder(opset=13)
    k = b.constant(b.normal(1, 3, 1, 6))
    b.shapes[k] = (1, 3, 1, 6)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.input(1, 3)), STEPS["response"](b, k))
    with pytest.raises(ActivsparseError, match="wrongly"):
        Session(path)
    oracle.check(path, fallback="onnxruntime")


@pytest.mark.parametrize("step", [s for s in STEPS if s not in {"response", *SINCE, "to channels"}])
@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 18, OPSETS[-1]])
def test_of_a_constant(tmp_path, opset, step):
    """The compiler evaluates it, by the rules of the file's operator set."""
    b = graphs.Builder(opset, opset=opset)
    x = b.node("Relu", b.input(1, 3))
    k = b.constant(b.normal(1, 3, 1, 6))
    b.shapes[k] = (1, 3, 1, 6)
    oracle.check(b.save(tmp_path / "m.onnx", x, STEPS[step](b, k)), context=(opset, step))


def test_a_view_with_an_open_batch_as_torch_wrote_it_at_opset_11(tmp_path):
    b = graphs.Builder(opset=11)
    pooled = b.node("GlobalAveragePool", b.input("N", 3, 6, 6))
    batch = b.node("Gather", b.node("Shape", pooled), b.constant(np.int64(0)), axis=0)
    sizes = (b.node("Unsqueeze", batch, axes=[0]), b.constant(int64(-1)))
    y = b.node("Reshape", pooled, b.node("Concat", *sizes, axis=0))
    x = {"x": b.normal(1, 3, 6, 6)}
    oracle.check(b.save(tmp_path / "m.onnx", y), x)
