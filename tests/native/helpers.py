"""What tests of native operators share: tensors in the engine's layout, random cases, tolerances.

Tensors are NHWC float32 numpy arrays of shape (N, H, W, stride). Inputs hold NaN beyond their C
channels, so that an operator whose result depends on them fails; outputs hold a sentinel, so that
one that writes elsewhere fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse import _native

FloatArray = npt.NDArray[np.float32]
EPSILON = float(np.finfo(np.float32).eps)
SENTINEL = np.float32(1.5e30)


def round_up(value: int, multiple: int = 16) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Layout:
    """How one tensor lies in memory.

    Attributes:
        padded: the lanes up to the next multiple of 16 belong to the tensor.
        extra: further channels per pixel that are somebody else's (a view into a concatenation).
        first: floats between the start of the pixel and the view's first channel.
    """

    padded: bool = True
    extra: int = 0
    first: int = 0

    def stride(self, channels: int) -> int:
        """Floats between neighbouring pixels."""
        return self.first + (round_up(channels) if self.padded else channels) + self.extra


@dataclass
class Tensor:
    """An activation tensor: its description and the buffer it lies in."""

    desc: Any
    buffer: FloatArray
    layout: Layout

    @classmethod
    def of(cls, values: FloatArray, layout: Layout) -> Tensor:
        """Lay out `values` (N, C, H, W); every float outside of it is NaN."""
        n, c, h, w = values.shape
        tensor = cls._make((n, c, h, w), layout, np.float32(np.nan))
        tensor.view()[..., :c] = values.transpose(0, 2, 3, 1)
        return tensor

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], layout: Layout) -> Tensor:
        """An output of shape (N, C, H, W), filled with a sentinel."""
        return cls._make(shape, layout, SENTINEL)

    @classmethod
    def _make(cls, shape: tuple[int, int, int, int], layout: Layout, fill: np.float32) -> Tensor:
        n, c, h, w = shape
        stride = layout.stride(c)
        desc = _native.TensorDesc(n, h, w, c, stride, padded=layout.padded)
        # The last pixel of a view ends with its own lanes, not with its stride.
        size = n * h * w * stride
        return cls(desc, np.full(size, fill, np.float32), layout)

    def view(self) -> FloatArray:
        """The view's channels and all that follow in each pixel: (N, H, W, stride - first)."""
        d = self.desc
        return self.buffer.reshape(d.n, d.h, d.w, d.stride)[..., self.layout.first :]

    def argument(self) -> FloatArray:
        """What is passed to the operator: starts at the view's first channel."""
        return self.buffer[self.layout.first :]

    def values(self) -> FloatArray:
        """The values as (N, C, H, W)."""
        return np.ascontiguousarray(self.view()[..., : self.desc.c].transpose(0, 3, 1, 2))

    def assert_nothing_else_written(self) -> None:
        """Floats that belong to somebody else still hold the sentinel."""
        d = self.desc
        pixels = self.buffer.reshape(d.n, d.h, d.w, d.stride)
        own = round_up(d.c) if self.layout.padded else d.c
        outside = np.concatenate(
            [pixels[..., : self.layout.first], pixels[..., self.layout.first + own :]], axis=-1
        )
        assert np.all(outside == SENTINEL), "an operator wrote outside of its output"


