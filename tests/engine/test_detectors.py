"""Whole detectors against ONNX Runtime: YOLOv5n, and a small graph of YOLOv8's kind."""

from __future__ import annotations

import warnings

import graphs
import numpy as np
import onnx
import pytest
import torch
import torchvision

from activsparse import Session, _native
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.export.mask import mask_model
from activsparse.models.yolov5 import YoloV5, yolov5n, yolov5s
from activsparse.train import Sparsifier


@pytest.fixture(scope="module")
def yolov5(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("detector") / "yolov5.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The older exporter takes a tenth of the time.
        torch.onnx.export(YoloV5(7).eval(), (torch.rand(1, 3, 64, 96),), path, dynamo=False)
    return path


@pytest.mark.parametrize("isa", _native.available_isas())
def test_yolov5_agrees_with_onnxruntime(yolov5, isa):
    session = Session(yolov5, isa=isa, threads=2)
    for row in compare_with_onnxruntime(yolov5, session):
        assert row.holds, row


def test_yolov5_moves_nothing_it_need_not(yolov5):
    kinds = [row.kind for row in Session(yolov5, tune=False).explain()]
    # Concatenations are written in place, and so are all results but the scores of each scale.
    assert not {"concat", "copy", "to_nchw", "activate"} & set(kinds)
    copies = [row for row in Session(yolov5, tune=False).explain() if "Concat" in row.name]
    assert len(copies) == 3


class DetectorGraph(graphs.Builder):
    """C2f blocks and a distribution head, as published with YOLOv8."""

    bins = 16
    masked = False

    def spatial(self, x: str, channels: int) -> str:
        y = self.conv(x, channels)
        return self.silu(self.mask(y) if self.masked else y)

    def silu(self, x: str) -> str:
        return self.node("Mul", x, self.node("Sigmoid", x))

    def c2f(self, x: str, channels: int, depth: int) -> str:
        n, _, h, w = self.shapes[x]
        whole = self.silu(self.conv(x, channels, (1, 1), pads=(0, 0, 0, 0)))
        half = channels // 2
        sizes = self.constant(np.array([half, half]))
        first = self.node("Split", whole, sizes, axis=1, shape=(n, half, h, w))
        second = f"{first}_b"
        self.nodes[-1].output.append(second)
        self.shapes[second] = (n, half, h, w)
        parts = [first, second]
        for _ in range(depth):
            inner = self.spatial(self.spatial(parts[-1], half), half)
            parts.append(self.node("Add", parts[-1], inner))
        joined = self.node("Concat", *parts, axis=1, shape=(n, (2 + depth) * half, h, w))
        return self.silu(self.conv(joined, channels, (1, 1), pads=(0, 0, 0, 0)))

    def reshape(self, x: str, *shape: int) -> str:
        return self.node("Reshape", x, self.constant(np.array(shape)), shape=shape)

    def head(self, maps: list[str], classes: int) -> str:
        flat, count, strides = [], 0, []
        for level, x in enumerate(maps):
            n, _, h, w = self.shapes[x]
            box = self.conv(x, 4 * self.bins, (1, 1), pads=(0, 0, 0, 0))
            scores = self.conv(x, classes, (1, 1), pads=(0, 0, 0, 0))
            channels = 4 * self.bins + classes
            both = self.node("Concat", box, scores, axis=1, shape=(n, channels, h, w))
            flat.append(self.reshape(both, n, channels, h * w))
            count += h * w
            strides += [8.0 * 2**level] * (h * w)
        every = self.node("Concat", *flat, axis=2, shape=(n, channels, count))
        sizes = self.constant(np.array([4 * self.bins, classes]))
        box = self.node("Split", every, sizes, axis=1, shape=(n, 4 * self.bins, count))
        scores = f"{box}_b"
        self.nodes[-1].output.append(scores)
        self.shapes[scores] = (n, classes, count)
        box = self.reshape(box, n, 4, self.bins, count)
        box = self.node("Transpose", box, perm=[0, 2, 1, 3], shape=(n, self.bins, 4, count))
        box = self.node("Softmax", box, axis=1)
        bins = self.constant(np.arange(self.bins, dtype=np.float32).reshape(1, -1, 1, 1))
        box = self.reshape(self.node("Conv", box, bins, shape=(n, 1, 4, count)), n, 4, count)
        near, far = (self.part(box, start) for start in (0, 2))
        cells = self.constant(self.normal(1, 2, count))
        near = self.node("Sub", cells, near, shape=(n, 2, count))
        far = self.node("Add", far, cells)
        centre = self.node("Div", self.node("Add", near, far), self.constant(np.float32(2)))
        size = self.node("Sub", far, near)
        boxes = self.node("Concat", centre, size, axis=1, shape=(n, 4, count))
        boxes = self.node("Mul", boxes, self.constant(np.array([strides], np.float32)))
        scores = self.node("Sigmoid", scores)
        return self.node("Concat", boxes, scores, axis=1, shape=(n, 4 + classes, count))

    def part(self, x: str, start: int) -> str:
        n, _, count = self.shapes[x]
        bounds = [self.constant(np.array([v])) for v in (start, start + 2, 1)]
        return self.node("Slice", x, *bounds, shape=(n, 2, count))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("classes", [16, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_distribution_head_agrees_with_onnxruntime(tmp_path, batch, classes, masked):
    build = DetectorGraph(batch)
    build.masked = masked
    x = build.input(batch, 3, 48, 32)
    first = build.silu(build.conv(x, 32, strides=(2, 2)))
    build.shapes[first] = (batch, 32, 24, 16)
    fine = build.c2f(first, 32, 2)
    second = build.conv(fine, 32, strides=(2, 2))
    build.shapes[second] = (batch, 32, 12, 8)
    coarse = build.c2f(build.silu(second), 64, 1)
    path = build.save(tmp_path / "v8.onnx", build.head([fine, coarse], classes))
    for isa in _native.available_isas():
        session = Session(path, isa=isa)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, (isa, row)
    rows = session.explain()
    assert not {"concat", "slice"} & {row.kind for row in rows}
    assert sum(bool(row.requested) for row in rows) == (6 if masked else 0)


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.0, 0.3])
@pytest.mark.parametrize("factory", [yolov5n, yolov5s])
def test_the_published_sizes_at_640_agree_with_onnxruntime(factory, sparsity, tmp_path):
    torch.manual_seed(0)
    model, x = factory().eval(), torch.rand(1, 3, 640, 640)
    if sparsity:
        Sparsifier(model, x, sparsity, pattern="lattice")
    path = tmp_path / "yolov5.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, dynamo=False)
    session = Session(path, tune=False)  # no fallback: whatever it did not know were an error
    assert session.outputs[0][1] == (1, 25200, 85)
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row


@pytest.mark.parametrize("seed", range(6))
def test_a_6x6_stem_becomes_a_3x3_convolution_on_squares_of_pixels(tmp_path, seed):
    build = graphs.Builder(seed)
    channels = 1 + seed % 4
    h, w = (2 * int(v) for v in build.rng.integers(3, 12, 2))
    x = build.input(1 + seed % 2, channels, h, w)
    y = build.conv(x, 16, (6, 6), (2, 2), (2, 2, 2, 2))
    build.shapes[y] = (1 + seed % 2, 16, h // 2, w // 2)
    y = build.mask(y) if seed % 2 else y
    path = build.save(tmp_path / "stem.onnx", build.node("Relu", y))
    for isa in _native.available_isas():
        for options in ({}, {"winograd": False}, {"algorithm": "reference"}):
            session = Session(path, isa=isa, **options)
            for row in compare_with_onnxruntime(path, session, seed):
                assert row.holds, (isa, options, row, session.explain())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
)
def test_torchvisions_detectors_run_with_a_fallback_for_their_choice_of_boxes(tmp_path, name):
    """Sizes computed in floating point, branches, and numbers of boxes that only a run knows."""
    torch.manual_seed(0)
    sizes = {"min_size": 128, "max_size": 128} if name.startswith("fasterrcnn") else {}
    build = getattr(torchvision.models.detection, name)
    model = build(weights=None, weights_backbone=None, **sizes).eval()
    path, x = tmp_path / "detector.onnx", torch.rand(1, 3, 128, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
    session = Session(path, fallback="onnxruntime", tune=False)
    rows = session.explain()
    assert sum(row.kind == "conv" for row in rows) > 40
    assert sum(row.algorithm == "onnxruntime" for row in rows) <= 3
    assert {v.type for v in session.get_outputs()} == {"tensor(float)", "tensor(int64)"}
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row

    masked, report = mask_model(onnx.load(path), sparsity=0.3, pattern="lattice")
    assert len(report.layers) > 30
    onnx.save(masked, tmp_path / "masked.onnx")
    session = Session(tmp_path / "masked.onnx", fallback="onnxruntime", tune=False)
    for row in compare_with_onnxruntime(tmp_path / "masked.onnx", session):
        assert row.holds, row
