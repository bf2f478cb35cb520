import numpy as np
import onnx
import pytest
from onnx_models import conv_norm, run

from activsparse.export.convs import find_convs
from activsparse.export.insert import find_masks, insert_mask, insert_masks, remove_masks
from activsparse.export.model_file import read_model, write_model
from activsparse.masks import lattice, make_mask, nearest_source, random_score

X = np.random.default_rng(7).standard_normal((2, 3, 12, 10)).astype(np.float32)
MASK = make_mask("random", (12, 10), 0.4, score=random_score((12, 10), np.random.default_rng(3)))


def masked(model, site="norm", fill="zero", mask=MASK):
    insert_mask(model, find_convs(model)[1], mask, site, fill)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("site", ["norm", "conv"])
def test_zero_fill_multiplies_at_the_site(site):
    name = {"norm": "c", "conv": "b"}[site]
    dense = run(conv_norm(), X, name)
    np.testing.assert_array_equal(run(masked(conv_norm(), site), X, name), dense * MASK)


def test_kept_positions_of_the_output_are_unchanged():
    """ONNX Runtime folds the norm into the convolution here, so equal up to rounding."""
    dense, sparse = run(conv_norm(), X), run(masked(conv_norm()), X)
    bound = 8 * 9 * np.finfo(np.float32).eps * np.abs(dense).max()
    np.testing.assert_allclose(sparse, dense * MASK, atol=bound)


@pytest.mark.parametrize("site", ["norm", "conv"])
@pytest.mark.parametrize("opset", [9, 13, 17, 21])
def test_nearest_fill_gathers_with_any_batch(site, opset):
    dense = run(conv_norm(), X, "c")
    expected = dense.reshape(2, 8, -1)[..., nearest_source(MASK)].reshape(dense.shape)
    got = run(masked(conv_norm(opset), site, "nearest"), X, "c")
    np.testing.assert_allclose(got, expected, atol=8 * 9 * np.finfo(np.float32).eps * 8)


def test_names_and_types_of_the_contract():
    model = masked(conv_norm())
    constant = next(t for t in model.graph.initializer if t.name == "second.activation_mask")
    assert tuple(constant.dims) == (1, 1, 12, 10)
    assert constant.data_type == onnx.TensorProto.FLOAT
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(constant)[0, 0], MASK)
    filled = masked(conv_norm(), fill="nearest")
    constant = next(t for t in filled.graph.initializer if t.name == "second.activation_source")
    assert (tuple(constant.dims), constant.data_type) == ((120,), onnx.TensorProto.INT64)


def test_a_masked_graph_output_keeps_its_name():
    model = conv_norm()
    del model.graph.node[3]
    model.graph.output[0].name = "c"
    assert [value.name for value in masked(model).graph.output] == ["c"]
    np.testing.assert_array_equal(run(model, X)[..., ~MASK], 0)


@pytest.mark.parametrize("fill", ["zero", "nearest"])
@pytest.mark.parametrize("ir_version", [3, 8])
def test_removing_gives_the_dense_model_back(fill, ir_version):
    dense = conv_norm(opset=9 if ir_version == 3 else 17, ir_version=ir_version)
    model = onnx.ModelProto()
    model.CopyFrom(dense)
    masked(model, fill=fill)
    assert [(m.fill, m.after) for m in find_masks(model.graph)] == [(fill, "c")]
    assert remove_masks(model) == 1
    assert model == dense
    assert remove_masks(model) == 0


def test_masks_in_constant_nodes_are_found_and_removed():
    model = masked(conv_norm())
    constant = next(t for t in model.graph.initializer if t.name == "second.activation_mask")
    model.graph.initializer.remove(constant)
    node = onnx.helper.make_node("Constant", [], [constant.name], value=constant)
    model.graph.node.insert(0, node)
    assert remove_masks(model) == 1
    assert model == conv_norm()


def test_other_products_are_no_masks():
    model = conv_norm()
    scale = np.full((1, 1, 12, 10), 0.5, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "scale"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["y", "scale"], ["z"]))
    assert find_masks(model.graph) == []


def test_a_full_mask_changes_nothing():
    model = masked(conv_norm(), mask=lattice((12, 10), 0.0))
    np.testing.assert_array_equal(run(model, X, "c"), run(conv_norm(), X, "c"))


def test_files_are_checked_and_whole(tmp_path):
    write_model(masked(conv_norm()), tmp_path / "m.onnx")
    assert read_model(tmp_path / "m.onnx") == masked(conv_norm())
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


