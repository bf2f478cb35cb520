"""Operators at the end of detectors and in odd places: logic, rankings, casts, logarithms."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest
from onnx import TensorProto, helper

from activsparse import ActivsparseError, Session

SHAPES = [(3, 19), (1, 5, 7), (2, 17, 4, 5), (1, 2, 3, 4, 5)]
IMAGE = (2, 5, 9, 7)


def draw(seed, choices=SHAPES):
    rng = np.random.default_rng(seed)
    return rng, choices[seed % len(choices)]


def values(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("op", "since"),
    [
        *(("Ceil", 13), ("Cos", 13), ("Floor", 13), ("Log", 13), ("Round", 13), ("Sign", 13)),
        *(("Sin", 13), ("ThresholdedRelu", 10)),
    ],
)
def test_functions(tmp_path, op, since, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed, opset=max(since, 13))
    x = b.input(*shape)
    settings = {"alpha": 0.3} if op == "ThresholdedRelu" and seed else {}
    path = b.save(tmp_path / "m.onnx", b.node(op, x, **settings))
    x = 5 * values(rng, *shape)
    oracle.check(path, {"x": np.abs(x) if op == "Log" else x}, (op, seed, shape))


def test_functions_end_convolutions(tmp_path):
    b = graphs.Builder(3)
    x = b.conv(b.input(1, 3, 9, 9), 16)
    path = b.save(tmp_path / "m.onnx", *(b.node(op, x) for op in ("Sin", "Floor")))
    oracle.check(path)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_places_of_extremes(tmp_path, op, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    x = b.input(*shape)
    axis = int(rng.integers(-len(shape), len(shape)))
    place = b.node(op, x, axis=axis, keepdims=int(rng.integers(2)))
    path = save(b, tmp_path / "m.onnx", (place, TensorProto.INT64))
    ties = np.round(values(rng, *shape) * 2)
    oracle.check(path, {"x": ties}, (op, seed, shape, axis))


@pytest.mark.parametrize("seed", range(12))
def test_the_largest_ones(tmp_path, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    x = b.input(*shape)
    axis = int(rng.integers(-len(shape), len(shape)))
    k = int(rng.integers(1, shape[axis] + 1))
    largest = int(rng.integers(2))
    b.nodes.append(
        helper.make_node(
            "TopK", [x, b.constant(np.array([k]))], ["best", "places"], axis=axis, largest=largest
        )
    )
    path = save(b, tmp_path / "m.onnx", ("best", TensorProto.FLOAT), ("places", TensorProto.INT64))
    ties = np.round(values(rng, *shape) * 4) / 4 if seed % 2 else values(rng, *shape)
    oracle.check(path, {"x": ties}, (seed, shape, axis, k, largest))


def test_a_detector_that_ends_with_the_best(tmp_path):
    b = graphs.Builder(5)
    x = b.conv(b.input(1, 3, 12, 12), 4)
    flat = b.node("Reshape", x, b.constant(np.array([1, 4, 144])), shape=(1, 4, 144))
    scores = b.node("ReduceMax", flat, b.constant(np.array([1])), shape=(1, 144), keepdims=0)
    b.nodes.append(
        helper.make_node("TopK", [scores, b.constant(np.array([20]))], ["best", "places"])
    )
    classes = b.node("ArgMax", x, axis=1, shape=(1, 1, 12, 12))
    outputs = [("best", TensorProto.FLOAT), ("places", TensorProto.INT64)]
    path = save(b, tmp_path / "m.onnx", *outputs, (classes, TensorProto.INT64))
    oracle.check(path)
    session = Session(path)
    assert [value.type for value in session.get_outputs()] == ["tensor(float)"] + [
        "tensor(int64)"
    ] * 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparisons_choose(tmp_path, op, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    x, y = b.input(*shape), b.input(*shape, name="y")
    kinds = [y, b.constant(np.float32(0.5)), b.constant(values(rng, *shape[1:]).round())]
    condition = b.node(op, x, kinds[seed % 3])
    other = b.node("Not", b.node("Greater", y, b.constant(np.float32(0))))
    joined = b.node(["And", "Or", "Xor"][seed % 3], condition, other)
    chosen = b.node("Where", joined, x, kinds[(seed + 1) % 3])
    one = b.node("Cast", condition, to=TensorProto.FLOAT)
    path = save(
        b, tmp_path / "m.onnx", (joined, TensorProto.BOOL), *((v, 1) for v in (chosen, one))
    )
    x = {name: np.round(values(rng, *shape) * 2) / 2 for name in ("x", "y")}
    oracle.check(path, x, (op, seed, shape))


def test_where_takes_nothing_of_what_it_leaves(tmp_path):
    b = graphs.Builder(2)
    x = b.input(1, 4, 5, 5)
    safe = b.node("Where", b.node("Greater", x, b.constant(np.float32(0))), b.node("Log", x), x)
    oracle.check(b.save(tmp_path / "m.onnx", safe))


@pytest.mark.parametrize("to", [TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL])
def test_casts(tmp_path, to):
    b = graphs.Builder(to)
    x = b.input(2, 3, 4, 5)
    cast = b.node("Cast", x, to=to)
    back = b.node("Cast", cast, to=TensorProto.FLOAT)
    path = save(b, tmp_path / "m.onnx", (cast, to), (back, TensorProto.FLOAT))
    x = 9 * values(np.random.default_rng(to), 2, 3, 4, 5)
    x[0, 0, 0] = 0, -0.5, 0.5, 2**20 + 0.5, -7.9
    oracle.check(path, {"x": x}, to)


def test_arithmetic_of_integers_is_not_ours(tmp_path):
    b = graphs.Builder(1)
    whole = b.node("Cast", b.input(2, 3), to=TensorProto.INT32)
    path = save(b, tmp_path / "m.onnx", (b.node("Add", whole, whole), TensorProto.INT32))
    with pytest.raises(ActivsparseError, match="computes in int32, this engine in float32"):
        Session(path)
    oracle.check(path, fallback="onnxruntime")


@pytest.mark.parametrize("seed", range(8))
def test_log_softmax(tmp_path, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed, opset=[11, 13][seed % 2])
    axis = int(rng.integers(-len(shape), len(shape)))
    path = b.save(tmp_path / "m.onnx", b.node("LogSoftmax", b.input(*shape), axis=axis))
    oracle.check(path, {"x": 20 * values(rng, *shape)}, (seed, shape, axis))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"])
def test_reductions(tmp_path, op, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    axes = rng.choice(len(shape), int(rng.integers(1, len(shape) + 1)), replace=False)
    keepdims = int(rng.integers(2))
    y = b.node(op, b.input(*shape), b.constant(axes.astype(np.int64)), keepdims=keepdims)
    path = b.save(tmp_path / "m.onnx", y)
    x = rng.uniform(0.1, 2, shape).astype(np.float32)
    oracle.check(path, {"x": x}, (op, seed, shape, axes))


def test_the_logarithm_of_a_sum_with_infinities(tmp_path):
    """Of one that is infinite, of all minus infinity, of NaN."""
    b = graphs.Builder()
    y = b.node("ReduceLogSumExp", b.input(4, 3), b.constant(np.array([1])), keepdims=0)
    path = b.save(tmp_path / "m.onnx", y)
    rows = [[1, np.inf, 2], [-np.inf] * 3, [-np.inf, 3, np.inf], [0, np.nan, 1]]
    x = np.array(rows, np.float32)
    np.testing.assert_array_equal(
        Session(path).run(x), np.float32([np.inf, -np.inf, np.inf, np.nan])
    )


@pytest.mark.parametrize("seed", range(6))
def test_lengths_become_one(tmp_path, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    settings = {"axis": int(rng.integers(-len(shape), len(shape))), "p": 1 + seed % 2}
    path = b.save(tmp_path / "m.onnx", b.node("LpNormalization", b.input(*shape), **settings))
    oracle.check(path, {"x": values(rng, *shape)}, (seed, shape, settings))


@pytest.mark.parametrize("seed", range(6))
def test_tile_and_expand(tmp_path, seed):
    rng, shape = draw(seed)
    b = graphs.Builder(seed)
    x = b.input(*shape)
    repeats = rng.integers(1, 4, len(shape))
    tiled = b.node("Tile", x, b.constant(repeats))
    wider = [2, *(3 if size == 1 else size for size in shape)]
    path = b.save(tmp_path / "m.onnx", tiled, b.node("Expand", x, b.constant(np.array(wider))))
    oracle.check(path, {"x": values(rng, *shape)}, (seed, shape, repeats))


@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("step", [-1, -2])
def test_slices_backwards(tmp_path, axis, step):
    b = graphs.Builder(axis)
    x = b.conv(b.input(3, 3, 11, 12), 10)
    values = (np.array([n]) for n in (-1, -(2**63) + 1, axis, step))
    x = b.node("Relu", b.node("Slice", x, *map(b.constant, values)))
    path = b.save(tmp_path / "m.onnx", x)
    for options in ({}, {"threads": 2}, {"fallback": "onnxruntime"}):
        oracle.check(path, **options)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("shape", [(2, 3, 15), (1, 24), (2, 5, 6, 7), (1, 2, 3, 4, 5)])
def test_pads_that_repeat_any_axis(tmp_path, mode, shape):
    rng = np.random.default_rng(len(shape))
    pads = rng.integers(0, [min(size, 4) for size in (*shape, *shape)])
    pads[[0, -1]] = 1 if mode == "edge" or shape[0] > 1 else 0, 2
    b = graphs.Builder(1, opset=19)
    path = b.save(tmp_path / "m.onnx", b.node("Pad", b.input(*shape), b.constant(pads), mode=mode))
    oracle.check(path, context=(mode, shape, pads))


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 5, 9), (3, 17, 4, 5), (1, 8, 3, 4, 5)])
def test_global_pools_of_any_rank(tmp_path, op, shape):
    b = graphs.Builder(2)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", b.node(op, b.input(*shape)))))


@pytest.mark.parametrize(("op", "bound"), [("Max", -np.inf), ("Min", np.inf), ("Max", 0.25)])
def test_bounds_that_bind_nothing(tmp_path, op, bound):
    b = graphs.Builder(4)
    x = b.conv(b.input(1, 3, 9, 9), 8)
    oracle.check(b.save(tmp_path / "m.onnx", b.node(op, x, b.constant(np.float32(bound)))))


def test_a_mean_of_branches(tmp_path):
    b = graphs.Builder(3)
    x = b.input(2, 3, 9, 9)
    branches = [b.conv(x, 8), b.norm(b.conv(x, 8)), b.constant(b.normal(8, 1, 1))]
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", b.node("Mean", *branches))))


@pytest.mark.parametrize("seed", range(10))
def test_dilated_average_pools(tmp_path, seed):
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed, opset=19)
    x = b.input(*IMAGE)
    kernel, dilations = rng.integers(1, 4, 2).tolist(), rng.integers(1, 4, 2).tolist()
    pads = [int(rng.integers(0, kernel[i % 2])) for i in range(4)]
    settings = {
        "kernel_shape": kernel,
        "dilations": dilations,
        "strides": rng.integers(1, 3, 2).tolist(),
        "pads": pads,
        "ceil_mode": int(rng.integers(2)),
        "count_include_pad": int(rng.integers(2)),
    }
    path = b.save(tmp_path / "m.onnx", b.node("AveragePool", x, **settings))
    oracle.check(path, context=(seed, settings))


@pytest.mark.parametrize("seed", range(16))
def test_cubic_resizing(tmp_path, seed):
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed, opset=18)
    x = b.input(*IMAGE)
    settings = {
        "mode": "cubic",
        "coordinate_transformation_mode": str(
            rng.choice(["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
        ),
        "cubic_coeff_a": float(rng.choice([-0.75, -0.5])),
        "exclude_outside": int(rng.integers(2)),
    }
    sizes = [*IMAGE[:2], *rng.integers(1, 25, 2).tolist()]
    path = b.save(
        tmp_path / "m.onnx", b.node("Resize", x, "", "", b.constant(np.array(sizes)), **settings)
    )
    oracle.check(path, context=(seed, sizes, settings))


@pytest.mark.parametrize("opset", [18, 20, 21, 22])
def test_group_norms(tmp_path, opset):
    b = graphs.Builder(opset, opset=opset)
    x = b.input(2, 12, 5, 3)
    tables = [b.constant(b.normal(4 if opset < 21 else 12)) for _ in range(2)]
    y = b.node("GroupNormalization", x, *tables, num_groups=4, epsilon=1e-3)
    path = b.save(tmp_path / "m.onnx", y)
    rng = np.random.default_rng(opset)
    image = values(rng, 2, 12, 5, 3)
    parts = image.astype(np.float64).reshape(2, 4, -1)
    norm = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-3)
    repeats = 3 if opset < 21 else 1
    scale, shift = (
        np.frombuffer(t.raw_data, np.float32).repeat(repeats)[:, None, None] for t in b.constants
    )
    want = norm.reshape(image.shape) * scale + shift
    oracle.check(path, {"x": image}, opset, [want.astype(np.float32)])


@pytest.mark.parametrize("op", ["Add", "Concat", "MatMul", "Sub", "Div", "Sum"])
def test_constants_stand_anywhere(tmp_path, op):
    b = graphs.Builder(len(op))
    x = b.input(2, 6, 6)
    k = b.constant(b.normal(2, 6, 6) + np.float32(3))
    settings = {"axis": 1} if op == "Concat" else {}
    path = b.save(tmp_path / "m.onnx", b.node(op, k, x, shape=(2, 6, 6), **settings))
    oracle.check(path, {"x": 3 + values(np.random.default_rng(1), 2, 6, 6) / 2}, op)


def save(b, path, *outputs):
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    graph = helper.make_graph(b.nodes, "test", b.inputs, results, b.constants)
    opsets = [helper.make_opsetid("", b.opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path
