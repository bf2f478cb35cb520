"""A first convolution pooled band by band, against the reference and torch's pooling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    ACTIVATIONS,
    ConvCase,
    FloatArray,
    Layout,
    Tensor,
    random_layout,
    read_by,
)

from activsparse import _native
from activsparse.engine.tolerance import gamma, winograd_stem_bound

ISAS = _native.available_isas()


def random_case(rng: np.random.Generator) -> tuple[ConvCase, dict[str, int]]:
    """A convolution without a mask, and a window with strides and padding that fit its output."""
    stride = int(rng.integers(2, 4))
    kernel = int(rng.integers(2 * stride + 1, 4 * stride + 1))
    size = [kernel + int(rng.integers(0, 90)) for _ in range(2)]
    n, c, o = int(rng.choice([1, 1, 2])), int(rng.integers(1, 5)), int(rng.integers(1, 70))
    case = ConvCase(
        rng.standard_normal((n, c, *size)).astype(np.float32),
        rng.standard_normal((o, c, kernel, kernel)).astype(np.float32),
        bias=rng.standard_normal(o).astype(np.float32),
        stride=(stride, stride),
        pads=tuple(int(rng.integers(0, kernel // 2 + 1)) for _ in range(4)),  # type: ignore[arg-type]
        activation=ACTIVATIONS[int(rng.integers(3))],
        nchw=True,
    )
    window = {}
    for axis, places in zip("hw", case.output_shape[2:], strict=True):
        window[f"kernel_{axis}"] = min(int(rng.integers(1, 9)), places)
        window[f"stride_{axis}"] = int(rng.integers(1, 5))
        window[f"pad_{axis}"] = int(rng.integers(0, window[f"kernel_{axis}"] // 2 + 1))
    return case, window


def pooled(values: FloatArray, window: dict[str, int]) -> FloatArray:
    sizes = [
        tuple(window[f"{name}_{axis}"] for axis in "hw") for name in ("kernel", "stride", "pad")
    ]
    return torch.nn.functional.max_pool2d(torch.from_numpy(values), *sizes).numpy()


def run(case: ConvCase, window: dict[str, int], layout: Layout, isa: str) -> FloatArray:
    inputs, descs = read_by(case, case)
    n, o = case.output_shape[:2]
    size = [
        (places + 2 * window[f"pad_{axis}"] - window[f"kernel_{axis}"]) // window[f"stride_{axis}"]
        + 1
        for axis, places in zip("hw", case.output_shape[2:], strict=True)
    ]
    output = Tensor.empty((n, o, *size), layout)
    sides = {"top": "h", "bottom": "h", "left": "w", "right": "w"}
    attributes = {
        "stride_h": case.stride[0],
        "stride_w": case.stride[1],
        **{
            f"pad_{side}": pad
            for side, pad in zip(("top", "left", "bottom", "right"), case.pads, strict=True)
        },
        **case.activation,
        **{f"pool.{k}": v for k, v in window.items() if not k.startswith("pad")},
        **{f"pool.pad_{side}": window[f"pad_{axis}"] for side, axis in sides.items()},
    }
    arrays = {"weight": case.weight, "bias": case.bias}
    spec = _native.Spec("conv_max_pool", attributes, arrays, descs, [output.desc])
    packed = _native.pack(spec, "winograd_stem", isa)
    _native.run_operator(packed, inputs, [output.argument()])
    output.assert_nothing_else_written()
    return output.values()


@pytest.mark.parametrize("seed", range(60))
def test_random_stems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case, window = random_case(rng)
    layout = random_layout(rng)
    expected = replace(case, nchw=False).run("reference", "scalar")
    assert case.bias is not None
    largest = np.abs(case.x).max(axis=(0, 2, 3))
    bound = winograd_stem_bound(case.weight, largest, case.stride[0]) + gamma(3) * np.abs(case.bias)
    tolerance = bound + gamma(16) * np.abs(expected).max(axis=(0, 2, 3)) + 1e-30
    for isa in ISAS:
        error = np.abs(run(case, window, layout, isa) - pooled(expected, window))
        worst = (error / tolerance[:, None, None]).max()
        assert worst <= 1, (worst, isa, seed, window, case.describe())


def test_masks_and_gaps_are_refused() -> None:
    image = _native.TensorDesc(1, 32, 32, 3, 3, nchw=True)
    output = _native.TensorDesc(1, 8, 8, 16, 16, padded=True)
    pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 3)
    attributes = {"stride_h": 2, "stride_w": 2, **pads, "pool.kernel_h": 2, "pool.kernel_w": 2}
    attributes |= {"pool.stride_h": 2, "pool.stride_w": 2}
    arrays = {"weight": np.ones((16, 3, 7, 7), np.float32)}

    def reason(more_attributes: dict[str, int], more_arrays: dict[str, np.ndarray]) -> str:
        spec = _native.Spec(
            "conv_max_pool", attributes | more_attributes, arrays | more_arrays, [image], [output]
        )
        return dict(spec.algorithms(ISAS[-1]))["winograd_stem"]

    assert reason({}, {}) == ""
    assert "masked" in reason({}, {"mask": np.ones((16, 16), np.uint8)})
    assert "gaps" in reason({"pool.dilation_h": 2}, {})
    assert "kernel" in reason({}, {"weight": np.ones((16, 3, 3, 3), np.float32)})
