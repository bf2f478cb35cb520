"""The exact evaluation of quantised models, against ONNX Runtime and whole-number loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import quantised
from onnx import TensorProto, helper, numpy_helper

from activsparse.engine.exact import SLACK, ExactModel, Span
from activsparse.engine.exact.windows import average_pool, convolve, max_pool

_FAST = ("u8s8 per channel", "operators u8s8", "nncf", "pt2e")
CASES = [
    pytest.param(
        network, style, marks=[] if style in _FAST or network == "plain" else pytest.mark.slow
    )
    for network, style in quantised.cases()
]


def by_onnxruntime(path, x, unsaturated: bool = False):
    """What a file says: QDQ in float32, or products of 8 bits that do not saturate without VNNI."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if unsaturated:
        options.add_session_config_entry("session.x64quantprecision", "1")
    else:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, x)


@pytest.mark.parametrize(("network", "style"), CASES)
def test_onnxruntime_lies_within_the_range(tmp_path, network, style):
    path = quantised.case(tmp_path / "q.onnx", network, style, seed=5)
    (x,) = quantised.images(onnx.load(path), 7, 1)
    exact = ExactModel(path)
    ranges = exact.run(x, slack=SLACK)
    how = quantised.STYLES[style]
    outputs = by_onnxruntime(path, x, how.operators and how.activations == "uint8")
    for name, y in zip(exact.outputs, outputs, strict=True):
        r = ranges[name]
        context = f"{network}, {style}, output {name} {y.shape}"
        np.testing.assert_array_less(r.low - 1e-5, y, err_msg=context)
        np.testing.assert_array_less(y, r.high + 1e-5, err_msg=context)


@pytest.mark.parametrize("network", ["residual", "curved", "joined", "masked_silu"])
def test_ranges_hold_every_choice(tmp_path, network):
    """Random choices at boundaries stay in the range, and some differ where it is wide."""
    path = quantised.case(tmp_path / "q.onnx", network, "u8s8 per channel", seed=3)
    (x,) = quantised.images(onnx.load(path), 8, 1)
    exact = ExactModel(path)
    slack = 2.0**-6
    (span,) = exact.run(x, slack=slack).values()
    (truth,) = exact.run(x).values()
    moved = 0.0
    for seed in range(10):
        (drawn,) = exact.run(x, slack=slack, jitter=np.random.default_rng(seed)).values()
        assert drawn.exact
        assert (drawn.low >= span.low - 1e-9).all(), f"seed {seed}"
        assert (drawn.low <= span.high + 1e-9).all(), f"seed {seed}"
        moved = max(moved, float(np.abs(drawn.low - truth.low).max()))
    assert moved > 0


def test_margins_are_distances_to_the_next_result(tmp_path):
    path = quantised.case(tmp_path / "q.onnx", "masked", "u8s8 per channel")
    (x,) = quantised.images(onnx.load(path), 9, 1)
    margins: dict[str, np.ndarray] = {}
    exact = ExactModel(path)
    nodes = {n.output[0]: n for n in onnx.load(path).graph.node if n.op_type == "QuantizeLinear"}
    keep = {name for node in nodes.values() for name in (*node.input, node.output[0])}
    values = exact.run(x, margins=margins, keep=keep)
    assert set(margins) <= set(nodes)
    assert margins
    for name, margin in margins.items():
        real, scale, zero = (values[n].low for n in nodes[name].input)
        least, most = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
        result = values[name].low
        assert (margin >= 0).all()

        def rounded(moved, scale=scale, zero=zero, least=least, most=most):
            return np.clip(np.rint(moved / scale) + int(zero), least, most)

        for sign in (-1, 1):
            near = real + sign * scale.astype(np.float64) * (margin * (1 - 1e-6))
            np.testing.assert_array_equal(rounded(near), result, err_msg=name)
        steps = scale.astype(np.float64) * (margin + 1e-6)
        changed = (rounded(real - steps) != result) | (rounded(real + steps) != result)
        assert changed.all(), name


