"""Steps of what fewer networks have: curves, norms, reductions, paddings, transposed convolutions.

Arguments are bounded first, and epsilons are large, where roundings would grow without limit.
"""

from __future__ import annotations

import math

import numpy as np

from fuzz.growth import LARGEST, Growth
from fuzz.operators import convolved, images, step

CURVES = {
    "Abs": 7,
    "Celu": 12,
    "Elu": 7,
    "Erf": 9,
    "Gelu": 20,
    "Mish": 18,
    "Selu": 7,
    "Softplus": 7,
    "Softsign": 7,
}
"""Bounded slopes; by the operator set they came with."""

REDUCTIONS = {
    "ReduceL1": 18,
    "ReduceL2": 18,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "ReduceMin": 18,
    "ReduceSum": 13,
}
"""By the operator set whose axes are an input."""


@step(6)
def curve(g: Growth, x: str) -> str | None:
    op = g.pick(list(CURVES))
    if g.opset < CURVES[op]:
        return None
    settings = {}
    if op in ("Celu", "Elu") and g.chance(0.5):
        settings["alpha"] = g.pick([0.5, 1.0, 2.0])
    if op == "Gelu" and g.chance(0.5):
        settings["approximate"] = "tanh"
    return g.node(op, x, **settings)


@step(4)
def gelu_spelled_out(g: Growth, x: str) -> str | None:
    if g.opset < 9:
        return None
    half, one = g.constant(np.float32(0.5)), g.constant(np.float32(1))
    if g.chance(0.3):
        cube = g.node("Pow", x, g.constant(np.float32(3)))
        inner = g.node("Add", x, g.node("Mul", cube, g.constant(np.float32(0.044715))))
        gate = g.node("Tanh", g.node("Mul", inner, g.constant(np.float32((2 / np.pi) ** 0.5))))
    else:
        gate = g.node("Erf", g.node("Div", x, g.constant(np.float32(2**0.5))))
    gate = g.node("Add", gate, one)
    if g.chance(0.1):
        g.pool.append(gate)
    if g.chance(0.5):
        return g.node("Mul", g.node("Mul", x, half), gate)
    return g.node("Mul", g.node("Mul", x, gate), half)


@step(3)
def steep_curve(g: Growth, x: str) -> str:
    """Of bounded arguments, away from where they have poles."""
    kind = g.pick(["exp", "sqrt", "reciprocal", "power"])
    if kind == "exp":
        return g.node("Exp", g.node("Tanh", x))
    above = g.node("Add", g.node("Sigmoid", x), g.constant(np.float32(0.5)))
    if kind == "power":
        exponent = g.pick([-1.0, -0.5, 0.25, 0.5, 0.75, 1.5, 2.0, 3.0])
        return g.node("Pow", above, g.constant(np.float32(exponent)))
    return g.node(kind.capitalize(), above)


@step(3)
def prelu(g: Growth, x: str) -> str | None:
    if g.rank(x) < 2:
        return None
    c = g.shapes[x][1]
    sizes = g.pick([(1,), (c, *[1] * (g.rank(x) - 2))])
    return g.node("PRelu", x, g.constant(g.uniform(*sizes) * np.float32(0.25)))


@step(4)
def layer_normalization(g: Growth, x: str) -> str | None:
    if g.opset < 17:
        return None
    axis = g.rank(x) - 1 if g.chance(0.7) else g.between(0, g.rank(x) - 1)
    sizes = g.shapes[x][axis:]
    inputs = [x, g.constant(g.uniform(*sizes))]
    if g.chance(0.8):
        inputs.append(g.constant(g.normal(*sizes)))
    return g.node("LayerNormalization", *inputs, axis=g.axis(axis, g.rank(x)), epsilon=0.3)


