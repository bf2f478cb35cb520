"""Results that are no node's own: constants, inputs, masks of a Dropout, views of a result."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import graphs
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest

from activsparse import ActivsparseError, Session


def conv(b, **shape):
    return b.conv(b.input(1, 3, 6, 6), 4)


def an_initialiser(b):
    return conv(b), b.constant(b.normal(3))


def an_initialiser_of_rank_4_twice(b):
    k = b.constant(b.normal(1, 2, 3, 4))
    return k, conv(b), b.node("Identity", k, shape=(1, 2, 3, 4))


def a_folded_shape(b):
    y = conv(b)
    return y, b.node("Cast", b.node("Shape", y), to=1)


def a_constant_behind_an_identity(b):
    y = conv(b)
    return b.node("Identity", b.constant(np.float32([2.5])), shape=(1,)), y


def only_constants(b):
    b.input(1, 2)
    return (b.node("Neg", b.constant(b.normal(2, 3)), shape=(2, 3)),)


def the_input(b):
    return conv(b), "x"


def the_input_of_rank_3(b):
    b.input(2, 3, 4)
    return "x", b.node("Relu", "x")


def the_input_behind_an_identity(b):
    y = conv(b)
    return y, b.node("Identity", "x")


def only_the_input(b):
    return (b.node("Identity", b.input(1, 3, 4, 4)),)


def one_value_twice(b):
    y = b.node("Relu", conv(b))
    return y, b.node("Identity", y), b.node("Identity", y)


def a_dropout_s_mask(b):
    y = b.node("Dropout", conv(b))
    b.nodes[-1].output.append("mask")
    return y, b.node("Cast", "mask", to=1, shape=(1, 4, 6, 6))


def a_view_of_what_a_convolution_reads(b):
    b.input(1, 4, 5, 5)
    shape = {k: b.constant(np.array(v)) for k, v in {"a": (1, 2, 2, 5, 5), "z": (4, 25)}.items()}
    p = b.node("Reshape", "x", shape["a"], shape=(1, 2, 2, 5, 5))
    q = b.node("Transpose", p, perm=[0, 2, 1, 3, 4])
    r = b.node("Reshape", q, b.constant(np.array((1, 4, 5, 5))), shape=(1, 4, 5, 5))
    return b.conv(r, 3, (1, 1), pads=(0, 0, 0, 0)), b.node("Reshape", r, shape["z"])


def views_of_views(b):
    y = conv(b)
    flat = b.flatten(y)
    return flat, b.node("Reshape", flat, b.constant(np.array((12, 12)))), y


def a_reshaped_row_that_a_convolution_reads(b):
    y = b.node("Sigmoid", b.input(1, 12))
    r = b.node("Reshape", y, b.constant(np.array((6, 2, 1, 1))), shape=(6, 2, 1, 1))
    return r, b.conv(r, 3, (1, 1), pads=(0, 0, 0, 0))


CASES = [
    an_initialiser,
    an_initialiser_of_rank_4_twice,
    a_folded_shape,
    a_constant_behind_an_identity,
    only_constants,
    the_input,
    the_input_of_rank_3,
    the_input_behind_an_identity,
    only_the_input,
    one_value_twice,
    a_dropout_s_mask,
    a_view_of_what_a_convolution_reads,
    views_of_views,
    a_reshaped_row_that_a_convolution_reads,
]


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def path(request, tmp_path):
    b = graphs.Builder(1)
    return b.save(tmp_path / "m.onnx", *request.param(b))


def test_directly(path):
    oracle.check(path)
    oracle.check(path, threads=2, algorithm="reference")


def test_of_a_plan(path, tmp_path):
    x, want = oracle.random_input(path), oracle.expected(path, oracle.random_input(path))
    Session(path).save(tmp_path / "plan")
    oracle.check(tmp_path / "plan", x, want=want)


def test_with_the_fallback(path):
    oracle.check(path, fallback="onnxruntime")


def test_with_a_foreign_part(tmp_path):
    for case in CASES:
        b = graphs.Builder(2)
        outputs = case(b)
        more = b.node("Sin", "x")
        file = b.save(tmp_path / f"{case.__name__}.onnx", *outputs, more)
        oracle.check(file, context=case.__name__, fallback="onnxruntime")


def test_in_a_rewritten_model(path, tmp_path):
    import activsparse.onnxruntime as plugin

    out = tmp_path / "rewritten.onnx"
    if not any(node.op_type == "Conv" for node in onnx.load(path).graph.node):
        with pytest.raises(ActivsparseError, match="has no convolution"):
            plugin.rewrite(path, out)
        return
    plugin.rewrite(path, out)
    options = onnxruntime.SessionOptions()
    plugin.register(options)
    x = oracle.random_input(path)
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    for ours, theirs in zip(session.run(None, x), oracle.expected(path, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_nobody_changes_a_result_of_an_earlier_run(path):
    session = Session(path, fallback="onnxruntime")
    x = oracle.random_input(path)
    first = session.run(x)
    first = first if isinstance(first, list) else [first]
    kept = copy.deepcopy(first)
    for value in first:
        value.fill(7)
    again = session.run(x)
    for before, after in zip(kept, again if isinstance(again, list) else [again], strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_constant_of_another_type_is_told(tmp_path):
    b = graphs.Builder(3)
    y = conv(b)
    file = b.save(tmp_path / "m.onnx", y, b.constant(np.array([1, 1 << 30])))
    with pytest.raises(ActivsparseError, match="is a constant of type int64"):
        Session(file)


# Copies of sessions ---------------------------------------------------------------------------


def run_on_ones(session):
    return session.run(np.ones((1, 3, 6, 6), np.float32))


def test_copies_give_the_same(tmp_path):
    b = graphs.Builder(4)
    file = b.save(tmp_path / "m.onnx", b.node("Relu", conv(b)))
    session = Session(file, threads=2)
    for twin in (copy.deepcopy(session), pickle.loads(pickle.dumps(session))):
        np.testing.assert_array_equal(run_on_ones(twin), run_on_ones(session))
        assert twin.threads == 2
        assert twin.explain() == session.explain()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.map(run_on_ones, [session])[0], run_on_ones(session))


def test_copies_of_a_session_with_foreign_parts(tmp_path):
    b = graphs.Builder(5)
    file = b.save(tmp_path / "m.onnx", b.node("Sin", conv(b)))
    session = Session(file, fallback="onnxruntime")
    twin = pickle.loads(pickle.dumps(session))
    np.testing.assert_array_equal(run_on_ones(twin), run_on_ones(session))


def test_a_tflite_file_has_no_constant_results(tmp_path):
    pytest.importorskip("ai_edge_litert")
    from activsparse.litert import convert

    b = graphs.Builder(6)
    file = b.save(tmp_path / "m.onnx", conv(b), b.constant(b.normal(3), "k"))
    with pytest.raises(ActivsparseError, match="output 'k' is a constant"):
        convert(file, tmp_path / "m.tflite")
