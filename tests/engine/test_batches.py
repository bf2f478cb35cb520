"""Batches and image sizes: one file with an open batch dimension, against ONNX Runtime."""

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import quantised

from activsparse import Session
from activsparse.engine.plan_file import read_plan
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.export.mask import mask_model
from activsparse.export.onnx import export_onnx


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v2"])
def paths(request, tmp_path_factory, build):
    """A dense file and masked ones, for images of an odd size."""
    folder = tmp_path_factory.mktemp(request.param)
    import torch

    model, x = build(request.param, 64), torch.randn(2, 3, 72, 56)
    made = [folder / "dense.onnx"]
    export_onnx(model, x, made[0], dynamic_batch=True, verify=False)
    for pattern, fill in (("auto", "zero"), ("random", "nearest")):
        masked, _ = mask_model(onnx.load(made[0]), 0.3, pattern=pattern, fill=fill)
        made.append(folder / f"{pattern}.onnx")
        onnx.save(masked, made[-1])
    return made


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_batches(paths, batch):
    rng = np.random.default_rng(batch)
    for path in paths:
        oracle = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = oracle.get_inputs()[0].name
        x = rng.standard_normal((batch, 3, 72, 56), np.float32)
        (expected,) = oracle.run(None, {name: x})
        for options in ({}, {"threads": 2, "winograd": False}):
            session = Session(path, input_shapes={name: x.shape}, **options)
            error = np.abs(session.run(x) - expected).max()
            bound = network_bound(sums_of(session.explain()), expected)
            assert 0 < error <= bound, (path.name, batch, options, error, bound)


def each_image(path, x, **options):
    """The outputs for a batch, one image at a time."""
    session = Session(path, threads=1, input_shapes=single(path, x), **options)
    (name, _), *_ = session.inputs
    runs = [session.run(None, {name: x[i : i + 1]}) for i in range(len(x))]
    return [np.concatenate(values) for values in zip(*runs, strict=True)]


def single(path, x):
    return {onnx.load(path).graph.input[0].name: (1, *x.shape[1:])}


# Batches and threads: parts of equal number, one or several left over, fewer images than threads,
# more images than a part of large ones has; and how many parts, of a network whose values outweigh
# its weights and of one where it is the other way round.
DIVIDED = [
    (2, 1, {1}),
    (12, 1, {1, 3}),
    (7, 1, {1}),
    (8, 2, {2}),
    (20, 2, {2, 4, 10}),
    (5, 2, {5}),
    (7, 4, {7}),
    (9, 4, {9}),
    (3, 4, {1}),
]


@pytest.mark.parametrize(("batch", "threads", "parts"), DIVIDED)
def test_a_divided_batch_is_bitwise_its_images(paths, tmp_path, batch, threads, parts):
    rng = np.random.default_rng(batch)
    x = rng.standard_normal((batch, 3, 72, 56), np.float32)
    for path in paths:
        expected = each_image(path, x, tune=False)
        name = onnx.load(path).graph.input[0].name
        session = Session(path, threads=threads, input_shapes={name: x.shape}, tune=False)
        session.save(tmp_path / "plan")
        loaded = [Session(tmp_path / "plan", threads=n) for n in (None, 1, 3)]
        assert read_plan(tmp_path / "plan").parts in parts
        for each in (session, *loaded):
            actual = each.run(None, {name: x})
            if batch < threads:  # threads may run other operators than one has
                bound = network_bound(sums_of(each.explain()), expected[0])
                assert np.abs(actual[0] - expected[0]).max() <= bound
            else:
                np.testing.assert_array_equal(actual[0], expected[0], str((path.name, batch)))
        assert session.arena_bytes <= batch * loaded[1].arena_bytes
        rows = session.profile(2)
        assert all(row.shape[0] == batch and row.time_ms >= 0 for row in rows)


