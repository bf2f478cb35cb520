"""Cross stage partial blocks: their two first convolutions become one where that is safe."""

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.masks import make_mask, nearest_source


class Block(graphs.Builder):
    """concat(blocks(main(x)), side(x)) with parts that tests vary."""

    def point(self, x: str, channels: int, mask: np.ndarray | None = None) -> str:
        y = self.conv(x, channels, (1, 1), pads=(0, 0, 0, 0))
        if mask is not None:
            y = self.node("Mul", y, self.constant(mask[None, None].astype(np.float32)))
        return self.node("Mul", y, self.node("Sigmoid", y))

    def bottleneck(self, x: str, channels: int, shortcut: bool) -> str:
        y = self.node("Relu", self.conv(self.point(x, channels), channels))
        return self.node("Add", x, y) if shortcut else y

    def concat(self, *parts: str) -> str:
        n, _, h, w = self.shapes[parts[0]]
        channels = sum(self.shapes[part][1] for part in parts)
        return self.node("Concat", *parts, shape=(n, channels, h, w), axis=1)


@pytest.fixture
def b():
    return Block()


@pytest.fixture
def kinds(tmp_path, b):
    """Check the numbers, also with two threads and batches; the operators' kinds and names."""

    def check(*outputs):
        path = b.save(tmp_path / "m.onnx", *outputs)
        for threads in (1, 2):
            session = Session(path, threads=threads, tune=False)
            for row in compare_with_onnxruntime(path, session):
                assert row.holds, row
        return [(row.kind, row.name) for row in session.explain()]

    return check


def joined(rows) -> bool:
    return any(kind == "conv" and " + " in name for kind, name in rows)


def copied(rows) -> bool:
    return bool({kind for kind, _ in rows} & {"concat", "copy", "map"})


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shortcut", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_one_product_and_no_copies(b, kinds, batch, shortcut, depth):
    x = b.input(batch, 24, 9, 7)
    main, side = b.point(x, 32), b.point(x, 48)
    for _ in range(depth):
        main = b.bottleneck(main, 32, shortcut)
    rows = kinds(b.point(b.concat(main, side), 20))
    assert joined(rows)
    assert not copied(rows)


def test_equal_masks_stay(tmp_path, b, kinds):
    x = b.input(1, 24, 9, 7)
    mask = b.plane(x, 0.3)
    main, side = (b.point(x, 16, mask) for _ in range(2))
    rows = kinds(b.point(b.concat(b.bottleneck(main, 16, True), side), 20))
    assert joined(rows)
    (row,) = [r for r in Session(tmp_path / "m.onnx", tune=False).explain() if " + " in r.name]
    assert row.eligible
    assert row.achieved == pytest.approx(1 - mask.mean())


def test_equal_fills_stay(b, kinds):
    """Also where their readers need different positions of them."""
    x = b.input(1, 24, 9, 7)
    mask = make_mask("lattice", (9, 7), 0.3)
    main, side = (b.gather(b.point(x, 16), nearest_source(mask)) for _ in range(2))
    rows = kinds(b.point(b.concat(b.bottleneck(main, 16, True), side), 20, mask))
    assert joined(rows)


def test_inside_another_concatenation(b, kinds):
    x = b.input(1, 24, 9, 7)
    main, side = b.point(x, 16), b.point(x, 16)
    inner = b.concat(b.bottleneck(main, 16, True), side)
    rows = kinds(b.point(b.concat(b.point(x, 32), inner), 20))
    assert joined(rows)
    assert not copied(rows)


def test_the_concatenation_is_a_result(b, kinds):
    x = b.input(1, 24, 9, 7)
    main, side = b.point(x, 16), b.point(x, 16)
    assert joined(kinds(b.concat(b.bottleneck(main, 16, True), side)))


@pytest.mark.parametrize(
    "change",
    ["masks differ", "main is needed later", "main is a result", "ragged", "sizes differ", "side"],
)
def test_left_alone_where_something_would_be_lost(b, kinds, change):
    x = b.input(1, 24, 9, 7)
    channels = 24 if change == "ragged" else 16
    masks = [b.plane(x, 0.3) if change == "masks differ" else None for _ in range(2)]
    main, side = (b.point(x, channels, mask) for mask in masks)
    new = b.bottleneck(main, 32 if change == "sizes differ" else channels, False)
    extra = {"main is a result": [main], "side": [side]}.get(change, [])
    parts = [b.concat(new, side)]
    if change == "main is needed later":
        parts.append(b.conv(main, 8))
        extra = [parts.pop()]
    assert not joined(kinds(b.point(parts[0], 20), *extra))


def test_a_shortcut_from_before_the_last_convolution(b, kinds):
    """The last convolution adds what it would overwrite: its own residual."""
    x = b.input(1, 24, 9, 7)
    main, side = b.point(x, 16), b.point(x, 16)
    rows = kinds(b.point(b.concat(b.node("Add", b.conv(main, 16), main), side), 20))
    assert not joined(rows)


def test_fills_that_differ_are_not_joined(b, kinds):
    x = b.input(1, 24, 9, 7)
    masks = [make_mask("lattice", (9, 7), 0.3, phase=phase) for phase in (0, 1)]
    main, side = (b.gather(b.point(x, 16), nearest_source(mask)) for mask in masks)
    assert not joined(kinds(b.point(b.concat(b.bottleneck(main, 16, True), side), 20)))
