"""Pictures with boxes, written as Pascal VOC and COCO lay them out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from torchvision.io import write_jpeg

from activsparse.detect.formats import VOC_CLASSES
from activsparse.detect.sample import Sample

# As the data sets have them: sizes, poses, and the parts of a person, which have boxes too.
PICTURE = """<annotation>
	<folder>VOC2012</folder>
	<filename>{name}.jpg</filename>
	<source><database>The VOC2007 Database</database></source>
	<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
	<segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """	<object>
		<name>{name}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
		<part>
			<name>head</name>
			<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
		</part>
	</object>
"""


def write_voc(root: Path, samples: Sequence[Sample]) -> None:
    """`root`/VOCdevkit/VOC2012, all pictures in both parts."""
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    names = [f"2012_{i:06d}" for i in range(len(samples))]
    for name, sample in zip(names, [samples[i] for i in range(len(samples))], strict=True):
        write_jpeg(sample.image, str(base / "JPEGImages" / f"{name}.jpg"))
        objects = "".join(
            # Pixels count from 1 and the last is meant too.
            OBJECT.format(x1 + 1, y1 + 1, x2, y2, name=VOC_CLASSES[label])
            for (x1, y1, x2, y2), label in zip(
                sample.boxes.int().tolist(), sample.labels.tolist(), strict=True
            )
        )
        _, height, width = sample.image.shape
        text = PICTURE.format(name=name, width=width, height=height, objects=objects)
        (base / "Annotations" / f"{name}.xml").write_text(text)
    for part in ("train", "val", "trainval"):
        (base / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")


def write_coco(root: Path, samples: Sequence[Sample], year: int = 2017) -> None:
    """`root`/train2017, val2017 and annotations, all pictures in both; category ids have gaps."""
    (root / "annotations").mkdir()
    for part in ("train", "val"):
        images, annotations = [], []
        (root / f"{part}{year}").mkdir()
        for number in range(len(samples)):
            sample = samples[number]
            file = f"{number:012d}.jpg"
            write_jpeg(sample.image, str(root / f"{part}{year}" / file))
            _, height, width = sample.image.shape
            images.append({"id": 100 + number, "file_name": file, "width": width, "height": height})
            rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
            for (x1, y1, x2, y2), label in rows:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": 100 + number,
                        "category_id": 3 * label + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                        "iscrowd": 0,
                    }
                )
        categories = [
            {"id": 3 * i + 1, "name": f"digit {i}", "supercategory": "digit"} for i in range(10)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = root / "annotations" / f"instances_{part}{year}.json"
        file.write_text(json.dumps({"info": {}, "licenses": [], **content}))


def write_yolo(root: Path, samples: Sequence[Sample], names: Sequence[str]) -> None:
    """images/ and labels/ of train and val, all pictures in both, and data.yaml."""
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True)
        for number in range(len(samples)):
            sample = samples[number]
            write_jpeg(sample.image, str(root / "images" / part / f"{number}.jpg"), quality=95)
            _, height, width = sample.image.shape
            lines = [
                f"{label} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
                f"{(x2 - x1) / width} {(y2 - y1) / height}"
                for (x1, y1, x2, y2), label in zip(
                    sample.boxes.tolist(), sample.labels.tolist(), strict=True
                )
            ]
            if lines:  # a picture without objects has no file
                (root / "labels" / part / f"{number}.txt").write_text("\n".join(lines) + "\n")
    places = "path: /where/it/was/made\ntrain: images/train\nval: images/val\n"
    (root / "data.yaml").write_text(places + f"nc: {len(names)}\nnames: [{', '.join(names)}]\n")


WRITERS = {"voc": write_voc, "coco": write_coco}
