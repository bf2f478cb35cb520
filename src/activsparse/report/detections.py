"""What a dense and a sparse detector find in the same pictures, side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from activsparse.files import atomic_path
from activsparse.report.html import template
from activsparse.report.pictures import data_address

__all__ = ["Pair", "write_detections"]


@dataclass(frozen=True)
class Pair:
    """One picture.

    Attributes:
        name: of the file.
        dense: with the dense network's boxes drawn.
        sparse: with the sparse one's.
        counts: objects found by the dense network, by the sparse one, and by both alike.
    """

    name: str
    dense: Image.Image
    sparse: Image.Image
    counts: tuple[int, int, int]


def write_detections(
    pairs: Sequence[Pair],
    models: tuple[str, str],
    path: str | os.PathLike[str],
    summary: str = "",
) -> None:
    """Write one HTML file without external references.

    Args:
        pairs: the pictures.
        models: names of the dense and the sparse model.
        path: of the file.
        summary: a sentence or two under the headline.

    Raises:
        ActivsparseError: the file cannot be written.
    """
    totals = [sum(pair.counts[i] for pair in pairs) for i in range(3)]
    text = template("detections.html.j2").render(
        pairs=pairs, models=models, totals=totals, address=data_address, summary=summary
    )
    with atomic_path(path) as file:
        file.write_text(text, encoding="utf-8")
