"""Winograd convolutions against the double-precision reference, on every instruction set here."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from helpers import THREADS

from activsparse import ActivsparseError, _native
from activsparse.engine.tolerance import gamma, winograd_bound, winograd_matrices
from activsparse.masks import make_mask, nearest_source

ISAS = _native.available_isas()
SHORT = {6: 4, 4: 2, 2: 1}
# algorithms by stride: their tile
TILES = {
    1: {"winograd6": 6, "winograd4": 4, "winograd2": 2},
    2: {"winograd4_s2": 4, "winograd2_s2": 2},
}


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@dataclass
class Conv:
    """One 3x3 convolution: its shapes, its arrays, and what the reference makes of them."""

    rng: np.random.Generator
    n: int
    h: int
    w: int
    c: int
    o: int
    pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    stride: int = 1
    activation: str = "none"
    residual: bool = False
    mask: np.ndarray | None = None
    source: bool = False
    padded: bool = False
    scale: float = 0.0  # decades over which inputs and weights are scattered
    arrays: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        top, left, bottom, right = self.pads
        self.oh = (self.h + top + bottom - 3) // self.stride + 1
        self.ow = (self.w + left + right - 3) // self.stride + 1
        rng = self.rng
        self.in_stride = round_up(self.c, 16) if self.padded else self.c + int(rng.integers(0, 3))
        self.out_stride = round_up(self.o, 16) if self.padded else self.o + int(rng.integers(0, 3))
        self.x = self.values(self.n, self.h, self.w, self.in_stride)
        self.x[..., self.c :] = np.nan
        self.arrays = {
            "weight": self.values(self.o, self.c, 3, 3),
            "bias": self.values(self.o),
        }
        if self.mask is not None:
            self.arrays["mask"] = self.mask.astype(np.uint8)
            self.arrays["skipped_value"] = self.values(self.o)
            if self.source:
                self.arrays["source"] = nearest_source(self.mask).astype(np.int32)
        self.threads = int(rng.choice(THREADS))
        self.inputs = [self.x]
        if self.residual:
            self.inputs.append(self.values(self.n, self.oh, self.ow, self.out_stride))

    def values(self, *shape: int) -> np.ndarray:
        decades = self.rng.uniform(-self.scale, self.scale, shape) if self.scale else 0.0
        return (self.rng.standard_normal(shape) * 10**decades).astype(np.float32)

    def spec(self, weights: str = "float32") -> _native.Spec:
        source = _native.TensorDesc(self.n, self.h, self.w, self.c, self.in_stride)
        target = _native.TensorDesc(
            self.n, self.oh, self.ow, self.o, self.out_stride, padded=self.padded
        )
        names = ("pad_top", "pad_left", "pad_bottom", "pad_right")
        attributes = {"activation": self.activation, **dict(zip(names, self.pads, strict=True))}
        attributes |= {"stride_h": self.stride, "stride_w": self.stride, "weights": weights}
        inputs = [source, target] if self.residual else [source]
        spec = _native.Spec("conv", attributes, self.arrays, inputs, [target])
        spec.threads = self.threads
        return spec

    def run(self, algorithm: str, isa: str, weights: str = "float32") -> np.ndarray:
        packed = _native.pack(self.spec(weights), algorithm, isa)
        y = np.full((self.n, self.oh, self.ow, self.out_stride), -12345.0, np.float32)
        _native.run_operator(packed, self.inputs, [y])
        if not self.padded:
            assert (y[..., self.o :] == -12345.0).all(), "wrote between pixels"
        return y[..., : self.o]

    def tolerance(self, algorithm: str, expected: np.ndarray) -> np.ndarray:
        """(O,) or larger: the a-priori bound plus roundings of bias, residual, activation."""
        largest = np.abs(self.x[..., : self.c]).max(axis=(0, 1, 2), initial=0)
        added = np.abs(self.arrays["bias"])
        if self.residual:
            added = added + np.abs(self.inputs[1][..., : self.o])
        tile = int(algorithm.removeprefix("winograd")[0])
        bound = winograd_bound(tile, self.arrays["weight"], largest, self.stride)
        # No activation here has a slope above 1.1; vectorised exponentials lose a few units.
        return 1.1 * (bound + gamma(3) * added) + gamma(16) * np.abs(expected) + 1e-30

    def check(self) -> None:
        expected = self.run("reference", "scalar")
        for isa in ISAS:
            for algorithm in TILES[self.stride]:
                error = np.abs(self.run(algorithm, isa).astype(np.float64) - expected)
                worst = (error / self.tolerance(algorithm, expected)).max(initial=0)
                assert worst <= 1, (worst, isa, algorithm, self.describe())

    def describe(self) -> str:
        mask = "" if self.mask is None else f" mask {int(self.mask.sum())}/{self.mask.size}"
        return (
            f"{self.n}x{self.h}x{self.w}x{self.c} -> {self.o}, pads {self.pads}, "
            f"stride {self.stride}, "
            f"{self.activation}, residual {self.residual}{mask}"
        )


def masks_of(shape: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray | None]:
    single = np.zeros(shape, bool)
    single[tuple(rng.integers(0, shape))] = True
    border = np.zeros(shape, bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    masks: dict[str, np.ndarray | None] = {
        "none": None,
        "nothing": np.zeros(shape, bool),
        "single": single,
        "all but one": ~single,
        "border": border,
        "inside": ~border,
        "random": rng.random(shape) < rng.random(),
    }
    if min(shape) >= 9:
        for pattern in ("tiles", "lattice"):
            masks[pattern] = make_mask(pattern, shape, float(rng.uniform(0.05, 0.5)))
    return masks


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_random_convolutions(seed: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    n, c, o = int(rng.integers(1, 4)), int(rng.integers(1, 131)), int(rng.integers(1, 131))
    pads = tuple(int(p) for p in rng.integers(0, 3, 4))
    h = int(rng.integers(max(1, 3 - pads[0] - pads[2]), 25 if seed % 4 else 41))
    w = int(rng.integers(max(1, 3 - pads[1] - pads[3]), 25 if seed % 4 else 41))
    c = min(c, 2_000_000 // (n * h * w * o))  # the reference is slow
    shape = ((h + pads[0] + pads[2] - 3) // stride + 1, (w + pads[1] + pads[3] - 3) // stride + 1)
    activations = ("none", "relu", "hardswish", "silu")
    for i, mask in enumerate(masks_of(shape, rng).values()):
        Conv(
            rng,
            n,
            h,
            w,
            max(c, 1),
            o,
            pads,
            stride,
            activation=activations[(seed + i) % 4],
            residual=bool((seed + i) // 2 % 2),
            mask=mask,
            padded=bool(i % 2),
        ).check()


@pytest.mark.parametrize("seed", range(4))
def test_nearest_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, w = (int(v) for v in rng.integers(3, 15, 2))
    mask = rng.random((h, w)) < 0.6
    mask[0, 0] = True
    Conv(rng, 2, h, w, 7, 20, activation="relu", mask=mask, source=True).check()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("h", "c", "o"), [(56, 8, 24), (30, 200, 16), (7, 70, 300)])
def test_blocks_of_tiles_and_channels(h: int, c: int, o: int, stride: int) -> None:
    """Shapes whose tiles or output channels need several blocks."""
    conv = Conv(np.random.default_rng(h), 2, h, h, c, o, stride=stride, activation="relu")
    conv.check()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_badly_scaled_data_stays_within_the_bound(scale: float, stride: int) -> None:
    rng = np.random.default_rng(7)
    for c in (1, 16, 100):
        Conv(rng, 1, 11, 13, c, 19, stride=stride, scale=scale).check()


FAMILIES = [(tile, stride) for stride, tiles in TILES.items() for tile in tiles.values()]


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("tile", "stride"), FAMILIES)
def test_matrices_compute_a_correlation(tile: int, stride: int, short: bool) -> None:
    rng = np.random.default_rng(tile)
    a, g, b = winograd_matrices(tile, short, stride)
    assert len(a) == (SHORT[tile] if short else tile)
    d, k = rng.standard_normal(len(g)), rng.standard_normal(3)
    expected = [d[i * stride : i * stride + 3] @ k for i in range(len(a))]
    np.testing.assert_allclose(a @ ((g @ k) * (b @ d)), expected, atol=1e-12)


def points(outputs: int, stride: int) -> int:
    return (outputs - 1) * stride + 3


def products(tiles: list[tuple[int, int, int, int, int]], stride: int = 1) -> int:
    return sum(points(height, stride) * points(width, stride) for *_, height, width in tiles)


def axis_products(kept: np.ndarray, size: int, stride: int = 1) -> int:
    """Fewest products along one axis, by dynamic programming from its end."""
    best = np.zeros(len(kept) + size, int)
    for at in range(len(kept))[::-1]:
        tiles = [best[at + length] + points(length, stride) for length in (size, SHORT[size])]
        best[at] = min(tiles) if kept[at] else best[at + 1]
    return int(best[0])


@pytest.mark.parametrize(("size", "stride"), FAMILIES)
@pytest.mark.parametrize("seed", range(25))
def test_tile_cover(seed: int, size: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(v) for v in rng.integers(1, 41, 2))
    ones = [np.ones(n, bool) for n in shape]
    dense = axis_products(ones[0], size, stride) * axis_products(ones[1], size, stride)
    for name, mask in masks_of(shape, rng).items():
        kept = np.ones(shape, bool) if mask is None else mask
        tiles = _native.tile_cover(kept, size, stride)
        written = np.zeros((shape[0] + size, shape[1] + size), int)
        for y, x, keep, height, width in tiles:
            bits = np.array([keep >> i & 1 for i in range(size * size)]).reshape(size, size)
            assert bits.any()
            assert not bits[height:].any()
            assert not bits[:, width:].any()
            written[y : y + size, x : x + size] += bits
        message = f"{name} {shape}"
        np.testing.assert_array_equal(written[: shape[0], : shape[1]], kept, message)
        assert written.sum() == kept.sum(), message
        assert products(tiles, stride) <= dense, message


@pytest.mark.parametrize("size", [6, 4])
@pytest.mark.parametrize("seed", range(10))
def test_rows_times_columns_cost_the_product_of_their_runs(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = rng.random(int(rng.integers(1, 30))) < 0.7, rng.random(23) < 0.7
    tiles = _native.tile_cover(np.outer(rows, columns), size)
    assert products(tiles) == axis_products(rows, size) * axis_products(columns, size)


def test_work_and_index_follow_the_tiles() -> None:
    mask = make_mask("tiles", (56, 56), 0.3)
    conv = Conv(np.random.default_rng(0), 1, 56, 56, 16, 16, mask=mask)
    packed = _native.pack(conv.spec(), "winograd4", ISAS[-1])
    tiles = _native.tile_cover(mask, 4)
    assert products(tiles) < 196 * 36
    assert packed.macs == products(tiles) * 16 * 16
    assert packed.index_bytes <= len(tiles) * 24 + int((~mask).sum()) * 4


@pytest.mark.parametrize("name", ["stride_h", "dilation_w", "group"])
def test_unsupported_convolutions_say_why(name: str) -> None:
    descs = [_native.TensorDesc(1, 9, 9, 2, 2)]
    weight = np.zeros((2, 2, 3, 3), np.float32)
    spec = _native.Spec("conv", {name: 2}, {"weight": weight}, descs, descs)
    reasons = dict(spec.algorithms("scalar"))
    for algorithm in (*TILES[1], *TILES[2]):
        assert reasons[algorithm]


def test_a_damaged_blob_is_refused() -> None:
    conv = Conv(np.random.default_rng(0), 1, 8, 8, 4, 4, mask=np.eye(8, dtype=bool))
    packed = _native.pack(conv.spec(), "winograd4", ISAS[-1])
    with pytest.raises(ActivsparseError, match="damaged"):
        _native.unpack(
            "conv",
            "winograd4",
            ISAS[-1],
            packed.data[: packed.nbytes - 128].copy(),
            packed.inputs,
            packed.outputs,
        )