CAUSAL = np.tril(np.ones((1, 1, 12, 12), np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "s = MatMul(q, k)  t = Div(s, four)  y = Mul(t, causal)",
        "s = MatMul(q, k)  t = Softmax<axis = -1>(s)  y = Mul(t, causal)",
        "c = Conv(q, w)  f = Transpose<perm = [0, 1, 3, 2]>(c)  s = MatMul(f, c)"
        "  y = Mul(causal, s)",
        "y = Mul(q, map)",
        "c = Conv(q, w)  y = Mul(c, column)",
        "c = Conv(q, w)  f = Reshape(c, flat)  g = Gather<axis = 2>(f, back)"
        "  y = Reshape(g, whole)",
        "c = Conv(q, w)  f = Reshape(c, flat)  g = Gather<axis = 2>(f, some)  y = Reshape(g, five)",
        "s = MatMul(q, k)  f = Reshape(s, any)  g = Gather<axis = 2>(f, fill)"
        "  y = Reshape(g, square)",
        "p = MaxPool<kernel_shape = [1, 1]>(q)  f = Reshape(p, flat)  g = Gather<axis = 2>(f, fill)"
        "  y = Reshape(g, whole)",
    ],
)
def test_what_looks_like_a_mask_elsewhere_is_none(text):
    fill = np.arange(120)
    fill[7] = 6
    constants = {
        "k": np.ones((10, 12), np.float32),
        "w": np.ones((2, 2, 1, 1), np.float32),
        "four": np.float32(4),
        "causal": CAUSAL
        if "broadcast" not in text and "c, causal" not in text
        else CAUSAL[..., :1],
        "flat": np.array([0, 0, 120]),
        "any": np.array([0, 0, -1]),
        "whole": np.array([0, 0, 12, 10]),
        "square": np.array([0, 0, 12, 12]),
        "five": np.array([0, 0, 5, 12]),
        "back": np.arange(120)[::-1].copy(),  # an order, no fill
        "some": np.arange(60),
        "fill": np.concatenate([fill, np.arange(120, 144)]) if "MatMul" in text else fill,
    }
    parsed = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2, 12, 10] q) => (float y) {'
        + text.replace("  ", "\n")
        + "}"
    )
    for name, value in constants.items():
        if any(name in node.input for node in parsed.graph.node):
            parsed.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    inferred = onnx.shape_inference.infer_shapes(parsed)
    assert find_masks(inferred.graph) == []
    before = inferred.SerializeToString()
    assert remove_masks(inferred) == 0
    assert inferred.SerializeToString() == before


@pytest.mark.parametrize(
    "between",
    [
        "",
        "BatchNormalization(@, s, t, m, v)",
        "Relu(@)",
        "Relu(@)  Add(@, x2)",
        "Add(x2, @)",
        "Mul(@, channels)  Add(@, channels)",
        "Mul(@, map)",
        "Reshape(@, flat)  Gather<axis = 2>(@, fill)  Reshape(@, whole)",
        "Cast<to = 1>(@)  HardSwish(@)",
    ],
)
@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_masks_behind_a_convolution_are_found(between, fill):
    last = "Mul(@, map)"
    if fill == "nearest":
        last = "Reshape(@, flat)  Gather<axis = 2>(@, fill)  Reshape(@, whole)"
    lines, value = ["v0 = Conv(x, w)", "x2 = Conv(x, w)"], "v0"
    for i, line in enumerate(filter(None, f"{between}  {last}".split("  ")), 1):
        lines.append(f"v{i} = " + line.replace("@", value))
        value = f"v{i}"
    parsed = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2, 12, 10] x) => (float '
        + value
        + ") {"
        + "\n".join(lines)
        + "}"
    )
    source = nearest_source(MASK).astype(np.int64)
    constants = {
        "w": np.ones((2, 2, 1, 1), np.float32),
        "channels": np.ones((1, 2, 1, 1), np.float32),
        "map": MASK[None, None].astype(np.float32),
        "fill": source,
        "flat": np.array([0, 0, -1]),
        "whole": np.array([0, 0, 12, 10]),
        **dict.fromkeys("stmv", np.ones(2, np.float32)),
    }
    for name, array in constants.items():
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    assert find_masks(parsed.graph)[-1].after == value
    count = 1 + ("map" in between or "fill" in between)
    assert remove_masks(parsed) == count
    onnx.checker.check_model(parsed)


def test_many_masks_at_once_are_the_same_as_one_by_one():
    one_by_one, at_once = conv_norm(), conv_norm()
    masks = []
    for seed, conv in enumerate(find_convs(one_by_one)):
        mask = np.random.default_rng(seed).random(conv.shape.output) < 0.7
        fill = ("zero", "nearest")[seed]
        masks.append((conv, mask, fill))
        insert_mask(one_by_one, conv, mask, fill=fill)
    insert_masks(at_once, masks)
    assert at_once == one_by_one
    assert remove_masks(at_once) == 2
    assert [n.op_type for n in at_once.graph.node] == [n.op_type for n in conv_norm().graph.node]