@step(3)
def norm_spelled_out(g: Growth, x: str) -> str | None:
    rank = g.rank(x)
    axes = g.pick([[rank - 1], [1], [2, 3], [1, 2, 3], list(range(1, rank))])
    if not axes or max(axes) >= rank:
        return None
    deviation = g.node("Sub", x, g.mean(x, axes))
    square = g.node("Pow", deviation, g.constant(np.float32(2)))
    total = g.node("Add", g.mean(square, axes), g.constant(np.float32(0.3)))
    y = g.node("Div", deviation, g.node("Sqrt", total), shape=g.shapes[x])
    if g.chance(0.5) and rank > 1:
        table = (g.shapes[x][1], *[1] * (rank - 2))
        y = g.node(
            "Add", g.node("Mul", y, g.constant(g.uniform(*table))), g.constant(g.normal(*table))
        )
    return y


@step(4)
def group_normalization(g: Growth, x: str) -> str | None:
    """InstanceNormalization, of channels or, between reshapes, of groups of them."""
    if g.rank(x) < 3:
        return None
    shape = g.shapes[x]
    n, c = shape[:2]
    groups = g.pick([d for d in range(1, c + 1) if c % d == 0])
    if g.opset >= 21 and g.chance(0.3):
        tables = map(g.constant, (g.uniform(c), g.normal(c)))
        return g.node("GroupNormalization", x, *tables, num_groups=groups, epsilon=0.3)
    if groups == c or g.chance(0.3):
        tables = map(g.constant, (g.uniform(c), g.normal(c)))
        return g.node("InstanceNormalization", x, *tables, epsilon=0.3)
    tables = map(g.constant, (g.uniform(groups), g.normal(groups)))
    flat = g.reshape(x, (n, groups, math.prod(shape) // (n * groups)))
    y = g.node("InstanceNormalization", flat, *tables, epsilon=0.3)
    return g.reshape(y, shape)


@step(2)
@images
def local_response(g: Growth, x: str) -> str:
    settings = {"alpha": 0.2, "beta": g.pick([0.5, 0.75, 1.0]), "bias": 1.5}
    return g.node("LRN", x, size=g.pick([1, 3, 5]), **settings)


@step(5)
def reduction(g: Growth, x: str) -> str:
    op = g.pick(list(REDUCTIONS))
    rank = g.rank(x)
    axes = sorted(int(a) for a in g.rng.permutation(rank)[: g.between(1, rank)])
    keep = len(axes) == rank or g.chance(0.6)
    shape = tuple(1 if i in axes else s for i, s in enumerate(g.shapes[x]) if keep or i not in axes)
    named = [g.axis(a, rank) for a in axes]
    since = REDUCTIONS[op]
    return g.setting(op, [x], since, shape, "axes", named, keepdims=int(keep))


@step(3)
def summed(g: Growth, x: str) -> str | None:
    alike = [other for other in g.pool if g.shapes[other] == g.shapes[x]]
    if g.opset < 8 or not alike:
        return None
    operands = [x, *g.pick(alike, g.between(1, 2))]
    return g.node(g.pick(["Sum", "Max", "Min"]), *operands)


@step(4)
def framed(g: Growth, x: str) -> str | None:
    """Pad of any axes and values; of height and width by what is there."""
    shape, rank = g.shapes[x], g.rank(x)
    mode = g.pick(["constant", "constant", "reflect", "edge"])
    if mode != "constant" and rank != 4:
        return None
    before, behind = [0] * rank, [0] * rank
    for axis in range(rank):
        most = 3 if mode != "reflect" else min(3, shape[axis] - 1)
        if (mode == "constant" and g.chance(0.5)) or (mode != "constant" and axis > 1):
            before[axis], behind[axis] = g.between(0, most), g.between(0, most)
    out = tuple(p + s + q for p, s, q in zip(before, shape, behind, strict=True))
    if math.prod(out) > LARGEST:
        return None
    value = g.pick([0.0, 0.0, 1.5, -2.0])
    if g.opset < 11:
        extra = {"value": value} if mode == "constant" else {}
        return g.node("Pad", x, shape=out, pads=before + behind, mode=mode, **extra)
    inputs = [x, g.integers(before + behind)]
    if mode == "constant":
        inputs.append(g.constant(np.float32(value)))
    return g.node("Pad", *inputs, shape=out, mode=mode)


@step(5)
@images
def transposed_convolution(g: Growth, x: str) -> str | None:
    n, c, h, w = g.shapes[x]
    group = g.pick([d for d in (1, 1, 2, c) if c % d == 0])
    out = group * g.between(1, 8)
    kernel, strides = g.pick([1, 2, 3, 4], 2), g.pick([1, 2, 2, 3], 2)
    dilations = g.pick([[1, 1], [1, 1], [2, 1], [1, 3]])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    whole = [s * (size - 1) + r for s, size, r in zip(strides, (h, w), reach, strict=True)]
    pads = [
        g.between(0, min(r - 1, (size - 1) // 3))
        for r, size in zip(reach * 2, whole * 2, strict=True)
    ]
    extra = [g.between(0, s - 1) for s in strides] if g.chance(0.4) else [0, 0]
    sizes = [whole[i] - pads[i] - pads[i + 2] + extra[i] for i in (0, 1)]
    shape = (n, out, *sizes)
    if math.prod(shape) > LARGEST or c * out // group > 600:
        return None
    scale = np.float32((c // group * math.prod(kernel)) ** 0.5)
    inputs = [x, g.constant(g.normal(c, out // group, *kernel) / scale)]
    if g.chance(0.6):
        inputs.append(g.constant(g.normal(out)))
    settings = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    if any(extra):
        settings["output_padding"] = extra
    y = g.node("ConvTranspose", *inputs, shape=shape, **settings)
    return convolved(g, y) if g.chance(0.3) else y


@step(3)
@images
def depth_and_space(g: Growth, x: str) -> str | None:
    n, c, h, w = g.shapes[x]
    if h % 2 == w % 2 == 0 and g.chance(0.5):
        return g.node("SpaceToDepth", x, shape=(n, 4 * c, h // 2, w // 2), blocksize=2)
    if c % 4:
        return None
    mode = {"mode": g.pick(["DCR", "CRD"])} if g.opset >= 11 else {}
    return g.node("DepthToSpace", x, shape=(n, c // 4, 2 * h, 2 * w), blocksize=2, **mode)


@step(3)
def picked(g: Growth, x: str) -> str:
    """Gather of several indices."""
    axis = g.between(0, g.rank(x) - 1)
    shape = g.shapes[x]
    indices = [g.between(0, shape[axis] - 1) for _ in range(g.between(1, 5))]
    out = (*shape[:axis], len(indices), *shape[axis + 1 :])
    return g.node("Gather", x, g.integers(indices), shape=out, axis=g.axis(axis, g.rank(x)))


@step(3)
def picked_anywhere(g: Growth, x: str) -> str | None:
    """GatherND along the first axes."""
    shape = g.shapes[x]
    depth = g.between(1, g.rank(x))
    new = tuple(g.between(1, 4) for _ in range(g.between(1, 2)))
    out = (*new, *shape[depth:])
    if g.opset < 11 or len(out) > 5 or math.prod(out) > LARGEST:
        return None
    indices = np.stack([g.rng.integers(0, s, new) for s in shape[:depth]], axis=-1)
    return g.node("GatherND", x, g.constant(indices), shape=out)


@step(3)
def written(g: Growth, x: str) -> str | None:
    """A slice of some axes assigned, as exporters write it."""
    shape = g.shapes[x]
    if g.opset < 11:
        return None
    depth = g.between(1, g.rank(x))
    ends = [sorted((g.between(0, s - 1), g.between(1, s))) for s in shape[:depth]]
    at = [np.arange(a, max(a + 1, b), g.pick([1, 1, 2])) for a, b in ends]
    indices = np.stack(np.meshgrid(*at, indexing="ij"), axis=-1).astype(np.int64)
    part = (*map(len, at), *shape[depth:])
    values = g.node("Expand", g.constant(g.normal(1)), g.integers(part), shape=part)
    return g.node("ScatterND", x, g.constant(indices), values, shape=shape)


@step(3)
def chosen(g: Growth, x: str) -> str | None:
    """Where of a constant condition, with another value or a number."""
    if g.opset < 9:
        return None
    shape = g.shapes[x]
    condition = g.constant(g.rng.random([g.pick([1, s]) for s in shape]) < 0.5)
    other = g.pick([o for o in g.pool if g.shapes[o] == shape] or [x])
    if g.chance(0.6):
        other = g.constant(np.float32(g.pick([0.0, 0.0, -1.5])))
    pair = (x, other) if g.chance(0.5) else (other, x)
    return g.node("Where", condition, *pair, shape=shape)


@step(3)
def repeated(g: Growth, x: str) -> str | None:
    shape = g.shapes[x]
    target = [g.between(1, 3) if s == 1 else g.pick([1, s]) for s in shape]
    out = tuple(np.broadcast_shapes(shape, tuple(target)))
    if g.opset < 8 or math.prod(out) > LARGEST:
        return None
    return g.node("Expand", x, g.integers(target), shape=out)


@step(4)
def matrix_along_the_last_axis(g: Growth, x: str) -> str | None:
    *outer, c = g.shapes[x]
    out = g.between(1, 12)
    if not outer or math.prod(outer) * out > LARGEST:
        return None
    weight = g.constant(g.normal(c, out) / np.float32(c**0.5))
    y = g.node("MatMul", x, weight, shape=(*outer, out))
    return g.node("Add", y, g.constant(g.normal(out))) if g.chance(0.6) else y


@step(2)
def row_convolution(g: Growth, x: str) -> str | None:
    """A convolution along one axis."""
    if g.rank(x) != 3:
        return None
    n, c, length = g.shapes[x]
    out, kernel = g.between(1, 8), g.pick([1, 3])
    weight = g.constant(g.normal(out, c, kernel) / np.float32((c * kernel) ** 0.5))
    settings = {"pads": [kernel // 2] * 2}
    return g.node("Conv", x, weight, shape=(n, out, length), **settings)


@step(2)
def wave(g: Growth, x: str) -> str | None:
    """Of bounded arguments, whose roundings stay small."""
    if g.opset < 7:
        return None
    return g.node(g.pick(["Sin", "Cos"]), g.node("Tanh", x))


@step(2)
def choice_at_run_time(g: Growth, x: str) -> str | None:
    """Halves of a value that are equal where it is zero: whichever is chosen there, is right."""
    if g.opset < 9:
        return None
    condition = g.node(g.pick(["Greater", "Less"]), x, g.constant(np.float32(0)))
    if g.chance(0.3):
        condition = g.node("Not", condition)
    return g.node("Where", condition, x, g.node("Neg", x))


@step(2)
def log_of_shares(g: Growth, x: str) -> str | None:
    if g.rank(x) < 2:
        return None
    return g.node("LogSoftmax", g.node("Tanh", x), axis=g.rank(x) - 1)


@step(2)
def largest_values(g: Growth, x: str) -> str | None:
    """The values of TopK; where they are depends on roundings."""
    if g.opset < 11:
        return None
    axis = g.between(0, g.rank(x) - 1)
    count = g.between(1, g.shapes[x][axis])
    shape = tuple(count if i == axis else s for i, s in enumerate(g.shapes[x]))
    places, largest = [x, g.integers([count])], int(g.chance(0.6))
    return g.several("TopK", places, [shape, shape], axis=axis, largest=largest)[0]


@step(2)
def tiled(g: Growth, x: str) -> str | None:
    counts = [g.pick([1, 1, 1, 2]) for _ in g.shapes[x]]
    shape = tuple(count * size for count, size in zip(counts, g.shapes[x], strict=True))
    if math.prod(shape) > LARGEST:
        return None
    return g.node("Tile", x, g.integers(counts), shape=shape)


@step(1)
@images
def cubic(g: Growth, x: str) -> str | None:
    if g.opset < 13:
        return None
    n, c, *_ = g.shapes[x]
    shape = (n, c, g.between(1, 12), g.between(1, 12))
    if math.prod(shape) > LARGEST:
        return None
    transform = g.pick(["half_pixel", "align_corners", "asymmetric"])
    settings = {"mode": "cubic", "coordinate_transformation_mode": transform}
    if g.opset >= 18 and g.chance(0.5):
        settings |= {"mode": g.pick(["linear", "cubic"]), "antialias": 1}
    return g.node("Resize", x, "", "", g.integers(shape), shape=shape, **settings)
