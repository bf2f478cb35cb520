"""Nearest-neighbour resizing at any scale, by all of ONNX's coordinate and rounding rules."""

from __future__ import annotations

import math
from fractions import Fraction

import graphs
import numpy as np
import oracle
import pytest

TRANSFORMS = (
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_resize(tmp_path, transform, rounding):
    rng = np.random.default_rng(len(transform) * 10 + len(rounding))
    for trial in range(6):
        b = graphs.Builder(trial, opset=19)
        h, w = rng.integers(1, 11, 2).tolist()
        x = b.input(1, 2, h, w)
        attributes = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
        scales = rng.choice([0.5, 0.37, 0.75, 1.0, 1.5, 2.0, 2.05, 3.0], 2).tolist()
        scales = [max(scale, 1.01 / size) for scale, size in zip(scales, (h, w), strict=True)]
        if trial % 2:
            y = b.node("Resize", x, "", b.constant(np.float32([1, 1, *scales])), **attributes)
        else:
            sizes = rng.integers(1, 21, 2)
            y = b.node("Resize", x, "", "", b.constant(np.array([1, 2, *sizes])), **attributes)
        path = b.save(tmp_path / f"{trial}.onnx", y)
        oracle.check(path, context=(transform, rounding, (h, w), scales))


@pytest.mark.parametrize("rounding", ROUNDINGS[:2])
@pytest.mark.parametrize("transform", ["asymmetric", "half_pixel"])
@pytest.mark.parametrize("sizes", [(14, 19), (26, 53), (7, 4), (7, 38), (18, 39), (20, 6)])
def test_half_way_between_two_pixels_but_for_rounding(tmp_path, transform, rounding, sizes):
    before, after = sizes
    b = graphs.Builder(opset=19)
    x = b.input(1, 1, before, 1)
    attributes = {"coordinate_transformation_mode": transform, "nearest_mode": rounding}
    y = b.node("Resize", x, "", "", b.constant(np.array([1, 1, after, 1])), **attributes)
    # By the sizes as fractions, which are not rounded.
    half = Fraction(1, 2) if transform == "half_pixel" else 0
    places = [Fraction(before, after) * (i + half) - half for i in range(after)]
    up = rounding.endswith("ceil")
    near = [math.floor(p + Fraction(1, 2)) if up else math.ceil(p - Fraction(1, 2)) for p in places]
    value = np.arange(before, dtype=np.float32).reshape(1, 1, before, 1)
    want = value[:, :, np.clip(near, 0, before - 1)]
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, {x: value}, want=[want], context=(transform, rounding, sizes))


@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0, 2.05, 2.95, 3.0])
def test_before_coordinates_were_options(tmp_path, opset, scale):
    b = graphs.Builder(opset=opset)
    x = b.input(1, 2, 4, 10)
    scales = np.float32([1, 1, 1, scale])
    if opset == 7:
        scales = np.maximum(scales, 1)
        y = b.node("Upsample", x, scales=scales.tolist())
    else:
        if opset == 9:
            scales = np.maximum(scales, 1)
        y = b.node("Upsample" if opset == 9 else "Resize", x, b.constant(scales))
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(opset, scale))


