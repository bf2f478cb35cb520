"""What is shown at the end: a report of one HTML file, and a model card."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from activsparse.bench.machine import summary_line
from activsparse.detect.data import DetectionData
from activsparse.export.read import read_masks
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.masks.mean import Savings
from activsparse.pipeline.detection_score import pairs_of
from activsparse.pipeline.outcome import LEGEND, Outcome
from activsparse.pipeline.photographs import classes_of, differences, first_pictures
from activsparse.pipeline.score import Score
from activsparse.pipeline.work import Work
from activsparse.report import Report, Variant, layers_of, times_of, write
from activsparse.report.detections import write_detections
from activsparse.train.recipes.read import dump_config

__all__ = ["write_card", "write_report"]


def write_report(work: Work, outcome: Outcome) -> None:
    """Write `report.html`."""
    summary, score = outcome.summary, outcome.score
    said = " ".join(
        filter(
            None,
            (
                outcome.sentence,
                outcome.int8_sentence,
                outcome.alternative_sentence,
                outcome.caveat,
            ),
        )
    )
    if not isinstance(score, Score):
        _write_detections(work, said)
        return
    classes = classes_of(work.data)
    report = Report(
        title=f"{work.options.model} on {work.options.data}",
        summary=said,
        variants=[_variant(work, outcome, score, name) for name in outcome.networks],
        comparison=outcome.timing,
        images=first_pictures(work.data),
        settings={
            "images": f"{score.images} {summary['tested_on']} images, {_size(work)} pixels",
            "training": f"{summary['epochs']} epochs with masks, taught by the dense network",
            "timing": f"{work.options.effort.repeat} interleaved runs per network and engine, "
            f"batch 1, {work.options.threads} thread(s)",
            **({"notes": "; ".join(outcome.timing.warnings)} if outcome.timing.warnings else {}),
        },
        labels=score.labels,
        classes=classes,
        differences=differences(
            work.data, classes, score.labels, score.said["dense"], {"masked": score.said["masked"]}
        ),
    )
    write(report, work.path("report.html"))


def _write_detections(work: Work, summary: str) -> None:
    dense, masked = (work.session(work.networks[name]) for name in ("dense", "masked"))
    data = work.data
    assert isinstance(data, DetectionData)
    pairs = pairs_of(dense, masked, data)
    write_detections(pairs, ("dense", "masked"), work.path("report.html"), summary)


def _variant(work: Work, outcome: Outcome, score: Score, name: str) -> Variant:
    path, masked = work.networks[name], name.startswith("masked")
    nodes = work.session(path).profile()
    return Variant(
        name,
        outcome.model_of(name),
        score.value(name),
        outcome.summary["requested"] if masked else None,
        layers_of(nodes) if masked else (),
        read_masks(path) if masked else {},
        times_of(nodes),
        score.said[name],
        read_mask_plan(work.path("plan.yaml")) if masked else None,
        outcome.savings if masked else Savings(),
    )


def write_card(work: Work, outcome: Outcome) -> None:
    """Write `README.md`, and `classes.txt` where the classes have names."""
    data = work.data
    classes = classes_of(data)
    if classes:
        work.write("classes.txt", "\n".join(classes) + "\n")
    text = _template().render(
        options=work.options,
        outcome=outcome,
        boxes=not isinstance(outcome.score, Score),
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
