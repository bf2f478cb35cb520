"""Small trees in the real formats."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from activsparse import ActivsparseError
from activsparse.detect.formats import VOC_CLASSES, Coco, Voc

VOC = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""


def test_voc(tmp_path):
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    Image.new("L", (40, 30), 9).save(base / "JPEGImages" / "a.jpg")
    (base / "Annotations" / "a.xml").write_text(VOC)
    (base / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    data = Voc(str(tmp_path))
    sample = data[0]
    assert len(data) == 1
    assert sample.image.shape == (3, 30, 40)
    # The files count pixels from 1 and mean the last one too.
    assert sample.boxes.tolist() == [[0, 4, 20, 30]]
    assert sample.labels.tolist() == [VOC_CLASSES.index("dog")]
    with pytest.raises(ActivsparseError, match="VOCdevkit"):
        Voc(str(tmp_path / "nowhere"))


def test_coco(tmp_path):
    pytest.importorskip("pycocotools")
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    objects = [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [3, 4, 10, 5], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "iscrowd": 1},
    ]
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 8, "file_name": "a.png", "width": 40, "height": 30},
        ],
        "annotations": [{**o, "area": 1} for o in objects],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    data = Coco(str(tmp_path), str(tmp_path / "instances.json"))
    assert len(data) == 2
    assert data.num_classes == 2
    assert data[0].boxes.tolist() == [[3, 4, 13, 9]]
    assert data[0].labels.tolist() == [1]
    assert data[1].boxes.shape == (0, 4)
    assert data[1].labels.dtype == torch.int64
    with pytest.raises(ActivsparseError, match="no such file"):
        Coco(str(tmp_path), str(tmp_path / "missing.json"))
