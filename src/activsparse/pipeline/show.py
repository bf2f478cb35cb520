"""What is shown at the end: a report of one HTML file, and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, StrictUndefined, Template

from activsparse.bench.machine import summary_line
from activsparse.engine.session import Session
from activsparse.export.read import read_masks
from activsparse.pipeline.outcome import COLUMNS, LEGEND, Outcome
from activsparse.pipeline.work import Work
from activsparse.report import Report, Variant, layers_of, write
from activsparse.train.recipes.read import dump_config

__all__ = ["write_card", "write_report"]

_SAMPLES = 6


def write_report(work: Work, outcome: Outcome) -> None:
    """Write `report.html`."""
    dense, masked = (str(work.path(f"{name}.onnx")) for name in ("dense", "masked"))
    top1, summary = outcome.score.top1, outcome.summary
    report = Report(
        title=f"{work.options.model} on {work.options.data}",
        summary=f"{outcome.sentence} {outcome.caveat}".strip(),
        variants=[
            Variant("dense", dense, top1["dense"]),
            Variant(
                "masked",
                masked,
                top1["masked"],
                summary["requested"],
                layers_of(Session(masked, threads=work.options.threads).profile()),
                read_masks(masked),
            ),
        ],
        comparison=outcome.timing,
        images=_pictures(work),
        settings={
            "images": f"{len(outcome.score.labels)} {summary['tested_on']} images, "
            f"{_size(work)} pixels",
            "training": f"{summary['epochs']} epochs with masks, taught by the dense network",
            "timing": f"{work.options.effort.repeat} interleaved runs per network and engine, "
            f"batch 1, {work.options.threads} thread(s)",
        },
    )
    write(report, work.path("report.html"))


def write_card(work: Work, outcome: Outcome) -> None:
    """Write `README.md`, and `classes.txt` where the classes have names."""
    data = work.data
    classes: Sequence[str] = getattr(data, "classes", ())
    if classes:
        work.write("classes.txt", "\n".join(classes) + "\n")
    text = _template().render(
        options=work.options,
        outcome=outcome,
        columns=COLUMNS,
        legend=LEGEND,
        machine=summary_line(outcome.timing.machine),
        versions=outcome.timing.machine["versions"],
        shape=list(data.shape),
        values="grey values" if data.shape[0] == 1 else "RGB values",
        mean=[round(float(x), 4) for x in data.mean],
        std=[round(float(x), 4) for x in data.std],
        classes=len(classes),
        num_classes=data.num_classes,
        recipe=dump_config(work.config),
        command=work.command,
    )
    work.write("README.md", text)


def _template() -> Template:
    """Of the card; Markdown, in which nothing is escaped."""
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(Path(__file__).with_name("card.md.j2").read_text("utf-8"))


def _size(work: Work) -> str:
    return "x".join(map(str, work.data.shape[1:]))


def _pictures(work: Work) -> list[npt.NDArray[np.float32]]:
    """The first held-out images, (H, W) or (H, W, 3) in [0, 1]."""
    images: Any = next(iter(work.data.test_dataloader()))[0][:_SAMPLES].numpy()
    mean, std = (np.array(x)[None, :, None, None] for x in (work.data.mean, work.data.std))
    shown = np.clip(images * std + mean, 0, 1).astype(np.float32)
    return [image[0] if len(image) == 1 else np.moveaxis(image, 0, -1) for image in shown]
