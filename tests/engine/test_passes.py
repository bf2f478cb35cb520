"""What each rewrite makes of small graphs; that the numbers stay right is test_random_graphs'."""

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.load import load
from activsparse.engine.passes import optimise
from activsparse.engine.passes.convert import convert
from activsparse.engine.passes.infer import infer
from activsparse.engine.passes.match_activation import match_activation
from activsparse.engine.verify import compare_with_onnxruntime


@pytest.fixture
def b():
    return graphs.Builder()


@pytest.fixture
def compiled(tmp_path, b):
    """Compile the outputs given, check the numbers and return the optimised nodes."""

    def check(*outputs):
        path = b.save(tmp_path / "m.onnx", *outputs)
        for row in compare_with_onnxruntime(path, Session(path)):
            assert row.holds, row
        return optimise(load(path)).nodes

    return check


@pytest.fixture
def conv(b):
    return b.conv(b.input(1, 3, 10, 9), 8)


def test_passes_are_pure(tmp_path, b, conv):
    graph = load(b.save(tmp_path / "m.onnx", b.node("Relu", b.mask(b.norm(conv)))))
    before = (list(graph.nodes), dict(graph.constants), dict(graph.shapes))
    optimise(graph)
    assert (graph.nodes, graph.constants, graph.shapes) == before


def test_shape_arithmetic_becomes_constant(b, compiled):
    x = b.input(2, 3, 8, 8)
    size = b.node("Slice", b.node("Shape", x), *(b.constant(np.array([i])) for i in (0, 1, 0)))
    shape = b.node("Concat", size, b.constant(np.array([-1])), axis=0)
    flat = b.node("Reshape", x, shape, shape=(2, 192))
    assert [n.op for n in compiled(b.gemm(flat, 4))] == ["flatten", "gemm"]


def test_identities_disappear(b, conv, compiled):
    y = b.node("Cast", b.node("Dropout", b.node("Identity", conv)), to=1)
    assert [n.op for n in compiled(y)] == ["conv"]


def test_norm_site(b, conv, compiled):
    (node,) = compiled(b.node("Relu", b.mask(b.norm(conv))))
    assert node.attributes["activation"] == "relu"
    assert "mask" in node.arrays
    assert "skipped_value" not in node.arrays


def test_conv_site_leaves_the_shift_of_the_norm(b, conv, compiled):
    (node,) = compiled(b.node("Relu", b.norm(b.mask(conv))))
    assert np.any(node.arrays["skipped_value"])


@pytest.mark.parametrize("swap", [False, True])
def test_mask_after_the_activation(b, conv, compiled, swap):
    (node,) = compiled(b.mask(b.node("Relu", conv), swap=swap))
    assert "mask" in node.arrays


def test_mask_after_sigmoid_stays(tmp_path, b, conv, compiled):
    nodes = compiled(b.mask(b.node("Sigmoid", conv)))
    assert [n.op for n in nodes] == ["conv", "mask_multiply"]
    (row,) = [r for r in Session(tmp_path / "m.onnx").explain() if r.kind == "mask_multiply"]
    assert row.wastes_mask
    assert "sigmoid" in row.reason


def test_two_masks_become_their_product(b, conv, compiled):
    (node,) = compiled(b.mask(b.mask(conv)))
    assert node.arrays["mask"].mean() < 0.65


def test_mask_over_a_residual_stays(b, compiled):
    x = b.input(1, 8, 8, 8)
    nodes = compiled(b.mask(b.node("Add", b.conv(x, 8), x)))
    assert [n.op for n in nodes] == ["conv", "mask_multiply"]


@pytest.mark.parametrize("site", ["conv", "norm"])
def test_fill_nearest(b, conv, compiled, site):
    y = b.norm(b.fill(conv)) if site == "conv" else b.fill(b.norm(conv))
    (node,) = compiled(b.node("Relu", y))
    source = node.arrays["source"]
    kept = node.arrays["mask"].reshape(-1).astype(bool)
    np.testing.assert_array_equal(source == np.arange(source.size), kept)


def test_fill_from_filled_positions_is_a_gather(b, conv, compiled):
    source = (np.arange(90) + 1) % 90
    assert [n.op for n in compiled(b.gather(conv, source))] == ["conv", "gather_positions"]


def test_residual_and_activation(b, compiled):
    x = b.input(1, 8, 8, 8)
    (node,) = compiled(b.node("Relu", b.node("Add", x, b.mask(b.norm(b.conv(x, 8))))))
    assert len(node.inputs) == 2
    assert node.attributes["activation"] == "relu"


