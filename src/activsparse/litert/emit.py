"""From optimised engine nodes (docs/operators.md) to LiteRT's operators.

Images become (N, H, W, C). A node becomes a short chain of operators, the last of which takes the
activation where LiteRT can fuse it. Masks stay what they are in ONNX, a multiplication by a
constant, so that every LiteRT computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from activsparse.engine.graph import Graph, Node, Shape
from activsparse.errors import ActivsparseError
from activsparse.litert.emitter import Emitter

__all__ = ["emit"]

_LOWEST = float(np.finfo(np.float32).min)


def emit(graph: Graph) -> bytes:
    """Return the .tflite file of a graph of engine nodes.

    Raises:
        ActivsparseError: LiteRT has no operator for a node, or a result depends on no input; the
            message names it.
    """
    constant = next((name for name in graph.outputs if name in graph.constants), None)
    if constant is not None:
        raise ActivsparseError(
            f"{graph.name}: output '{constant}' is a constant, which no .tflite file has as a "
            "result; drop it from the model's outputs"
        )
    emitter = Emitter(graph)
    for node in graph.nodes:
        rule = _RULES.get(node.op)
        if rule is None:
            raise ActivsparseError(
                f"{graph.name}: {node.title} cannot be written as .tflite; "
                f"replace it in the model (known: {', '.join(sorted(_RULES))})"
            )
        rule(emitter, node)
    return emitter.finish()


def _conv(e: Emitter, node: Node) -> None:
    a, weight, shape = node.attributes, node.arrays["weight"], e.output_shape(node)
    group, channels = int(a.get("group", 1)), e.shapes[e.input(node)][3]
    skipped = node.arrays.get("skipped_value")
    if skipped is not None and not skipped.any():
        skipped = None
    bias = node.arrays.get("bias", np.zeros(len(weight), np.float32))
    if skipped is not None:
        bias = bias - skipped  # added again behind the mask
    depthwise = group == channels > 1
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideH, options.strideW = a.get("stride_h", 1), a.get("stride_w", 1)
    options.dilationHFactor, options.dilationWFactor = (
        a.get("dilation_h", 1),
        a.get("dilation_w", 1),
    )
    x = e.padded(node, e.input(node), (weight.shape[2], weight.shape[3]))
    options.padding = e.padding
    if depthwise:
        options.depthMultiplier = len(weight) // channels
        weight = weight.transpose(1, 2, 3, 0)  # (1, KH, KW, O)
    else:
        weight = weight.transpose(0, 2, 3, 1)  # (O, KH, KW, I / group)
    inputs = [x, e.constant(f"{node.name}.weight", weight), e.constant(f"{node.name}.bias", bias)]
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    y = e.add(op, inputs, shape, f"{node.output}.conv", options)
    if "source" in node.arrays:
        y = _gather(e, node, y)
    elif "mask" in node.arrays:
        y = _masked(e, node, y)
    if skipped is not None:
        value = e.constant(f"{node.name}.skipped_value", skipped)
        y = e.add("ADD", [y, value], shape, f"{node.output}.filled", schema.AddOptionsT())
    if len(node.inputs) == 2:
        y = e.add("ADD", [y, e.input(node, 1)], shape, node.output, schema.AddOptionsT())
    e.finish_node(node, y)


def _masked(e: Emitter, node: Node, x: int) -> int:
    mask = node.arrays["mask"].astype(np.float32)
    inputs = [x, e.constant(f"{node.name}.activation_mask", mask[None, :, :, None])]
    return e.add("MUL", inputs, e.shapes[x], f"{node.output}.masked", schema.MulOptionsT())


def _gather(e: Emitter, node: Node, x: int) -> int:
    n, h, w, c = e.shapes[x]
    flat = _reshaped(e, x, (n, h * w, c), f"{node.output}.rows")
    source = e.constant(f"{node.name}.activation_source", node.arrays["source"])
    options = schema.GatherOptionsT()
    options.axis = 1
    size = e.output_shape(node)
    rows = (n, size[1] * size[2], c)
    filled = e.add("GATHER", [flat, source], rows, f"{node.output}.filled", options)
    return _reshaped(e, filled, size, f"{node.output}.image")


def _reshaped(e: Emitter, x: int, shape: Shape, name: str) -> int:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    sizes = e.constant(f"{name}.shape", np.array(shape, np.int32))
    return e.add("RESHAPE", [x, sizes], shape, name, options)


def _gemm(e: Emitter, node: Node) -> None:
    weight = node.arrays["weight"]
    bias = node.arrays.get("bias", np.zeros(len(weight), np.float32))
    inputs = [
        e.input(node),
        e.constant(f"{node.name}.weight", weight),
        e.constant(f"{node.name}.bias", bias),
    ]
    options = schema.FullyConnectedOptionsT()
    e.finish_node(
        node, e.add("FULLY_CONNECTED", inputs, e.output_shape(node), node.output, options)
    )


def _reaches_beyond_pads(e: Emitter, node: Node, x: int, kernel: tuple[int, int]) -> bool:
    a, sizes, out = node.attributes, e.shapes[x][1:3], e.output_shape(node)[1:3]
    axes = (("stride_h", "pad_top", "pad_bottom"), ("stride_w", "pad_left", "pad_right"))
    return any(
        (out[i] - 1) * a.get(stride, 1) + kernel[i] > sizes[i] + a.get(begin, 0) + a.get(end, 0)
        for i, (stride, begin, end) in enumerate(axes)
    )


def _pool(e: Emitter, node: Node) -> None:
    a, x = node.attributes, e.input(node)
    kernel = a["kernel_h"], a["kernel_w"]
    average = node.op == "average_pool"
    if a.get("dilation_h", 1) != 1 or a.get("dilation_w", 1) != 1:
        raise ActivsparseError(
            f"{e.graph.name}: {node.title}: a dilated pooling cannot be written as .tflite; "
            "replace it in the model"
        )
    value = 0.0 if average or x in e.nonnegative else _LOWEST
    before = x
    x = e.padded(node, x, kernel, value)
    ignores = average and not a.get("count_include_pad", 0)
    # SAME leaves the padding out of averages, PAD does not.
    padded = x != before
    same = e.padding == schema.Padding.SAME and _pads(node)
    # What ceil_mode adds behind the padding counts in no average, what PAD adds in all.
    beyond = padded and _reaches_beyond_pads(e, node, before, kernel)
    if average and ((padded and ignores) or (same and not ignores) or beyond):
        raise ActivsparseError(
            f"{e.graph.name}: {node.title}: this padding of an average cannot be written as "
            ".tflite; pad in a layer of its own"
        )
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = kernel
    options.strideH, options.strideW = a.get("stride_h", 1), a.get("stride_w", 1)
    options.padding = e.padding
    op = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
    e.finish_node(node, e.add(op, [x], e.output_shape(node), node.output, options))


def _pads(node: Node) -> bool:
    return any(node.attributes.get(f"pad_{s}", 0) for s in ("top", "left", "bottom", "right"))


def _mean(e: Emitter, node: Node) -> None:
    options = schema.ReducerOptionsT()
    options.keepDims = True
    inputs = [e.input(node), e.constant(f"{node.name}.axes", np.array([1, 2], np.int32))]
    e.finish_node(node, e.add("MEAN", inputs, e.output_shape(node), node.output, options))


def _binary(e: Emitter, node: Node) -> None:
    options = schema.AddOptionsT() if node.op == "add" else schema.MulOptionsT()
    inputs = [e.input(node, 0), e.input(node, 1)]
    e.finish_node(node, e.add(node.op.upper(), inputs, e.output_shape(node), node.output, options))


def _scale_shift(e: Emitter, node: Node) -> None:
    x = e.input(node)
    for op, name, options in (
        ("MUL", "scale", schema.MulOptionsT()),
        ("ADD", "shift", schema.AddOptionsT()),
    ):
        inputs = [x, e.constant(f"{node.name}.{name}", node.arrays[name])]
        x = e.add(op, inputs, e.shapes[x], f"{node.output}.{name}", options)
    e.finish_node(node, x)


def _prelu(e: Emitter, node: Node) -> None:
    slope = node.arrays["slope"]
    slopes = slope.reshape((1,) * (len(e.output_shape(node)) - 2) + slope.shape)
    inputs = [e.input(node), e.constant(f"{node.name}.slope", slopes)]
    e.finish_node(node, e.add("PRELU", inputs, e.output_shape(node), node.output, None))


def _mask_multiply(e: Emitter, node: Node) -> None:
    e.finish_node(node, _masked(e, node, e.input(node)))


def _gather_positions(e: Emitter, node: Node) -> None:
    e.finish_node(node, _gather(e, node, e.input(node)))


def _activate(e: Emitter, node: Node) -> None:
    e.name_value(node, e.activation(node, e.input(node)))


def _concat(e: Emitter, node: Node) -> None:
    options = schema.ConcatenationOptionsT()
    options.axis = len(e.output_shape(node)) - 1
    inputs = [e.values[name] for name in node.inputs]
    e.finish_node(node, e.add("CONCATENATION", inputs, e.output_shape(node), node.output, options))


def _resize(e: Emitter, node: Node) -> None:
    shape = e.output_shape(node)
    inputs = [e.input(node), e.constant(f"{node.name}.size", np.array(shape[1:3], np.int32))]
    options = schema.ResizeNearestNeighborOptionsT()
    e.finish_node(node, e.add("RESIZE_NEAREST_NEIGHBOR", inputs, shape, node.output, options))


def _softmax(e: Emitter, node: Node) -> None:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    e.finish_node(
        node, e.add("SOFTMAX", [e.input(node)], e.output_shape(node), node.output, options)
    )


def _flatten(e: Emitter, node: Node) -> None:
    """In the order of the memory; the next layer's weights have been permuted for it."""
    value = _reshaped(e, e.input(node), e.output_shape(node), node.output)
    e.finish_node(node, value)


