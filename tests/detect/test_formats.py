"""Small trees in the real formats."""

from __future__ import annotations

import json

import pytest
import torch
import trees
from PIL import Image

from activsparse import ActivsparseError
from activsparse.detect.formats import VOC_CLASSES, Coco, Voc
from activsparse.detect.registry import build_detection_data
from activsparse.detect.scenes import Scenes

VOC = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>
</annotation>"""


def voc_tree(root):
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    Image.new("L", (40, 30), 9).save(base / "JPEGImages" / "a.jpg")
    (base / "Annotations" / "a.xml").write_text(VOC)
    for part in ("train", "val"):
        (base / "ImageSets" / "Main" / f"{part}.txt").write_text("a\n")
    return base


def test_voc(tmp_path):
    voc_tree(tmp_path)
    data = Voc(str(tmp_path))
    sample = data[0]
    assert len(data) == 1
    assert sample.image.shape == (3, 30, 40)
    # The files count pixels from 1 and mean the last one too.
    assert sample.boxes.tolist() == [[0, 4, 20, 30]]
    assert sample.labels.tolist() == [VOC_CLASSES.index("dog")]
    with pytest.raises(ActivsparseError, match="VOCdevkit"):
        Voc(str(tmp_path / "nowhere"))


def test_voc_without_objects_and_with_damage(tmp_path):
    base = voc_tree(tmp_path)
    data, file = Voc(str(tmp_path)), base / "Annotations" / "a.xml"
    file.write_text("<annotation><filename>a.jpg</filename></annotation>")
    assert data[0].boxes.shape == (0, 4)
    assert data[0].labels.dtype == torch.int64
    for text, cause in [
        (VOC[:100], "no element found|unclosed"),
    ]:
        file.write_text(text)
        with pytest.raises(ActivsparseError, match=rf"a\.xml.*({cause})"):
            data[0]
    file.write_text(VOC)
    (base / "JPEGImages" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(ActivsparseError, match=r"a\.jpg"):
        data[0]


def test_the_year_may_be_a_number(tmp_path):
    (voc_tree(tmp_path) / "ImageSets" / "Main" / "train.txt").write_text("a\na\na\n")
    options = {"augment": True, "validation": 0.3, "workers": 0, "seed": 0, "year": 2012}
    data = build_detection_data("voc", str(tmp_path), (64, 64), 1, **options)
    assert data.num_classes == 20


def test_coco(tmp_path, capsys):
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
    assert capsys.readouterr().out == ""
    with pytest.raises(ActivsparseError, match="no such file"):
        Coco(str(tmp_path), str(tmp_path / "missing.json"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(ActivsparseError, match=r"a\.png"):
        data[0]


@pytest.mark.parametrize(
    ("text", "cause"),
    [("{", "cannot be read"), ("[]", "cannot be read"), ('{"images": []}', "no categories")],
)
def test_coco_annotations_of_another_kind(tmp_path, text, cause):
    pytest.importorskip("pycocotools")
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(ActivsparseError, match=rf"instances\.json.*{cause}"):
        Coco(str(tmp_path), str(tmp_path / "instances.json"))


def coco(folder, objects, pictures=({"id": 7, "file_name": "a.png"},), ids=(1, 2)):
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    content = {
        "images": list(pictures),
        "annotations": [{"area": 1, "iscrowd": 0, **o} for o in objects],
        "categories": [{"id": id, "name": f"kind {id}"} for id in ids],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return Coco(str(folder), str(folder / "instances.json"))


def test_objects_of_coco_need_no_numbers_of_their_own(tmp_path):
    """Some programs write one for all; by number each object would be the last one."""
    pytest.importorskip("pycocotools")
    boxes = [[3, 4, 10, 5], [-3, 20, 12, 14], [39, 0, 0, 4]]
    kinds = [2, 1, 1]
    data = coco(
        tmp_path,
        [
            {"id": 0, "image_id": 7, "category_id": kind, "bbox": box}
            for kind, box in zip(kinds, boxes, strict=True)
        ],
    )
    # Cut at the borders of 40x30; without an area there is no object.
    assert data[0].boxes.tolist() == [[3, 4, 13, 9], [0, 20, 9, 30]]
    assert data[0].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"category_id": 5}, "category 5 is none of the file's"),
        ({"bbox": [3, 4, float("nan"), 5]}, "has no extent"),
        ({"bbox": [3, 4, -10, 5]}, "the box from 3, 4 to -7, 9 has no extent"),
        ({"bbox": [300, 4, 10, 5]}, "lies outside the picture, 40x30"),
        ({"bbox": [3, 4, 10]}, "a bbox is of 4 numbers"),
        ({"bbox": "3 4 10 5"}, "convert"),
        ({"bbox": None}, "NoneType"),
    ],
)
def test_objects_of_coco_that_are_none(tmp_path, change, cause):
    pytest.importorskip("pycocotools")
    good = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [3, 4, 10, 5]}
    data = coco(tmp_path, [{**good, **change}])
    with pytest.raises(ActivsparseError, match=rf"a\.png: cannot be read.*{cause}"):
        data[0]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"pictures": [{"id": 7, "file_name": "a.png"}] * 2}, "images: id 7 is there twice"),
        ({"ids": (1, 1)}, "categories: id 1 is there twice"),
        ({"ids": (1, "x")}, "categories: an id is no whole number"),
        ({"pictures": [{"id": "7", "file_name": "a.png"}]}, "no object's image_id is a picture's"),
    ],
)
def test_numbers_of_coco_that_mean_nothing(tmp_path, change, cause):
    pytest.importorskip("pycocotools")
    objects = [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [3, 4, 10, 5]}]
    with pytest.raises(ActivsparseError, match=rf"instances\.json: {cause}"):
        coco(tmp_path, objects, **change)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("dog", "unicorn", "'unicorn' is none of Pascal VOC's 20 classes"),
        ("<xmax>20", "<xmax>nan", "has no extent"),
        ("<ymax>30", "<ymax>2", "has no extent"),
        ("<xmax>20", "<xmax>2000", "lies outside the picture, 40x30"),
        ("<xmin>1<", "<xmin>left<", "could not convert"),
        ("bndbox", "box", "no 'bndbox'"),
    ],
)
def test_objects_of_voc_that_are_none(tmp_path, old, new, cause):
    base = voc_tree(tmp_path)
    (base / "Annotations" / "a.xml").write_text(VOC.replace(old, new))
    with pytest.raises(ActivsparseError, match=rf"a\.xml: cannot be read.*{cause}"):
        Voc(str(tmp_path))[0]


def test_coco_parts_must_have_the_same_categories(tmp_path):
    pytest.importorskip("pycocotools")
    (tmp_path / "annotations").mkdir()
    for part, name in (("train", "dog"), ("val", "cat")):
        content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": name}]}
        file = tmp_path / "annotations" / f"instances_{part}2017.json"
        file.write_text(json.dumps(content))
    options = {"augment": True, "validation": 0.1, "workers": 0, "seed": 0}
    with pytest.raises(ActivsparseError, match="same list"):
        build_detection_data("coco", str(tmp_path), (64, 64), 1, **options)


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_whole_trees_give_back_pictures_and_boxes(name, tmp_path):
    if name == "coco":
        pytest.importorskip("pycocotools")
    scenes = Scenes(4, source="digits")
    trees.WRITERS[name](tmp_path, scenes)
    options = {"augment": True, "validation": 0.25, "workers": 0, "seed": 0}
    data = build_detection_data(name, str(tmp_path), (64, 64), 1, **options)
    assert len(data.pictures) == 3
    test = Voc(str(tmp_path), "val") if name == "voc" else Coco(*coco_part(tmp_path, "val2017"))
    for index in range(4):
        sample, wanted = test[index], scenes[index]
        assert sample.image.shape == wanted.image.shape
        # JPEG changes pixels a little.
        assert (sample.image.float() - wanted.image.float()).abs().mean() < 8
        torch.testing.assert_close(sample.boxes, wanted.boxes)
        assert torch.equal(sample.labels, wanted.labels)


def coco_part(root, name):
    return str(root / name), str(root / "annotations" / f"instances_{name}.json")
