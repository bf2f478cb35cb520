"""From a `Report` to one HTML file without a single external reference."""

from __future__ import annotations

import base64
import gzip
import os
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from activsparse.bench.machine import summary_line
from activsparse.files import atomic_path
from activsparse.masks.mean import SAVED_IS, SPARSITY_IS
from activsparse.report import pictures
from activsparse.report.content import Report
from activsparse.report.figures import PALETTE, figures_of

__all__ = ["render", "template", "write"]


def template(name: str) -> Template:
    """A template of this folder."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render(report: Report) -> str:
    """The report as HTML text."""
    return template("report.html.j2").render(
        report=report,
        sparsity_is=SPARSITY_IS,
        saved_is=SAVED_IS,
        palette=PALETTE,
        pictures=pictures,
        figures=figures_of(report),
        plotly=_plotly(),
        machine_line=summary_line(report.comparison.machine),
        ratios={ratio["model"]: ratio for ratio in report.comparison.ratios},
    )


@cache
def _plotly() -> str:
    """Plotly's JavaScript, compressed, in base64: 2 MB in place of 5."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def write(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report to `path`.

    Raises:
        ActivsparseError: the file cannot be written.
    """
    with atomic_path(path) as file:
        file.write_text(render(report), encoding="utf-8")
