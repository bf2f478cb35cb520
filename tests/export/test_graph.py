"""Shapes of a model's tensors, worked out without its weights."""

from __future__ import annotations

import onnx
from onnx import helper
from onnx_models import build

from activsparse.export.graph import tensor_types

# What shapes depend on: sizes to reshape and resize to, pads, slices, as initializers and nodes.
TEXT = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3, 24, 20] x)
    => (float[N, C, H, W] y, float[N, D, E] z, float[N, F] u)
    {
        a = Conv<pads = [1, 1, 1, 1]>(x, one__weight)
        b = Conv<strides = [2, 2]>(a, w)
        scales = Constant<value_floats = [1.0, 1.0, 2.0, 1.5]>()
        c = Resize(b, , scales)
        pads = Constant<value_ints = [0, 0, 1, 2, 0, 0, 3, 4]>()
        y = Pad(c, pads)
        s = Shape(b)
        from = Constant<value_ints = [0]>()
        to = Constant<value_ints = [2]>()
        head = Slice(s, from, to)
        rest = Constant<value_ints = [-1]>()
        sizes = Concat<axis = 0>(head, rest)
        z = Reshape(b, sizes)
        flat = Flatten(b)
        u = MatMul(flat, large)
    }"""


def _model() -> onnx.ModelProto:
    shapes = {"one.weight": (64, 3, 3, 3), "w": (16, 64, 3, 3), "large": (16 * 11 * 9, 40)}
    model = build(TEXT, shapes)
    # One of the weights as the attribute of a node.
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "w")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=weight))
    model.graph.initializer.remove(weight)
    return model


def test_shapes_are_those_of_an_inference_that_sees_all_values(monkeypatch):
    model = _model()
    before = model.SerializeToString(deterministic=True)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    expected = {
        value.name: tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    assert expected["y"] == (None, 16, 26, 19)
    assert len(expected["z"]) == 3
    assert expected["u"][1] == 40

    seen = []
    infer = onnx.shape_inference.infer_shapes

    def watched(given, **options):
        seen.append(given.ByteSize())
        return infer(given, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    assert {name: sizes for name, (_, sizes) in tensor_types(model).items()} == expected
    assert model.SerializeToString(deterministic=True) == before
    # The weights are over 250 KB, and the inference would copy them twice and parse them.
    assert seen[0] < 20_000


def test_a_reshape_to_a_computed_shape_before_the_inference_propagates_any():
    text = """<ir_version: 8, opset_import: ["" : 11]>
        g (float[1, 3, 24, 20] x) => (float[N, C, H, W] y)
        {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            groups = Constant<value = int64[3] {0, 4, -1}>()
            cut = Reshape(a, groups)
            shape = Shape(a)
            back = Reshape(cut, shape)
            y = Conv<pads = [1, 1, 1, 1]>(back, v)
        }"""
    types = tensor_types(build(text, {"w": (8, 3, 3, 3), "v": (5, 8, 3, 3)}))
    assert types["back"] == (onnx.TensorProto.FLOAT, (1, 8, 24, 20))
    assert types["y"] == (onnx.TensorProto.FLOAT, (1, 5, 24, 20))
    assert types["shape"] == (onnx.TensorProto.INT64, (4,))