@dataclass
class ConvCase:
    """One convolution: shapes, data and what is fused into it. Arrays are NCHW / OIHW float32."""

    x: FloatArray
    weight: FloatArray
    bias: FloatArray | None = None
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    group: int = 1
    mask: npt.NDArray[np.bool_] | None = None
    input_mask: npt.NDArray[np.bool_] | None = None
    skipped_value: FloatArray | None = None
    source: npt.NDArray[np.int32] | None = None
    residual: FloatArray | None = None
    activation: dict[str, Any] = field(default_factory=dict)
    layouts: tuple[Layout, Layout, Layout] = (Layout(), Layout(), Layout())  # x, residual, output
    nchw: bool = False
    threads: int = 1  # whose shares are run one after the other

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """(N, O, OH, OW)."""
        n, _, h, w = self.x.shape
        o, _, kh, kw = self.weight.shape
        top, left, bottom, right = self.pads
        oh = (h + top + bottom - self.dilation[0] * (kh - 1) - 1) // self.stride[0] + 1
        ow = (w + left + right - self.dilation[1] * (kw - 1) - 1) // self.stride[1] + 1
        return n, o, oh, ow

    def describe(self) -> str:
        """Everything needed to build the case again, for failure messages."""
        kept = "none" if self.mask is None else f"{int(self.mask.sum())}/{self.mask.size} kept"
        return (
            f"x {self.x.shape} weight {self.weight.shape} stride {self.stride} "
            f"dilation {self.dilation} pads {self.pads} group {self.group} mask {kept} "
            f"input_mask {self.input_mask is not None} "
            f"source {self.source is not None} residual {self.residual is not None} "
            f"bias {self.bias is not None} {self.activation} layouts {self.layouts} "
            f"threads {self.threads}"
        )

    def spec(self) -> tuple[Any, list[Tensor | FloatArray], Tensor]:
        """(native spec, input tensors, output tensor)."""
        inputs, descs = read_by(self, self)
        output = Tensor.empty(self.output_shape, self.layouts[2])
        attributes: dict[str, Any] = {
            "stride_h": self.stride[0],
            "stride_w": self.stride[1],
            "dilation_h": self.dilation[0],
            "dilation_w": self.dilation[1],
            "pad_top": self.pads[0],
            "pad_left": self.pads[1],
            "pad_bottom": self.pads[2],
            "pad_right": self.pads[3],
            "group": self.group,
            **self.activation,
        }
        arrays: dict[str, Any] = {"weight": np.ascontiguousarray(self.weight)}
        for name in ("bias", "skipped_value"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value
        for name in ("mask", "input_mask"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value.astype(np.uint8)
        if self.source is not None:
            arrays["source"] = self.source.astype(np.int32)
        spec = _native.Spec("conv", attributes, arrays, descs, [output.desc])
        spec.threads = self.threads
        return spec, inputs, output

    def run(self, algorithm: str, isa: str) -> FloatArray:
        """The result (N, O, OH, OW); checks that nothing outside of the output was written."""
        spec, inputs, output = self.spec()
        packed = _native.pack(spec, algorithm, isa)
        assert 0.99 <= packed.longest_share(self.threads) <= self.threads * 1.01
        arguments = [x.argument() if isinstance(x, Tensor) else x for x in inputs]
        _native.run_operator(packed, arguments, [output.argument()])
        output.assert_nothing_else_written()
        return output.values()

    def supported(self, algorithm: str, isa: str) -> bool:
        """Whether the algorithm takes this case."""
        spec, _, _ = self.spec()
        return not dict(spec.algorithms(isa))[algorithm]

    def tolerance(self) -> FloatArray:
        """Bound on the absolute error of a float32 result, (N, O, OH, OW).

        A float32 sum of K products errs by at most K eps sum|x w| in any order, and with
        overwhelming probability by a small multiple of sqrt(K) eps sum|x w| (Higham and Mary, SIAM
        J. Sci. Comput. 41(5), 2019). Bias and residual are two more terms; the activations have
        slopes of at most 1.1 and err by a few units in the last place.
        """
        k = self.weight[0].size + 2
        magnitudes = replace(
            self,
            x=np.abs(self.x),
            weight=np.abs(self.weight),
            bias=None if self.bias is None else np.abs(self.bias),
            residual=None if self.residual is None else np.abs(self.residual),
            skipped_value=None if self.skipped_value is None else np.abs(self.skipped_value),
            activation={},
            nchw=False,
        ).run("reference", "scalar")
        return np.asarray(6 * np.sqrt(k) * EPSILON * (magnitudes + 1), np.float32)


ACTIVATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"activation": "relu"},
    {"activation": "clip", "lo": 0.0, "hi": 6.0},
    {"activation": "hardswish"},
    {"activation": "silu"},
    {"activation": "sigmoid"},
    {"activation": "hardsigmoid"},
    {"activation": "gelu"},
    {"activation": "mish"},
    {"activation": "elu", "lo": 0.5},
)

THREADS = (1, 1, 2, 3, 5, 8, 16)

MASKS = ("none", "all", "all_but_one", "single", "random", "blocks", "border", "lattice", "rows")


def read_by(first: ConvCase, last: ConvCase) -> tuple[list[Tensor | FloatArray], list[Any]]:
    """Tensors a chain reads, and their descriptions: its first input, what its last one adds."""
    inputs: list[Tensor | FloatArray] = []
    descs = []
    if first.nchw:
        n, c, h, w = first.x.shape
        descs.append(_native.TensorDesc(n, h, w, c, c, nchw=True))
        inputs.append(np.ascontiguousarray(first.x).reshape(-1))
    else:
        x = Tensor.of(first.x, first.layouts[0])
        descs.append(x.desc)
        inputs.append(x)
    if last.residual is not None:
        residual = Tensor.of(last.residual, last.layouts[1])
        descs.append(residual.desc)
        inputs.append(residual)
    return inputs, descs


def draw_epilogue(case: ConvCase, rng: np.random.Generator) -> None:
    """Give a convolution a random bias, mask, fill and residual, or not."""
    shape = case.output_shape
    channels = shape[1]
    if rng.random() < 0.8:
        case.bias = rng.standard_normal(channels).astype(np.float32)
    case.mask = make_mask(str(rng.choice(MASKS)), shape[2:], rng)
    if case.mask is not None and rng.random() < 0.3:
        case.source = nearest_source(case.mask)
    else:
        if case.mask is not None and rng.random() < 0.5:
            case.skipped_value = rng.standard_normal(channels).astype(np.float32)
        if rng.random() < 0.4:
            case.residual = rng.standard_normal(shape).astype(np.float32)


