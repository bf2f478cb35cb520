"""Small ONNX models, and running them with ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
from onnx import parser


def conv_norm(opset=17, ir_version=8, batch="N", size="12, 10"):
    """Two 3x3 convolutions, a BatchNormalization and a Relu; all nodes are named."""
    return build(
        f"""<ir_version: {ir_version}, opset_import: ["" : {opset}]>
        g (float[{batch}, 3, {size}] x) => (float[{batch}, 8, {size}] y)
        {{
            [stem] a = Conv<pads = [1, 1, 1, 1]>(x, stem__weight)
            [second] b = Conv<pads = [1, 1, 1, 1]>(a, second__weight, second__bias)
            [norm] c = BatchNormalization(b, s, t, m, v)
            [act] y = Relu(c)
        }}""",
        {"stem.weight": (8, 3, 3, 3), "second.weight": (8, 8, 3, 3), "second.bias": (8,)}
        | dict.fromkeys("stmv", (8,)),
    )


def residual():
    """A stem, a block with a shortcut projection, one with an identity, a single position."""
    return build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 16, 16] x) => (float[1, 8, 1, 1] y)
        {
            s = Conv<pads = [1, 1, 1, 1]>(x, stem__weight)
            a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(s, one__a__weight)
            b = Conv<pads = [1, 1, 1, 1]>(a, one__b__weight)
            p = Conv<strides = [2, 2]>(s, one__shortcut__weight)
            c = Add(b, p)
            d = Conv<pads = [1, 1, 1, 1]>(c, two__a__weight)
            e = Conv(d, two__b__weight)
            f = Add(c, e)
            q = GlobalAveragePool(f)
            y = Conv(q, squeeze__weight)
        }""",
        {
            "stem.weight": (8, 3, 3, 3),
            "one.a.weight": (8, 8, 3, 3),
            "one.b.weight": (8, 8, 3, 3),
            "one.shortcut.weight": (8, 8, 1, 1),
            "two.a.weight": (8, 8, 3, 3),
            "two.b.weight": (8, 8, 1, 1),
            "squeeze.weight": (8, 8, 1, 1),
        },
    )


def build(text, shapes, seed=0):
    """A model from ONNX text with random weights of the given shapes; variances are positive.

    The text's grammar knows no dots in names; two underscores stand for one.
    """
    rng = np.random.default_rng(seed)
    model = parser.parse_model(text)
    for node in model.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32) / np.float32(
            np.sqrt(np.prod(shape[1:]))
        )
        value = np.abs(value) + 0.5 if name == "v" else value
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        if model.ir_version < 4:
            info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            model.graph.input.append(info)
    onnx.checker.check_model(model)
    return model


def run(model, x, *tensors):
    """Outputs of `model` for the image `x`, or the given inner tensors."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(list(tensors) or None, {session.get_inputs()[0].name: x})
    return outputs if len(outputs) > 1 else outputs[0]