def opened(path):
    """The same file for a batch of any size."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("network", ["residual", "classifier", "curved", "masked"])
def test_a_divided_batch_of_bytes(tmp_path, network):
    path = opened(quantised.case(tmp_path / "model.onnx", network, "u8s8 per channel"))
    (value,) = onnx.load(path).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    session = Session(path, threads=2, input_shapes={value.name: x.shape}, tune=False)
    session.save(tmp_path / "plan")
    assert read_plan(tmp_path / "plan").parts == 5
    for y, expected in zip(
        session.run(None, {value.name: x}), each_image(path, x, tune=False), strict=True
    ):
        np.testing.assert_array_equal(y, expected)


def test_large_matrices_are_read_once_for_several_images(tmp_path):
    b = graphs.Builder(0)
    x = b.node("Relu", b.conv(b.input("N", 3, 32, 32), 16, strides=(2, 2)))
    path = b.save(
        tmp_path / "model.onnx",
        b.node(
            "Gemm",
            b.node("Flatten", x),
            b.constant(b.normal(16 * 16 * 16, 1100).astype(np.float32)),
        ),
    )
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 32), np.float32)
    session = Session(path, threads=2, input_shapes={"x": images.shape}, tune=False)
    session.save(tmp_path / "plan")
    assert read_plan(tmp_path / "plan").parts == 2
    (expected,) = each_image(path, images, tune=False)
    np.testing.assert_array_equal(session.run(images), expected)


@pytest.mark.parametrize("batch", [7, 48])
def test_rows_of_a_matrix_are_one_product(tmp_path, batch):
    """Weights outweigh a row's values by far, so they are read once for all rows."""
    b = graphs.Builder(0)
    weight = b.constant(b.normal(130, 70).astype(np.float32))
    path = b.save(tmp_path / "model.onnx", b.node("MatMul", b.input(batch, 130), weight))
    x = np.random.default_rng(batch).standard_normal((batch, 130), np.float32)
    session = Session(path, threads=1, tune=False)
    session.save(tmp_path / "plan")
    assert read_plan(tmp_path / "plan").parts == 1
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(session.run(x), expected, atol=1e-4)


def across(b, x, kind):
    """An operator of which an image's result depends on other images, or on its number."""
    if kind == "softmax":
        return b.node("Softmax", x, axis=0)
    if kind == "mean":
        return b.node("Sub", x, b.node("ReduceMean", x, b.constant(np.array([0]))))
    if kind == "transposed":
        return b.conv(b.node("Transpose", x, perm=[1, 0, 2, 3], shape=(3, 4, 6, 5)), 4)
    if kind == "folded":
        whole = b.constant(np.array([1, 12, 6, 5]))
        return b.conv(b.node("Reshape", x, whole, shape=(1, 12, 6, 5)), 4)
    if kind == "reversed":
        return b.node("Gather", x, b.constant(np.array([3, 2, 1, 0])), axis=0)
    if kind == "numbered":
        return b.node("Add", x, b.constant(b.normal(4, 1, 1, 1).astype(np.float32)))
    if kind == "product":
        flat = b.node("Flatten", x)
        return b.node("MatMul", flat, b.node("Transpose", flat, perm=[1, 0]))
    if kind == "crossed":  # each image by the number of each other one
        means = b.node("ReduceMean", x, b.constant(np.array([1, 2, 3])))
        return b.node("Mul", means, b.node("Unsqueeze", x, b.constant(np.array([1]))))
    if kind == "best":
        return b.node("ReduceMax", x, b.constant(np.array([0, 1])), keepdims=0)
    return b.node("Concat", x, x, axis=0)


@pytest.mark.parametrize(
    "kind",
    [
        *("softmax", "mean", "transposed", "folded", "reversed", "numbered", "product", "crossed"),
        *("best", "twice"),
    ],
)
def test_a_batch_whose_images_mix_is_not_divided(tmp_path, kind):
    b = graphs.Builder(0)
    x = b.node("Relu", b.conv(b.input(4, 3, 6, 5), 3))
    path = b.save(tmp_path / "model.onnx", across(b, x, kind))
    session = Session(path, threads=2)
    session.save(tmp_path / "plan")
    assert read_plan(tmp_path / "plan").parts == 1
    for row in compare_with_onnxruntime(path, session, 0):
        assert row.holds, (kind, row)


@pytest.mark.parametrize("kind", ["attention", "rows", "constant", "squeezed", "topk"])
def test_views_of_images_are_divided(tmp_path, kind):
    b = graphs.Builder(0)
    x = b.node("Relu", b.conv(b.input(4, 3, 6, 5), 8))
    if kind == "attention":
        rows = b.node("Reshape", x, b.constant(np.array([4, 8, 30])))
        weights = b.node(
            "Softmax", b.node("MatMul", b.node("Transpose", rows, perm=[0, 2, 1]), rows)
        )
        x = b.node("MatMul", rows, weights)
    elif kind == "rows":
        rows = b.node("Reshape", x, b.constant(np.array([4 * 30, 8])))
        x = b.node("MatMul", rows, b.constant(b.normal(8, 7).astype(np.float32)))
    elif kind == "constant":
        plane = b.constant(b.normal(8, 6, 5).astype(np.float32))
        x = b.node("Concat", b.node("Mul", x, plane), x, axis=2)
    elif kind == "squeezed":
        gate = b.node("Sigmoid", b.conv(b.node("GlobalAveragePool", x), 8, (1, 1), pads=(0,) * 4))
        x = b.node("Mul", x, gate)
    else:
        x = b.node("Cast", b.node("ArgMax", x, axis=1, keepdims=0), to=1)
    path = b.save(tmp_path / "model.onnx", x)
    session = Session(path, threads=2)
    session.save(tmp_path / "plan")
    assert read_plan(tmp_path / "plan").parts == 2
    for row in compare_with_onnxruntime(path, session, 0):
        assert row.holds, (kind, row)
