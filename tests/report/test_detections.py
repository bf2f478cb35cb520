"""Detections side by side, in one file."""

from __future__ import annotations

import base64
import io
import re

import torch
from PIL import Image

from activsparse.detect.boxes import Detections, found_alike
from activsparse.report.detections import Pair, write_detections


def found(*boxes: tuple[float, ...], labels: list[int]) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.ones(count), torch.tensor(labels).long()
    )


def test_objects_are_alike_by_class_and_place_once():
    one = found((0, 0, 10, 10), (1, 0, 11, 10), (50, 50, 60, 60), labels=[1, 1, 2])
    other = found((0, 1, 10, 11), (50, 50, 60, 60), labels=[1, 3])
    assert found_alike(one, other) == 1
    assert found_alike(one, one) == 3
    assert found_alike(one, found(labels=[])) == 0
    assert found_alike(found(labels=[]), one) == 0


def test_the_report_holds_its_pictures_and_escapes_names(tmp_path):
    dense, sparse = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    pairs = [Pair("a<b>.png", dense, sparse, (3, 2, 1))]
    write_detections(pairs, ("dense.onnx", "sparse.onnx"), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "a&lt;b&gt;.png" in text
    assert "a<b>" not in text
    assert not re.findall(r"(?:src|href)=.(?!data:)", text)
    shown = re.findall(r"data:image/png;base64,([^\"]+)", text)
    pictures = [Image.open(io.BytesIO(base64.b64decode(code))) for code in shown]
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(255, 0, 0), (0, 0, 255)]
