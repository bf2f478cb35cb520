"""One HTML file that shows what a sparse network costs in accuracy and gains in time."""

from activsparse.report.content import Difference, Layer, Loss, Report, Variant, layers_of, times_of
from activsparse.report.html import render, write

__all__ = [
    "Difference",
    "Layer",
    "Loss",
    "Report",
    "Variant",
    "layers_of",
    "render",
    "times_of",
    "write",
]