def make_mask(
    kind: str, shape: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.bool_] | None:
    """A mask of one of the kinds in MASKS; `none` gives None. At least one position is kept."""
    h, w = shape
    if kind == "none":
        return None
    mask = np.ones(shape, bool)
    at = int(rng.integers(h)), int(rng.integers(w))
    if kind == "all_but_one":
        mask[at] = False
    elif kind == "single":
        mask[:] = False
    elif kind == "random":
        mask = rng.random(shape) >= rng.choice([0.1, 0.3, 0.7])
    elif kind == "blocks":
        mask = np.kron(rng.random((-(-h // 4), -(-w // 4))) > 0.4, np.ones((4, 4), bool))[:h, :w]
    elif kind == "border":
        mask[[0, -1], :] = False
        mask[:, [0, -1]] = False
    elif kind == "lattice":
        y, x = np.indices(shape)
        mask = (x + 2 * y) % 3 != 0
    elif kind == "rows":
        mask[::2] = False
    if not mask.any():
        mask[at] = True
    if kind == "all_but_one" and mask.size == 1:
        mask[:] = True
    return mask


def nearest_source(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """For every position the flat index of some nearest kept one, itself where kept: (OH*OW,)."""
    kept = np.argwhere(mask)
    every = np.stack(np.indices(mask.shape), -1).reshape(-1, 1, 2)
    nearest = kept[((every - kept[None]) ** 2).sum(-1).argmin(1)]
    return (nearest[:, 0] * mask.shape[1] + nearest[:, 1]).astype(np.int32)


def random_layout(rng: np.random.Generator) -> Layout:
    """A tensor of its own, an unpadded one, or a view into a wider one."""
    return (
        Layout(),
        Layout(padded=False),
        Layout(padded=False, extra=int(rng.integers(1, 20)), first=int(rng.integers(0, 20))),
    )[int(rng.choice(3, p=[0.5, 0.2, 0.3]))]


def random_conv(rng: np.random.Generator, kind: str = "any") -> ConvCase:
    """A random convolution.

    Args:
        rng: source of all choices.
        kind: `any`, `pointwise`, `depthwise`, `grouped`, `small_groups` (of 2, 4 or 8 channels, as
            many outputs as inputs) or `stem` (NCHW input, at most 4 channels).
    """
    group = 1
    c, o = (int(rng.integers(1, rng.choice([10, 40, 131]))) for _ in range(2))
    kernel = int(rng.choice([1, 2, 3, 3, 3, 5, 7])), int(rng.choice([1, 2, 3, 3, 3, 5, 7]))
    stride = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    dilation = int(rng.choice([1, 1, 1, 2, 3])), int(rng.choice([1, 1, 1, 2, 3]))
    if kind == "pointwise":
        kernel = stride = dilation = (1, 1)
    elif kind == "depthwise":
        group, o = c, c
        kernel = (int(rng.choice([3, 3, 5, kernel[0]])),) * 2 if rng.random() < 0.8 else kernel
        if rng.random() < 0.6:
            stride, dilation = (int(rng.integers(1, 3)),) * 2, (1, 1)
    elif kind == "grouped":
        group = int(rng.integers(2, 5))
        c, o = group * -(-c // group), group * -(-o // group)
    elif kind == "small_groups":
        per_group = 2 ** int(rng.integers(1, 4))
        group = -(-c // per_group)
        c = o = group * per_group
    elif kind == "stem":
        c = int(rng.integers(1, 5))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    pads = tuple(int(rng.integers(0, min(r, 4) + 1)) for r in (*reach, *reach))
    size = [
        max(1, r + 1 - pads[i] - pads[i + 2]) + int(rng.integers(0, 18))
        for i, r in enumerate(reach)
    ]
    n = int(rng.choice([1, 1, 1, 2, 3]))
    x = rng.standard_normal((n, c, *size)).astype(np.float32)
    case = ConvCase(
        x,
        rng.standard_normal((o, c // group, *kernel)).astype(np.float32),
        stride=stride,
        dilation=dilation,
        pads=pads,  # type: ignore[arg-type]
        group=group,
        activation=ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))],
        layouts=(random_layout(rng), random_layout(rng), random_layout(rng)),
        nchw=kind == "stem",
    )
    draw_epilogue(case, rng)
    if rng.random() < 0.3 and kind != "stem":
        case.input_mask = make_mask(str(rng.choice(MASKS[1:])), (size[0], size[1]), rng)
        case.x *= case.input_mask
    case.threads = int(rng.choice(THREADS))
    return case