@pytest.mark.parametrize("seed", range(4))
def test_a_linear_conv_equals_whole_number_sums(seed):
    """QLinearConv by loops over int64, and its one rounding by fractions."""
    from fractions import Fraction

    rng = np.random.default_rng(seed)
    c, o, size = 3, 5, 6
    x = rng.integers(0, 256, (1, c, size, size)).astype(np.uint8)
    w = rng.integers(-128, 128, (o, c, 3, 3)).astype(np.int8)
    bias = rng.integers(-(2**15), 2**15, o).astype(np.int32)
    scales = np.float32(0.02), rng.uniform(1e-3, 1e-2, o).astype(np.float32), np.float32(0.3)
    zeros = np.uint8(rng.integers(256)), np.zeros(o, np.int8), np.uint8(rng.integers(256))
    constants = {
        "xs": scales[0], "xz": zeros[0], "w": w, "ws": scales[1], "wz": zeros[1], "ys": scales[2],
        "yz": zeros[2], "b": bias,
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    node = helper.make_node("QLinearConv", names, ["y"], strides=[2, 1], pads=[1, 0, 1, 1])
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    got = ExactModel(model).run({"x": x})["y"].low
    framed = np.pad(x.astype(int) - int(zeros[0]), ((0, 0), (0, 0), (1, 1), (0, 1)))
    assert got.dtype == np.uint8
    for k, i, j in product(range(o), range(got.shape[2]), range(got.shape[3])):
        patch = framed[0, :, 2 * i : 2 * i + 3, j : j + 3]
        total = int((patch * w[k].astype(int)).sum()) + int(bias[k])
        unit = Fraction(float(scales[0])) * Fraction(float(scales[1][k]))
        real = Fraction(total) * unit / Fraction(float(scales[2]))
        want = min(255, max(0, round(real) + int(zeros[2])))
        assert got[0, k, i, j] == want, f"seed {seed}, output {k}, {i}, {j}"


@pytest.mark.parametrize("seed", range(8))
def test_windows_are_onnxruntimes(seed):
    """Convolutions and poolings of random attributes."""
    rng = np.random.default_rng(seed)
    kernel = [int(k) for k in rng.integers(1, 4, 2)]
    group = int(rng.choice([1, 2, 4]))
    x = rng.standard_normal((2, 4, *(int(s) for s in rng.integers(8, 12, 2)))).astype(np.float32)
    w = rng.standard_normal((8, 4 // group, *kernel)).astype(np.float32)
    a = {"kernel_shape": kernel, "strides": [int(s) for s in rng.integers(1, 4, 2)]}
    if rng.random() < 0.3:
        a["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    else:
        a["pads"] = [int(p) for p in rng.integers(0, [*kernel, *kernel])]
    pool = {**a, "ceil_mode": int(rng.integers(2)) if "pads" in a else 0}
    average = {**pool, "count_include_pad": int(rng.integers(2))}
    dilated = {**a, "group": group, "dilations": [2, 1] if "pads" in a else [1, 1]}
    for op, attributes, mine in (
        ("Conv", dilated, lambda: convolve(x.astype(float), w.astype(float), dilated)),
        ("MaxPool", pool, lambda: max_pool(x.astype(float), pool)),
        ("AveragePool", average, lambda: average_pool(x.astype(float), average)),
    ):
        inputs = ["x", "w"] if op == "Conv" else ["x"]
        graph = helper.make_graph(
            [helper.make_node(op, inputs, ["y"], **attributes)],
            "window",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(w, "w")] if op == "Conv" else [],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        (want,) = by_onnxruntime(model.SerializeToString(), {"x": x})
        message = f"seed {seed}: {op} {attributes} of {x.shape}"
        np.testing.assert_allclose(mine(), want, rtol=1e-4, atol=1e-5, err_msg=message)


def test_masked_positions_hold_exactly_zero(tmp_path):
    """However the rest is rounded."""
    path = quantised.case(tmp_path / "q.onnx", "masked_silu", "u8s8 per channel")
    (x,) = quantised.images(onnx.load(path), 2, 1)
    (y,) = ExactModel(path).run(x, slack=0.25).values()
    assert isinstance(y, Span)
    empty = (y.low == 0).all((0, 1)) & (y.high == 0).all((0, 1))
    assert 0.3 < empty.mean() < 0.36
