"""Views against numpy's, and graphs of view operators against ONNX Runtime."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest
from numpy.lib.stride_tricks import as_strided

from activsparse import Session, _native
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.engine.views import View, dense_strides


def materialised(view: View, memory: np.ndarray) -> np.ndarray:
    strides = tuple(4 * stride for stride in view.strides)
    return as_strided(memory[view.offset :], view.shape, strides)


def random_shape(rng: np.random.Generator, size: int, most: int = 6) -> tuple[int, ...]:
    """A random shape with `size` elements."""
    shape = []
    while size > 1 and len(shape) < most - 1:
        factors = [f for f in range(2, size + 1) if size % f == 0]
        shape.append(int(rng.choice(factors)))
        size //= shape[-1]
    shape.append(size)
    shape = [*shape, 1] if rng.random() < 0.3 else shape
    return tuple(int(s) for s in rng.permutation(shape))


@pytest.mark.parametrize("seed", range(100))
def test_views_name_the_elements_numpy_names(seed):
    rng = np.random.default_rng(seed)
    memory = np.arange(240, dtype=np.float32)
    shape = random_shape(rng, 240)
    view, array = View(0, 0, shape, dense_strides(shape)), memory.reshape(shape)
    for _ in range(6):
        kind = rng.choice(["permute", "narrow", "reshape"])
        if kind == "permute":
            order = rng.permutation(len(view.shape))
            view, array = view.permute(order), array.transpose(order)
        elif kind == "narrow":
            axis = int(rng.integers(len(view.shape)))
            start, step = int(rng.integers(view.shape[axis])), int(rng.integers(1, 3))
            array = array[(slice(None),) * axis + (slice(start, None, step),)]
            view = view.narrow(axis, start, array.shape[axis], step)
        else:
            new = random_shape(rng, array.size)
            reshaped = view.reshape(new)
            shares = np.shares_memory(array.reshape(new), memory)
            assert (reshaped is not None) == shares, (seed, view, new)
            if reshaped is not None:
                view, array = reshaped, array.reshape(new)
        np.testing.assert_array_equal(materialised(view, memory), array, err_msg=f"{seed} {view}")


def test_an_image_is_recognised_whatever_its_pixel_stride():
    n, c, h, w, stride = 2, 5, 3, 4, 16
    image = View(0, 0, (n, c, h, w), (h * w * stride, 1, w * stride, stride))
    assert image.as_image() == (n, h, w, c, stride)
    assert image.narrow(1, 2, 2).as_image() == (n, h, w, 2, stride)
    assert image.narrow(3, 0, 2).as_image() is None
    assert image.permute((0, 1, 3, 2)).as_image() is None
    assert View(0, 0, (3, 4), (4, 1)).as_image() == (3, 1, 1, 4, 4)


class ViewGraph(graphs.Builder):
    """Random operators on values of any rank."""

    def step(self, x: str) -> str:
        shape, rng = self.shapes[x], self.rng
        kind = rng.choice(
            [
                "reshape",
                "transpose",
                "slice",
                "split",
                "line",
                "table",
                "unary",
                "square",
                "softmax",
                "sub",
            ]
        )
        axis = int(rng.integers(len(shape)))
        if kind == "reshape":
            new = random_shape(rng, int(np.prod(shape)))
            return self.node("Reshape", x, self.constant(np.array(new)), shape=new)
        if kind == "transpose":
            order = [int(i) for i in rng.permutation(len(shape))]
            return self.node("Transpose", x, perm=order, shape=tuple(shape[i] for i in order))
        if kind == "slice":
            start, step = int(rng.integers(shape[axis])), int(rng.integers(1, 3))
            bounds = [self.constant(np.array([v])) for v in (start, 2**40, axis, step)]
            size = -(-(shape[axis] - start) // step)
            return self.node("Slice", x, *bounds, shape=(*shape[:axis], size, *shape[axis + 1 :]))
        if kind == "split":
            return self.split(x, axis)
        if kind == "line":
            return self.node(str(rng.choice(["Add", "Mul"])), x, self.constant(self.uniform(1)))
        if kind == "table":
            table = self.uniform(*(s if rng.random() < 0.5 else 1 for s in shape))
            return self.node(str(rng.choice(["Add", "Mul", "Sub", "Div"])), x, self.constant(table))
        if kind == "square":
            return self.node("Pow", self.node("Tanh", x), self.constant(np.float32(2)))
        if kind == "softmax":
            return self.node("Softmax", x, axis=axis)
        if kind == "sub":
            return self.node(
                str(rng.choice(["Sub", "Max", "Min"])), x, self.node("LeakyRelu", x, alpha=0.1)
            )
        return self.node(str(rng.choice(["Sigmoid", "Tanh", "Relu"])), x)

    def split(self, x: str, axis: int) -> str:
        """Split into two, change one part, join both."""
        shape = self.shapes[x]
        if shape[axis] < 2:
            return x
        first = int(self.rng.integers(1, shape[axis]))
        sizes = self.constant(np.array([first, shape[axis] - first]))
        whole = self.node("Split", x, sizes, axis=axis)
        second = f"{whole}_b"
        self.nodes[-1].output.append(second)
        self.shapes[whole] = (*shape[:axis], first, *shape[axis + 1 :])
        self.shapes[second] = (*shape[:axis], shape[axis] - first, *shape[axis + 1 :])
        parts = [self.node("Sigmoid", whole), second]
        return self.node("Concat", *parts, axis=axis, shape=shape)


@pytest.mark.parametrize("seed", range(60))
def test_random_views_agree_with_onnxruntime(tmp_path, seed):
    build = ViewGraph(seed)
    n, c, h, w = (int(v) for v in build.rng.integers((1, 2, 2, 2), (3, 24, 8, 8)))
    x = build.input(n, c, h, w)
    value = build.conv(x, 16 * int(build.rng.integers(1, 3))) if seed % 3 else x
    outputs = []
    for _ in range(int(build.rng.integers(2, 9))):
        value = build.step(value)
        if build.rng.random() < 0.2 and value not in outputs:
            outputs.append(value)
    value = build.node("Mul", value, build.constant(np.float32(1.5)))
    path = build.save(tmp_path / "views.onnx", *outputs, value)
    for isa in _native.available_isas():
        session = Session(path, isa=isa, threads=1 + seed % 2)
        for row in compare_with_onnxruntime(path, session, seed):
            assert row.holds, (seed, isa, row, session.explain())


@pytest.mark.parametrize("reader", ["concat", "conv", "pool", "both", "result"])
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_joined_images_lie_where_their_readers_look(tmp_path, channels, axis, reader):
    b = graphs.Builder(channels)
    shape = (1, channels, 4, 6)
    parts = [b.input(*shape, name=name) for name in ("p", "q")]
    whole = tuple(2 * size if i == axis else size for i, size in enumerate(shape))
    joined = b.node("Concat", b.node("Sigmoid", parts[0]), parts[1], axis=axis, shape=whole)
    outputs = [joined] if reader == "result" else []
    if reader in ("concat", "both", "result"):
        other = b.node("Relu", b.input(1, 16, *whole[2:], name="r"))
        wide = (1, 16 + whole[1], *whole[2:])
        outputs.append(b.node("Concat", other, joined, axis=1, shape=wide))
    if reader in ("conv", "both"):
        outputs.append(b.conv(joined, 3))
    if reader == "pool":
        outputs.append(b.node("GlobalAveragePool", joined, shape=(*whole[:2], 1, 1)))
    path = b.save(tmp_path / "joined.onnx", *outputs)
    oracle.check(path, context=(channels, axis, reader))