def test_residual_with_a_fill_stays(b, compiled):
    x = b.input(1, 8, 8, 8)
    assert [n.op for n in compiled(b.node("Add", b.fill(b.conv(x, 8)), x))] == ["conv", "add"]


def test_shared_convolution_is_not_fused(b, conv, compiled):
    nodes = compiled(b.node("Relu", conv), b.mask(conv))
    assert [n.op for n in nodes] == ["conv", "activate", "mask_multiply"]


@pytest.mark.parametrize("kind", graphs.ACTIVATIONS)
def test_activations_are_recognised(b, conv, compiled, kind):
    (node,) = compiled(graphs.activation(b, conv, kind))
    names = {"relu": "relu", "relu6": "clip", "silu": "silu", "sigmoid": "sigmoid"}
    assert node.attributes["activation"] == names.get(kind.lower(), "hardswish")


def test_similar_arithmetic_is_not_mistaken_for_hardswish(tmp_path, b, conv):
    four, six, zero = (b.constant(np.float32(v)) for v in (4, 6, 0))
    gate = b.node("Clip", b.node("Add", conv, four), zero, six)
    path = b.save(tmp_path / "m.onnx", b.node("Div", b.node("Mul", conv, gate), six))
    graph = match_activation(convert(infer(load(path))))
    assert "hardswish" not in {n.attributes.get("activation") for n in graph.nodes}
    for row in compare_with_onnxruntime(path, Session(path)):
        assert row.holds, row


def test_known_zeros_reach_the_next_convolution(b, conv, compiled):
    first, second = compiled(b.conv(b.node("Relu", b.mask(conv)), 8))
    np.testing.assert_array_equal(second.arrays["input_mask"], first.arrays["mask"])


@pytest.mark.parametrize("between", ["Sigmoid", "norm", "MaxPool"])
def test_zeros_that_do_not_survive_are_not_promised(b, conv, compiled, between):
    x = b.mask(conv)
    if between == "norm":
        x = b.norm(x)
    elif between == "MaxPool":
        x = b.node(between, x, shape=(1, 8, 8, 7), kernel_shape=(3, 3))
    else:
        x = b.node(between, x)
    nodes = compiled(b.conv(x, 8))
    assert "input_mask" not in nodes[-1].arrays


def test_flatten_permutes_the_matrix(b, compiled):
    x = b.conv(b.input(2, 3, 4, 5), 6)
    nodes = compiled(b.gemm(b.node("Relu", b.flatten(x)), 7))
    assert [n.op for n in nodes] == ["conv", "flatten", "gemm"]
    assert nodes[0].attributes["activation"] == "relu"


def test_pads_are_folded(b, compiled):
    x = b.input(1, 3, 8, 8)
    pads = b.constant(np.array([0, 0, 1, 2, 0, 0, 3, 0]))
    padded = b.node("Pad", x, pads, shape=(1, 3, 12, 10))
    (node,) = compiled(b.conv(padded, 8))
    assert [node.attributes[f"pad_{s}"] for s in ("top", "left", "bottom", "right")] == [2, 3, 4, 1]


def test_matmul_and_add(b, compiled):
    x = b.input(3, 10)
    y = b.node("MatMul", x, b.constant(b.normal(10, 4)), shape=(3, 4))
    (node,) = compiled(b.node("Add", y, b.constant(b.normal(4))))
    assert node.op == "gemm"


@pytest.mark.parametrize("opset", [9, 12, 17, 21])
def test_old_and_new_operator_sets(tmp_path, opset):
    b = graphs.Builder(opset=opset)
    x = b.conv(b.input(1, 3, 8, 8), 8)
    x = b.node("Clip", x, min=0.0, max=6.0) if opset < 11 else graphs.activation(b, x, "relu6")
    if opset < 18:
        x = b.node("ReduceMean", x, shape=(1, 8), axes=[2, 3], keepdims=0)
    else:
        x = b.node("ReduceMean", x, b.constant(np.array([2, 3])), shape=(1, 8), keepdims=0)
    path = b.save(tmp_path / "m.onnx", b.node("Softmax", b.gemm(x, 5), axis=1))
    for row in compare_with_onnxruntime(path, Session(path)):
        assert row.holds, row


def test_input_that_is_an_output(b, compiled):
    x = b.input(1, 3, 8, 8)
    compiled(x, b.conv(x, 8))
