"""Folders as YOLO's trainers read them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import trees

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.detect.sample import Sample
from activsparse.detect.yolo import labels_of, yolo_parts

NAMES = ("cat", "dog", "bird")


def samples(seed: int, count: int = 12) -> list[Sample]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        height, width = (int(x) for x in rng.integers(20, 90, 2))
        corners = rng.random((number % 4, 2, 2))
        low, high = corners.min(1), corners.max(1)
        boxes = np.concatenate([low, high], 1) * [width, height, width, height]
        image = torch.from_numpy(rng.integers(0, 255, (3, height, width), dtype=np.uint8))
        labels = torch.from_numpy(rng.integers(0, len(NAMES), len(boxes)))
        made.append(Sample(image, torch.from_numpy(boxes).float().reshape(-1, 4), labels))
    return made


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("described", [True, False])
def test_boxes_are_those_that_were_written(tmp_path, seed, described):
    written = samples(seed)
    trees.write_yolo(tmp_path, written, NAMES)
    if not described:
        (tmp_path / "data.yaml").unlink()
    train, test, names = yolo_parts(tmp_path)
    assert names == (list(NAMES) if described else ["0", "1", "2"])
    assert len(train) == len(test) == len(written)
    # In the order of file names: 0, 1, 10, 11, 2 ...
    for at, sample in enumerate(sorted(range(len(written)), key=lambda n: f"{n}.jpg")):
        for part in (train, test):
            torch.testing.assert_close(part[at].boxes, written[sample].boxes, rtol=0, atol=1e-3)
            assert torch.equal(part[at].labels, written[sample].labels), seed
            assert part[at].image.shape == written[sample].image.shape
    data = build_data("yolo", str(tmp_path), 64, 4, limit=6, validation=0.2)
    images, targets = next(iter(data.test_dataloader()))
    assert images.shape == (6, 3, 64, 64)
    assert targets[:, 0].max() < 6
    assert data.classes == tuple(names)


def test_other_ways_to_write_it(tmp_path):
    """Parts above kinds, names by number, polygons, a list of files."""
    (picture,) = samples(0, 1)
    trees.write_yolo(tmp_path / "a", [picture] * 2, NAMES)
    for part, called in (("train", "train"), ("val", "valid")):
        for kind in ("images", "labels"):
            (tmp_path / "b" / called).mkdir(parents=True, exist_ok=True)
            (tmp_path / "a" / kind / part).rename(tmp_path / "b" / called / kind)
    (tmp_path / "b" / "train" / "labels").mkdir(exist_ok=True)
    polygon = "2 0.1 0.2 0.5 0.1 0.3 0.9\n\n1 0.5 0.5 0.2 0.2\n"
    (tmp_path / "b" / "train" / "labels" / "0.txt").write_text(polygon)
    (tmp_path / "b" / "list.txt").write_text("train/images/0.jpg\n")
    (tmp_path / "b" / "data.yml").write_text(
        "train: list.txt\nval: ../valid/images\nnames: {0: a, 1: b, 2: c}\n"
    )
    train, test, names = yolo_parts(tmp_path / "b")
    assert (len(train), len(test), names) == (1, 2, ["a", "b", "c"])
    height, width = train[0].image.shape[1:]
    size = torch.tensor([width, height, width, height])
    shares = torch.tensor([[0.1, 0.1, 0.5, 0.9], [0.4, 0.4, 0.6, 0.6]])
    torch.testing.assert_close(train[0].boxes, shares * size)
    assert train[0].labels.tolist() == [2, 1]
    assert labels_of(tmp_path / "images" / "images" / "x.png") == (
        tmp_path / "images" / "labels" / "x.txt"
    )


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3 of 3"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("1.5 0.5 0.5 0.1 0.1", "invalid literal"),
        ("1 0.5 0.5 0.1", "3 numbers after the class"),
        ("1 50 50 10 10", "shares of the picture"),
        ("1 nan 0.5 0.1 0.1", "shares of the picture"),
        ("cat 0.5 0.5 0.1 0.1", "invalid literal"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path, line, cause):
    trees.write_yolo(tmp_path, samples(0, 2), NAMES)
    file = tmp_path / "labels" / "train" / "1.txt"
    file.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    train, _, _ = yolo_parts(tmp_path)
    with pytest.raises(ActivsparseError, match=r"1\.txt: line 2 is no object") as error:
        _ = train[1]
    assert cause in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        *("[1, 2]", "names: cat", "names: {1: a, 3: b}", "names: {0: a, b: c}", "names: []"),
        *("a: [b", "nc: 0", "nc: -1", "nc: 1000000000", "nc: two", "nc: true"),
    ],
)
def test_a_description_of_something_else_is_named(tmp_path, text):
    trees.write_yolo(tmp_path, samples(0, 2), NAMES)
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ActivsparseError, match=r"data\.yaml"):
        yolo_parts(tmp_path)


def test_pictures_taken_for_others_are_told_of(tmp_path, caplog):
    trees.write_yolo(tmp_path, samples(0, 2), NAMES)
    for file in tmp_path.glob("*.y*ml"):
        file.unlink()
    (tmp_path / "data.yaml").write_text("train: images/elsewhere\nval: images/val\nnc: 3\n")
    yolo_parts(tmp_path)
    (line,) = caplog.messages
    assert re.search(r"no pictures in images/elsewhere; those in \S+images/train are taken", line)


def test_pictures_without_any_labels_say_where_those_belong(tmp_path):
    trees.write_yolo(tmp_path, samples(0, 2), NAMES)
    (tmp_path / "labels").rename(tmp_path / "Labels")
    with pytest.raises(ActivsparseError, match=r"none of 2 training pictures has labels; .*labels"):
        yolo_parts(tmp_path)


def test_classes_beyond_reason_are_none(tmp_path):
    """Without a description the highest number says how many there are."""
    trees.write_yolo(tmp_path, samples(0, 2), NAMES)
    for file in tmp_path.glob("*.y*ml"):
        file.unlink()
    (tmp_path / "labels" / "train" / "1.txt").write_text("999999999 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ActivsparseError, match=r"1\.txt: line 1 is no object"):
        yolo_parts(tmp_path)


def test_a_folder_without_pictures_says_where_they_belong(tmp_path):
    (tmp_path / "labels").mkdir()
    with pytest.raises(ActivsparseError, match="put them into images/train"):
        yolo_parts(tmp_path)
