"""Finding objects in picture files with the engine, and drawing what was found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.v2.functional import pil_to_tensor

from activsparse.detect.boxes import Detections, detections
from activsparse.detect.sample import Sample, letterboxed
from activsparse.errors import ActivsparseError
from activsparse.files import require_file
from activsparse.pictures import open_picture

__all__ = ["colour_of", "draw", "find", "read_picture"]


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Return a picture in RGB.

    Raises:
        ActivsparseError: no such file, or not a picture.
    """
    return open_picture(require_file(path), problem="not a picture", remedy="give PNG or JPEG")


def find(session: Any, picture: Image.Image, score: float, overlap: float) -> Detections:
    """Run a detector on a picture.

    Args:
        session: an `activsparse.Session` of a model whose first output is one `split_output` knows.
        picture: of any size; it is fitted to the model's.
        score: least score of a detection.
        overlap: largest overlap of two detections of a class.

    Returns:
        Detections in pixels of the picture.

    Raises:
        ActivsparseError: the model's input is no single picture, or its output no boxes.
    """
    shape, result = session.inputs[0][1], session.outputs[0][1]
    if len(shape) != 4 or shape[:2] != (1, 3):
        raise ActivsparseError(f"the model takes {shape}, not one picture (1, 3, H, W)")
    if len(result) != 3 or min(result[1:]) < 5:
        raise ActivsparseError(
            f"the model's first output has shape {result}; detectors give (1, boxes, 5 + classes) "
            "or (1, 4 + classes, boxes)"
        )
    sample = Sample(pil_to_tensor(picture), torch.zeros(0, 4), torch.zeros(0).long())
    fitted, letterbox = letterboxed(sample, (shape[2], shape[3]))
    y = session.run((fitted.image[None].float() / 255).numpy())
    first = torch.from_numpy(y[0] if isinstance(y, list) else y)[0]
    found = detections(first, score, overlap)
    limit = torch.tensor([*picture.size, *picture.size]).float()
    boxes = torch.minimum(letterbox.back(found.boxes).clamp(min=0), limit)
    return Detections(boxes, found.scores, found.labels)


def draw(picture: Image.Image, found: Detections, names: Sequence[str]) -> Image.Image:
    """Return a copy with boxes, names and scores; classes beyond `names` show as numbers.

    Names stand above their boxes, where there is room, and grow with the picture.
    """
    picture = picture.copy()
    canvas = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / 300))
    canvas.font = ImageFont.load_default(max(10, round(max(picture.size) / 45)))
    rows = list(
        zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    )
    for (x1, y1, x2, y2), _, label in rows:
        corners = (x1, y1, max(x2, x1), max(y2, y1))
        canvas.rectangle(corners, outline=colour_of(label), width=width)
    for (x1, y1, _, _), score, label in reversed(rows):  # the surest last: no other hides it
        text = f"{name_of(label, names)} {score:.2f}"
        _, _, right, bottom = canvas.textbbox((0, 0), text)
        high = bottom + 2 * width
        x = max(min(x1, picture.width - 1 - right - 2 * width), 0)
        y = y1 - high if y1 >= high else y1
        canvas.rectangle((x, y, x + right + 2 * width, y + high), fill=colour_of(label))
        canvas.text((x + width, y + width), text, fill=(255, 255, 255))
    return picture


def name_of(label: int, names: Sequence[str]) -> str:
    """The class's name, or its number."""
    return names[label] if label < len(names) else str(label)


def colour_of(label: int) -> tuple[int, int, int]:
    """A colour of the class's own: hues a golden ratio apart, dark enough for white letters."""
    import colorsys

    rgb = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.85, 0.8)
    # To the eye green is several times as bright as blue (ITU-R BT.709).
    light = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]
    red, green, blue = (round(255 * value * min(1.0, 0.45 / light)) for value in rgb)
    return red, green, blue
