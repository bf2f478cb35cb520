"""What a random graph may grow by: functions from a value to a new one, or None where none fits.

Those of `ENGINE` use operators the engine converts, `FOREIGN` others, for its fallback.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from fuzz.growth import LARGEST, Growth

Step = Callable[[Growth, str], "str | None"]
ENGINE: list[tuple[Step, int]] = []
FOREIGN: list[tuple[Step, int]] = []


def step(weight: int = 4, table: list[tuple[Step, int]] = ENGINE) -> Callable[[Step], Step]:
    """Enter a function into a table, to be drawn `weight` times as often as one of weight 1."""

    def enter(function: Step) -> Step:
        table.append((function, weight))
        return function

    return enter


def images(function: Step) -> Step:
    """Only for values of shape (N, C, H, W)."""

    @functools.wraps(function)
    def of_image(g: Growth, x: str) -> str | None:
        return function(g, x) if g.rank(x) == 4 else None

    return of_image


PLAIN = (
    *("activation", "norm", "convolution", "layer", "residual", "inverted_residual", "mask"),
    *("squeeze_excite", "partial_stage", "pooled", "enlarged", "with_value", "fully_connected"),
    *("padded", "masked_copy"),
)
"""Names of the steps that convolutional networks without views are made of."""


# Pointwise ------------------------------------------------------------------------------------


@step(8)
def activation(g: Growth, x: str) -> str:
    kind = g.pick(["relu", "relu", "clip", "silu", "sigmoid", "tanh", "leaky", "hard", "swish"])
    if kind == "relu":
        return g.node("Relu", x)
    if kind == "clip":
        return g.clip(x, *g.pick([(0, 6), (-1, 1), (None, 0.5), (0, None), (0.25, 2), (0, 0)]))
    if kind == "silu":
        pair = (x, g.node("Sigmoid", x))
        return g.node("Mul", *(pair if g.chance(0.5) else pair[::-1]))
    if kind == "leaky":
        alpha = g.pick([{}, {"alpha": 0.1}, {"alpha": 0.0}, {"alpha": 1.5}, {"alpha": -0.5}])
        return g.node("LeakyRelu", x, **alpha)
    if kind == "hard":
        settings = g.pick([{}, {"alpha": 1 / 6, "beta": 0.5}, {"alpha": 0.3, "beta": 0.1}])
        return g.node("HardSigmoid", x, **settings)
    if kind == "swish":
        if g.opset >= 14 and g.chance(0.4):
            return g.node("HardSwish", x)
        clipped = g.clip(g.node("Add", x, g.constant(np.float32(3))), 0, 6)
        if g.chance(0.5):
            return g.node("Div", g.node("Mul", x, clipped), g.constant(np.float32(6)))
        return g.node("Mul", g.node("Mul", x, clipped), g.constant(np.float32(1 / 6)))
    return g.node(kind.capitalize(), x)


@step(6)
def with_constant(g: Growth, x: str) -> str | None:
    """Arithmetic with a constant that repeats along some axes, or enlarges the value."""
    shape = g.shapes[x]
    op = g.pick(["Add", "Mul", "Sub", "Div", "Add", "Mul", "Max", "Min"])
    if op in ("Max", "Min") and g.opset < 8:
        return None
    sizes = [s if g.chance(0.5) else 1 for s in shape][g.between(0, len(shape)) :]
    if op in ("Max", "Min") or g.chance(0.9):
        out = shape
    else:
        sizes = [1 if s > 1 else g.between(1, 3) for s in shape[len(shape) - len(sizes) :]]
        out = tuple(np.broadcast_shapes(shape, tuple(sizes)))
        if math.prod(out) > LARGEST:
            return None
    value = g.constant(g.uniform(*sizes) * g.pick([1, -1, 0.5]))
    first = op in ("Add", "Mul", "Sub") and g.chance(0.3)
    return g.node(op, *((value, x) if first else (x, value)), shape=out)


@step(6)
def with_value(g: Growth, x: str) -> str | None:
    """Arithmetic with another value whose shape fits, by repetition too."""
    op = g.pick(["Add", "Add", "Mul", "Sub", "Max", "Min"])
    if op in ("Max", "Min") and g.opset < 8:
        return None
    others = []
    for other in g.pool:
        try:
            out = tuple(np.broadcast_shapes(g.shapes[x], g.shapes[other]))
        except ValueError:
            continue
        if math.prod(out) <= max(g.size(x), g.size(other)) * 4 <= LARGEST:
            others.append((other, out))
    if not others:
        return None
    other, out = g.pick(others)
    return g.node(op, *((x, other) if g.chance(0.5) else (other, x)), shape=out)


@step(2)
def quotient(g: Growth, x: str) -> str:
    """A division whose divisor stays away from zero."""
    half = g.constant(np.float32(0.5))
    return g.node("Div", x, g.node("Add", g.node("Sigmoid", x), half))


@step(2)
def negated(g: Growth, x: str) -> str:
    return g.node("Neg", x)


@step(2)
def squared(g: Growth, x: str) -> str:
    bounded = g.node("Tanh", x)
    if g.chance(0.3):
        return g.node("Mul", bounded, bounded)
    return g.node("Pow", bounded, g.constant(np.float32(2)))


@step(2)
def unchanged(g: Growth, x: str) -> str | None:
    op = g.pick(["Identity", "Dropout", "Cast", "Dropout of constant"])
    if op == "Cast":
        return g.node("Cast", x, to=1)
    if op == "Dropout" and g.opset < 12:
        return g.node("Dropout", x, ratio=0.3)
    if op == "Dropout of constant" and g.opset >= 12:
        return g.node("Dropout", x, g.constant(np.float32(0.3)), g.constant(np.bool_(False)))
    return g.node(op.split()[0], x)


@step(4)
def norm(g: Growth, x: str) -> str | None:
    """BatchNormalization of any rank, with odd settings."""
    if g.rank(x) < 2:
        return None
    c = g.shapes[x][1]
    values = (g.uniform(c), g.normal(c), g.normal(c), g.uniform(c))
    settings = g.pick([{}, {"epsilon": 1e-3}, {"momentum": 0.5}, {"epsilon": 0.5}])
    return g.node("BatchNormalization", x, *map(g.constant, values), **settings)


@step(3)
def softmax(g: Growth, x: str) -> str:
    axis = g.between(0, g.rank(x) - 1)
    if g.opset < 13 and g.chance(0.8):
        axis = g.rank(x) - 1
    if g.chance(0.15) and (g.opset >= 13 or g.rank(x) > 1):
        return g.node("Softmax", x)
    return g.node("Softmax", x, axis=g.axis(axis, g.rank(x)))


@step(2)
def layer_norm(g: Growth, x: str) -> str:
    """Means along the last axis, as arithmetic."""
    last = [g.rank(x) - 1]
    centred = g.node("Sub", x, g.mean(x, last))
    square = g.node("Pow", centred, g.constant(np.float32(2)))
    variance = g.mean(square, last)
    spread = g.node("Add", variance, g.constant(np.float32(1)))
    return g.node("Div", centred, spread, shape=g.shapes[x])


# Views ----------------------------------------------------------------------------------------


def _split_up(g: Growth, total: int, rank: int) -> tuple[int, ...]:
    """A random shape of `rank` axes and `total` elements."""
    sizes = [1] * rank
    for prime in _primes(total):
        sizes[g.between(0, rank - 1)] *= prime
    return tuple(sizes)


def _primes(n: int) -> list[int]:
    found, p = [], 2
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return found


@step(5)
def reshaped(g: Growth, x: str) -> str:
    shape = g.shapes[x]
    if g.chance(0.4):
        return g.reshape(x, _split_up(g, g.size(x), g.between(1, 5)))
    axis = g.between(0, len(shape) - 1)  # merge neighbours, or split one axis
    if g.chance(0.5) and axis + 1 < len(shape):
        return g.reshape(x, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))
    if len(shape) == 5:
        return g.reshape(x, (*shape[:3], shape[3] * shape[4]))
    return g.reshape(x, (*shape[:axis], *_split_up(g, shape[axis], 2), *shape[axis + 1 :]))


@step(4)
def as_image(g: Growth, x: str) -> str:
    """Back to four axes, so that image operators follow."""
    n = g.shapes[x][0]
    return g.reshape(x, (n, *_split_up(g, g.size(x) // n, 3)))


@step(3)
def flattened(g: Growth, x: str) -> str:
    axis = 1 if g.chance(0.7) else g.between(0, g.rank(x))
    shape = g.shapes[x]
    out = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    if axis == 1 and g.chance(0.5):
        return g.node("Flatten", x, shape=out)
    return g.node(
        "Flatten", x, shape=out, axis=g.axis(axis, g.rank(x)) if axis < g.rank(x) else axis
    )


@step(5)
def transposed(g: Growth, x: str) -> str:
    shape = g.shapes[x]
    if g.chance(0.1):
        return g.node("Transpose", x, shape=shape[::-1])
    order = [int(i) for i in g.rng.permutation(len(shape))]
    if len(shape) == 4 and g.chance(0.4):
        order = g.pick([[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2], [0, 2, 1, 3]])
    return g.node("Transpose", x, shape=tuple(shape[i] for i in order), perm=order)


@step(5)
def sliced(g: Growth, x: str) -> str | None:
    shape = list(g.shapes[x])
    axes = [i for i, s in enumerate(shape) if s > 1 and g.chance(0.6)]
    if not axes:
        return None
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis]
        first = g.between(0, size - 1)
        last = g.between(first + 1, size)
        gap = g.pick([1, 1, 1, 2, 3]) if g.opset >= 10 else 1
        shape[axis] = -(-(last - first) // gap)
        starts.append(first - size if g.chance(0.3) else first)
        ends.append(g.pick([2**31 - 1, 2**63 - 1]) if last == size and g.chance(0.5) else last)
        if ends[-1] == last < size and g.chance(0.3):
            ends[-1] = last - size
        steps.append(gap)
    named = [g.axis(a, len(shape)) for a in axes]
    return g.slices(x, starts, ends, named, steps, tuple(shape))


@step(4)
def parts(g: Growth, x: str) -> str | None:
    """Split; the other parts stay in the pool."""
    axes = [i for i, s in enumerate(g.shapes[x]) if s > 1]
    if not axes:
        return None
    axis = g.pick(axes)
    size = g.shapes[x][axis]
    count = g.between(2, min(size, 4))
    equal = size % count == 0 and g.chance(0.5)
    cuts = sorted(int(c) for c in g.rng.choice(np.arange(1, size), count - 1, replace=False))
    sizes = [size // count] * count if equal else np.diff([0, *cuts, size]).tolist()
    shapes = [(*g.shapes[x][:axis], s, *g.shapes[x][axis + 1 :]) for s in sizes]
    where = {"axis": g.axis(axis, g.rank(x))}
    inputs = [x]
    if equal:
        where |= {"num_outputs": count} if g.opset >= 18 else {}
    elif g.opset < 13:
        where["split"] = sizes
    else:
        inputs.append(g.integers(sizes))
    results = g.several("Split", inputs, shapes, **where)
    g.pool.extend(results)
    return g.pick(results)


@step(5)
def joined(g: Growth, x: str) -> str | None:
    """Concatenate with values, or a constant, that agree in all axes but one."""
    shape = g.shapes[x]
    axis = 1 if len(shape) > 1 and g.chance(0.6) else g.between(0, len(shape) - 1)

    def fits(other: str) -> bool:
        theirs = g.shapes[other]
        return len(theirs) == len(shape) and all(
            a == b for i, (a, b) in enumerate(zip(shape, theirs, strict=True)) if i != axis
        )

    found = [x, *(g.pick([o for o in g.pool if fits(o)] or [x]) for _ in range(g.between(1, 2)))]
    total = sum(g.shapes[o][axis] for o in found)
    if math.prod(shape) // shape[axis] * total > LARGEST:
        return None
    order = [found[int(i)] for i in g.rng.permutation(len(found))]
    out = (*shape[:axis], total, *shape[axis + 1 :])
    return g.node("Concat", *order, shape=out, axis=g.axis(axis, len(shape)))


@step(3)
def one_more_axis(g: Growth, x: str) -> str | None:
    return g.unsqueeze(x, [g.between(0, g.rank(x))]) if g.rank(x) < 5 else None


@step(3)
def one_axis_less(g: Growth, x: str) -> str | None:
    ones = [i for i, s in enumerate(g.shapes[x]) if s == 1]
    return g.squeeze(x, [g.pick(ones)]) if ones and g.rank(x) > 1 else None


@step(2)
def taken(g: Growth, x: str) -> str | None:
    """Gather of one index, which drops or keeps the axis."""
    if g.rank(x) < 2:
        return None
    axis = g.between(0, g.rank(x) - 1)
    size = g.shapes[x][axis]
    index = g.between(0, size - 1) - (size if g.opset >= 11 and g.chance(0.3) else 0)
    keep = g.chance(0.5)
    middle = (1,) if keep else ()
    shape = (*g.shapes[x][:axis], *middle, *g.shapes[x][axis + 1 :])
    value = g.constant(np.array([index] if keep else index, np.int64))
    return g.node("Gather", x, value, shape=shape, axis=g.axis(axis, g.rank(x)))


# Products -------------------------------------------------------------------------------------


@step(4)
def fully_connected(g: Growth, x: str) -> str | None:
    if g.rank(x) != 2:
        return None
    n, f = g.shapes[x]
    out = g.between(1, 20)
    weight = g.normal(f, out) / np.float32(f**0.5)
    if g.chance(0.3):
        return g.node("MatMul", x, g.constant(weight), shape=(n, out))
    turned = g.chance(0.5)
    inputs = [x, g.constant(np.ascontiguousarray(weight.T) if turned else weight)]
    settings = {"transB": 1} if turned else {}
    if g.opset < 11 or g.chance(0.8):
        inputs.append(g.constant(g.normal(*g.pick([(out,), (1, out), (1,), (), (1, 1)]))))
    if g.chance(0.2):
        settings |= {"alpha": 0.5, "beta": 1.5}
    return g.node("Gemm", *inputs, shape=(n, out), **settings)


@step(3)
def attention(g: Growth, x: str) -> str | None:
    """X times its transpose, softmax, times x; with a causal mask at times."""
    if g.rank(x) < 2 or g.size(x) // g.shapes[x][-1] > 300:
        return None
    *batch, rows, width = g.shapes[x]
    order = [*range(len(batch)), len(batch) + 1, len(batch)]
    turned = g.node("Transpose", x, shape=(*batch, width, rows), perm=order)
    scores = g.node("MatMul", x, turned, shape=(*batch, rows, rows))
    scale = g.constant(np.float32(width**-0.5 / 2))
    scores = g.node("Mul", scores, scale)
    if g.chance(0.3):
        scores = g.node("Mul", scores, g.constant(np.tril(np.ones((rows, rows), np.float32))))
    shares = g.node("Softmax", scores, axis=len(batch) + 1)
    return g.node("MatMul", shares, x, shape=(*batch, rows, width))


@step(2)
def product(g: Growth, x: str) -> str | None:
    """MatMul by another value."""
    if g.rank(x) < 2:
        return None
    *batch, rows, inner = g.shapes[x]
    fitting = [
        o
        for o in g.pool
        if g.rank(o) >= 2 and g.shapes[o][-2] == inner and g.shapes[o][:-2] in ((), tuple(batch))
    ]
    if not fitting:
        return None
    other = g.pick(fitting)
    shape = (*batch, rows, g.shapes[other][-1])
    return g.node("MatMul", x, other, shape=shape) if math.prod(shape) <= LARGEST else None


# Images ---------------------------------------------------------------------------------------


def _window(g: Growth, x: str, kernel, strides, dilations, ceil: bool = False):
    """Random pads or auto_pad, and the output's size; None where nothing is left."""
    sizes = g.shapes[x][2:]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    if g.chance(0.15) and not ceil:
        mode = g.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        if mode == "VALID":
            out = [(s - r) // t + 1 for s, r, t in zip(sizes, reach, strides, strict=True)]
        elif set(dilations) != {1} or any(t > k for t, k in zip(strides, kernel, strict=True)):
            return None
        else:
            out = [-(-s // t) for s, t in zip(sizes, strides, strict=True)]
        return ({"auto_pad": mode}, out) if min(out) > 0 else None
    pads = [g.between(0, k - 1) if g.chance(0.3) else k // 2 for k in (*kernel, *kernel)]
    out = []
    for i, size in enumerate(sizes):
        room = size + pads[i] + pads[i + 2] - reach[i]
        count = -(-room // strides[i]) + 1 if ceil else room // strides[i] + 1
        if ceil and (count - 1) * strides[i] >= size + pads[i]:
            count -= 1  # the last window would start in the padding
        out.append(count)
        if room < 0:
            return None
    return ({"pads": pads} if any(pads) or g.chance(0.5) else {}), out


def convolved(g: Growth, x: str, out: int | None = None, kernel=None, plain: bool = False):
    """A convolution with random settings; `plain` keeps the image's size."""
    n, c, h, w = g.shapes[x]
    if c > 80 or h * w > 2500:
        return None
    kernel = kernel or g.pick([(3, 3), (3, 3), (1, 1), (5, 5), (2, 2), (1, 3), (4, 3), (7, 7)])
    strides = (1, 1) if plain or g.chance(0.6) else g.pick([(2, 2), (2, 1), (1, 2), (3, 3)])
    dilations = (1, 1) if plain or g.chance(0.85) else g.pick([(2, 2), (1, 2), (3, 1)])
    out = out or g.pick([1, 3, 8, 13, 16, 24, 32, 40])
    group = 1
    if g.chance(0.25):
        group = g.pick([k for k in range(1, c + 1) if c % k == 0])
        out = c * g.pick([1, 1, 1, 2]) if group == c else group * max(1, out // group)
    if plain:
        window = {"pads": [k // 2 for k in (*kernel, *kernel)]}, [h, w]
        if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
            return None
    else:
        window = _window(g, x, kernel, strides, dilations)
    if window is None or n * out * math.prod(window[1]) > LARGEST:
        return None
    settings, size = window
    if strides != (1, 1) or g.chance(0.3):
        settings["strides"] = strides
    if dilations != (1, 1) or g.chance(0.3):
        settings["dilations"] = dilations
    if group != 1 or g.chance(0.3):
        settings["group"] = group
    if g.chance(0.7):
        settings["kernel_shape"] = kernel
    weight = g.normal(out, c // group, *kernel)
    inputs = [x, g.constant(weight / np.float32(math.sqrt(weight[0].size)))]
    if g.chance(0.5):
        inputs.append(g.constant(g.normal(out)))
    return g.node("Conv", *inputs, shape=(n, out, *size), **settings)


@step(8)
@images
def convolution(g: Growth, x: str) -> str | None:
    return convolved(g, x)


@step(16)
@images
def layer(g: Growth, x: str) -> str | None:
    """Convolution, norm, mask and activation, in the orders trainers write."""
    y = convolved(g, x, plain=g.chance(0.5))
    if y is None:
        return None
    for part in g.pick([(norm, mask), (mask, norm), (mask,), (norm,), (mask, norm, mask)]):
        y = part(g, y)
    return activation(g, y) if g.chance(0.8) else y


@step(6)
@images
def mask(g: Growth, x: str) -> str:
    """One of the ways a file leaves positions out; sometimes two in a row."""
    g.masked = True
    kind = g.pick(["zero", "zero", "swapped", "nearest", "two", "filled", "rank 2", "per channel"])
    plane = g.plane_mask(x)
    value = plane[None, None].astype(np.float32)
    if kind == "nearest":
        kept = np.flatnonzero(plane)
        if not len(kept):
            return g.node("Mul", x, g.constant(value))
        source = kept[np.searchsorted(kept, np.arange(plane.size)) % len(kept)]
        return g.gather(x, source)
    if kind == "two":
        first = g.node("Mul", x, g.constant(value))
        return g.node("Mul", first, g.constant(g.plane_mask(x)[None, None].astype(np.float32)))
    if kind == "filled":  # holes hold a value per channel
        zeroed = g.node("Mul", x, g.constant(value))
        return g.node("Add", zeroed, g.constant((1 - value) * g.normal(1, g.shapes[x][1], 1, 1)))
    if kind == "rank 2":
        return g.node("Mul", x, g.constant(value[0, 0]))
    if kind == "per channel":
        value = value * (g.rng.random((1, g.shapes[x][1], 1, 1)) < 0.7)
        return g.node("Mul", x, g.constant(value.astype(np.float32)))
    pair = (x, g.constant(value))
    return g.node("Mul", *(pair[::-1] if kind == "swapped" else pair), shape=g.shapes[x])


@step(5)
@images
def residual(g: Growth, x: str) -> str | None:
    c = g.shapes[x][1]
    y = convolved(g, x, c, plain=True)
    if y is None or g.shapes[y] != g.shapes[x]:
        return None
    if g.chance(0.6):
        y = mask(g, norm(g, y) if g.chance(0.5) else y)
    if g.chance(0.4):
        y = activation(g, y)
    shortcut = mask(g, x) if g.chance(0.2) else x
    total = g.node("Add", *((y, shortcut) if g.chance(0.5) else (shortcut, y)))
    return activation(g, total) if g.chance(0.6) else total


@step(3)
@images
def inverted_residual(g: Growth, x: str) -> str | None:
    _, c, h, w = g.shapes[x]
    if c > 24 or h * w > 600:
        return None
    wide = c * g.pick([2, 3, 6])
    zero = (0, 0, 0, 0)
    y = g.node("Relu", norm(g, g.conv(x, wide, (1, 1), pads=zero)))
    if g.chance(0.5):
        y = mask(g, y)
    k = g.pick([3, 5])
    y = g.conv(y, wide, (k, k), pads=(k // 2,) * 4, group=wide, bias=g.chance(0.5))
    y = activation(g, mask(g, y) if g.chance(0.5) else y)
    if g.chance(0.3):
        y = squeeze_excite(g, y)
    y = g.conv(y, c, (1, 1), pads=zero)
    return g.node("Add", x, y) if g.chance(0.6) else y


@step(3)
@images
def squeeze_excite(g: Growth, x: str) -> str:
    n, c, *_ = g.shapes[x]
    s = g.mean(x, [2, 3]) if g.chance(0.5) else g.node("GlobalAveragePool", x, shape=(n, c, 1, 1))
    s = g.node("Relu", g.conv(s, 8, (1, 1), pads=(0, 0, 0, 0)))
    s = g.node("Sigmoid", g.conv(s, c, (1, 1), pads=(0, 0, 0, 0)))
    return g.node("Mul", *((x, s) if g.chance(0.5) else (s, x)), shape=g.shapes[x])


@step(3)
@images
def partial_stage(g: Growth, x: str) -> str | None:
    """Two convolutions of one value, joined again: what the compiler makes one of."""
    h, w = g.shapes[x][2:]
    if h * w > 900:
        return None
    zero = (0, 0, 0, 0)
    arms = [g.node("Relu", g.conv(x, g.pick([8, 16, 5]), (1, 1), pads=zero)) for _ in range(2)]
    if g.chance(0.6):
        arms[0] = layer_of(g, arms[0])
    if g.chance(0.4):
        arms.append(x)
    c = sum(g.shapes[a][1] for a in arms)
    return g.node("Concat", *arms, shape=(g.shapes[x][0], c, h, w), axis=1)


def layer_of(g: Growth, x: str) -> str:
    y = g.conv(x, g.pick([8, 16]))
    return g.node("Relu", mask(g, y) if g.chance(0.5) else y)


@step(5)
@images
def pooled(g: Growth, x: str) -> str | None:
    n, c, *_ = g.shapes[x]
    op = g.pick(["MaxPool", "AveragePool"])
    kernel = g.pick([(2, 2), (3, 3), (3, 3), (5, 5), (1, 1), (2, 3), (3, 1)])
    strides = g.pick([(2, 2), (1, 1), (2, 1), (3, 2)])
    ceil = g.opset >= 10 and g.chance(0.35)
    dilatable = g.opset >= (10 if op == "MaxPool" else 19)
    dilations = g.pick([(2, 2), (1, 2)]) if dilatable and g.chance(0.1) else (1, 1)
    window = _window(g, x, kernel, strides, dilations, ceil)
    if window is None:
        return None
    settings, size = window
    if any(p > k // 2 for p, k in zip(settings.get("pads", ()), (*kernel, *kernel), strict=False)):
        return None
    settings |= {"kernel_shape": kernel}
    if strides != (1, 1) or g.chance(0.3):
        settings["strides"] = strides
    if ceil or (g.opset >= 10 and g.chance(0.2)):
        settings["ceil_mode"] = int(ceil)
    if dilations != (1, 1):
        settings["dilations"] = dilations
    if op == "AveragePool" and g.chance(0.4):
        settings["count_include_pad"] = g.between(0, 1)
    if op == "MaxPool" and g.opset >= 8 and g.chance(0.1):
        settings["storage_order"] = 0
    return g.node(op, x, shape=(n, c, *size), **settings)


@step(3)
@images
def whole_plane(g: Growth, x: str) -> str:
    """One value per channel."""
    n, c, *_ = g.shapes[x]
    kind = g.pick(["GlobalAveragePool", "GlobalMaxPool", "mean", "mean without axes"])
    if kind.startswith("mean"):
        return g.mean(x, g.pick([[2, 3], [3, 2]]), keep=kind == "mean")
    return g.node(kind, x, shape=(n, c, 1, 1))


@step(2)
def mean_of_axes(g: Growth, x: str) -> str:
    axes = [i for i in range(g.rank(x)) if g.chance(0.4)] or [g.rank(x) - 1]
    keep = len(axes) == g.rank(x) or g.chance(0.5)
    return g.mean(x, axes, keep)


@step(3)
@images
def enlarged(g: Growth, x: str) -> str | None:
    n, c, h, w = g.shapes[x]
    fy, fx = g.pick([(2, 2), (2, 2), (3, 2), (1, 2), (4, 4), (1, 1), (1.5, 2.0), (2.05, 2.05)])
    size = (math.floor(h * np.float32(fy)), math.floor(w * np.float32(fx)))
    if n * c * math.prod(size) > LARGEST:
        return None
    shape, scales = (n, c, *size), np.array([1, 1, fy, fx], np.float32)
    mode = g.pick(["nearest", "nearest", "linear"])
    if g.opset < 9:
        return g.node("Upsample", x, shape=shape, scales=scales.tolist(), mode=mode)
    if g.opset == 9:
        return g.node("Upsample", x, g.constant(scales), shape=shape, mode=mode)
    if g.opset == 10:
        return g.node("Resize", x, g.constant(scales), shape=shape, mode=mode)
    settings = g.pick(
        [
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            {"coordinate_transformation_mode": "half_pixel"},
            {"coordinate_transformation_mode": "pytorch_half_pixel"},
            {"nearest_mode": "round_prefer_ceil"},
            {"nearest_mode": "ceil", "coordinate_transformation_mode": "asymmetric"},
            {"coordinate_transformation_mode": "align_corners"},
            {},
        ]
    )
    roi = "" if g.opset >= 13 or g.chance(0.5) else g.constant(np.zeros(0, np.float32))
    if g.opset < 13 and not roi:
        roi = g.constant(np.zeros(0, np.float32))
    if g.chance(0.6):
        inputs = [x, roi, g.constant(scales)]
    else:
        none = "" if g.opset >= 13 else g.constant(np.zeros(0, np.float32))
        inputs = [x, roi, none, g.constant(np.array(shape, np.int64))]
    return g.node("Resize", *inputs, shape=shape, mode=mode, **settings)


@step(3)
@images
def padded(g: Growth, x: str) -> str | None:
    n, c, h, w = g.shapes[x]
    top, left, bottom, right = (g.between(0, 2) for _ in range(4))
    pads = [0, 0, top, left, 0, 0, bottom, right]
    shape = (n, c, h + top + bottom, w + left + right)
    if math.prod(shape) > LARGEST:
        return None
    if g.opset < 11:
        y = g.node("Pad", x, shape=shape, pads=pads, mode="constant", value=0.0)
    else:
        inputs = [x, g.integers(pads)]
        if g.chance(0.4):
            inputs.append(g.constant(np.float32(0)))
        y = g.node("Pad", *inputs, shape=shape)
    return convolved(g, y) if g.chance(0.7) else y


@step(3)
@images
def masked_copy(g: Growth, x: str) -> str | None:
    """A masked value and the whole one are both read on."""
    y = mask(g, x)
    g.pool.append(y)
    return g.node("Add", x, y) if g.chance(0.5) else convolved(g, y)


# Operators the engine hands to a fallback -----------------------------------------------------


@step(3, FOREIGN)
def foreign_pointwise(g: Growth, x: str) -> str | None:
    op, since = g.pick([("Sin", 7), ("Cos", 7), ("Atan", 7), ("Sinh", 9), ("Asinh", 9)])
    if g.opset < since:
        return None
    return g.node(op, g.node("Tanh", x) if op == "Sinh" else x)


@step(2, FOREIGN)
def foreign_reduction(g: Growth, x: str) -> str:
    axis = g.rank(x) - 1
    shape = (*g.shapes[x][:-1], 1)
    return g.setting("ReduceLogSumExp", [x], 18, shape, "axes", [axis])


@step(2, FOREIGN)
@images
def foreign_image(g: Growth, x: str) -> str:
    if g.chance(0.5):
        return g.node("LpNormalization", x, axis=1, p=2)
    n, c, *_ = g.shapes[x]
    return g.node("GlobalLpPool", x, shape=(n, c, 1, 1), p=2)