def _reshape(e: Emitter, node: Node) -> None:
    """In ONNX's order: between (N, C, 1, 1) and (N, C) that is LiteRT's, else values move."""
    x, before = e.input(node), e.graph.shape(node.inputs[0])
    after = e.graph.shape(node.output)
    if len(before) == 4 and before[1] != 1 and before[2:] != (1, 1):
        x = _transposed(e, x, (0, 3, 1, 2), f"{node.output}.planes")
    if len(after) == 4 and after[1] != 1 and after[2:] != (1, 1):
        planes = _reshaped(e, x, after, f"{node.output}.planes")
        value = _transposed(e, planes, (0, 2, 3, 1), node.output)
    else:
        value = _reshaped(e, x, e.output_shape(node), node.output)
    e.finish_node(node, value)


def _transposed(e: Emitter, x: int, order: tuple[int, ...], name: str) -> int:
    shape = tuple(e.shapes[x][axis] for axis in order)
    inputs = [x, e.constant(f"{name}.order", np.array(order, np.int32))]
    return e.add("TRANSPOSE", inputs, shape, name, schema.TransposeOptionsT())


_RULES: dict[str, Callable[[Emitter, Node], None]] = {
    "activate": _activate,
    "add": _binary,
    "average_pool": _pool,
    "concat": _concat,
    "conv": _conv,
    "flatten": _flatten,
    "gather_positions": _gather_positions,
    "gemm": _gemm,
    "global_average_pool": _mean,
    "mask_multiply": _mask_multiply,
    "max_pool": _pool,
    "mul": _binary,
    "prelu": _prelu,
    "reshape": _reshape,
    "resize_nearest": _resize,
    "resize_positions": _gather_positions,
    "scale_shift": _scale_shift,
    "softmax": _softmax,
}