@pytest.mark.parametrize("size", [3, 7, 10, 20, 40, 41])
@pytest.mark.parametrize("scale", [1.05, 1.1, 1.7, 2.05, 2.3])
def test_sizes_are_rounded_as_onnx_runtime_does(tmp_path, scale, size):
    b = graphs.Builder(opset=14)
    x = b.input(1, 1, size, 20)
    y = b.node("Resize", x, "", b.constant(np.float32([1, 1, scale, scale])))
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(scale, size))


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_some_axes_and_kept_aspect_ratios(tmp_path, policy):
    b = graphs.Builder(opset=18)
    x = b.input(1, 2, 5, 9)
    sizes = b.constant(np.array([8, 11]))
    attributes = {"axes": [2, 3], "keep_aspect_ratio_policy": policy}
    y = b.node("Resize", x, "", "", sizes, nearest_mode="floor", **attributes)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=policy)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_linear(tmp_path, transform):
    """Any ratio of the image plane, by scales and by sizes."""
    rng = np.random.default_rng(len(transform))
    for trial in range(10):
        b = graphs.Builder(trial, opset=[11, 13, 18, 19][trial % 4])
        channels, h, w = (int(n) for n in rng.integers(1, 20, 3))
        x = b.input(1, channels, h, w)
        attributes = {"coordinate_transformation_mode": transform, "mode": "linear"}
        if transform == "half_pixel_symmetric":
            b = graphs.Builder(trial, opset=19)
            x = b.input(1, channels, h, w)
        scales = rng.choice([0.5, 0.37, 0.75, 1.0, 1.5, 2.0, 2.05, 4.0], 2).tolist()
        scales = [max(scale, 1.01 / size) for scale, size in zip(scales, (h, w), strict=True)]
        empty = b.constant(np.zeros(0, np.float32))
        if trial % 2:
            y = b.node("Resize", x, empty, b.constant(np.float32([1, 1, *scales])), **attributes)
        else:
            sizes = rng.integers(1, 31, 2)
            want = b.constant(np.array([1, channels, *sizes]))
            y = b.node("Resize", x, empty, empty, want, **attributes)
        path = b.save(tmp_path / f"{trial}.onnx", b.node("Relu", y) if trial % 3 else y)
        oracle.check(path, context=(transform, trial, (channels, h, w), scales))


@pytest.mark.parametrize("operator", ["Upsample", "Resize"])
def test_linear_of_old_files(tmp_path, operator):
    b = graphs.Builder(opset=9 if operator == "Upsample" else 10)
    x = b.input(2, 5, 6, 9)
    y = b.node(operator, x, b.constant(np.float32([1, 1, 2, 1.7])), mode="linear")
    oracle.check(b.save(tmp_path / "m.onnx", y), context=operator)


@pytest.mark.parametrize("align", [False, True])
def test_linear_as_torch_interpolates(tmp_path, align):
    """Against torch itself, also of values that are not finite."""
    torch = pytest.importorskip("torch")
    from activsparse import Session

    rng = np.random.default_rng(7 + align)
    value = rng.standard_normal((1, 6, 7, 5)).astype(np.float32)
    value[0, 1, 3, 2], value[0, 2, 6, 4], value[0, 3, 0, 0] = np.nan, np.inf, -np.inf
    b = graphs.Builder(opset=18)
    x = b.input(*value.shape)
    sizes = b.constant(np.array([1, 6, 23, 16]))
    transform = "align_corners" if align else "pytorch_half_pixel"
    y = b.node("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode=transform)
    got = Session(b.save(tmp_path / "m.onnx", y), tune=False).run(value)
    want = torch.nn.functional.interpolate(
        torch.from_numpy(value), (23, 16), mode="bilinear", align_corners=align
    ).numpy()
    finite = np.isfinite(want)
    # Coordinates up to 23 are rounded, and what they are off counts as much as pixels differ.
    steepest = 2 * np.abs(value[np.isfinite(value)]).max()
    bound = np.finfo(np.float32).eps * 23 * steepest
    np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=bound)
    assert (np.isfinite(got) <= finite).all()


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased(tmp_path, mode):
    """Kernels as wide as what is left out, which torch and timm make input sizes fit with."""
    rng = np.random.default_rng(len(mode))
    for trial in range(16):
        b = graphs.Builder(trial, opset=18 + trial % 2)
        channels, h, w = (int(n) for n in rng.integers(1, 30, 3))
        x = b.input(1, channels, h, w)
        sizes = rng.integers(1, 40, 2)
        transform = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")[trial // 4]
        settings = {"coordinate_transformation_mode": transform, "mode": mode, "antialias": 1}
        settings |= {"exclude_outside": trial // 2 % 2, "cubic_coeff_a": (-0.75, -0.5)[trial % 2]}
        wanted = b.constant(np.array([1, channels, *sizes]))
        y = b.node("Resize", x, "", "", wanted, **settings)
        path = b.save(tmp_path / f"{trial}.onnx", y)
        oracle.check(path, context=(trial, (channels, h, w), sizes, settings))
