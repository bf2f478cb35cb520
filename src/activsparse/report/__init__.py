"""One HTML file that shows what a sparse network costs in accuracy and gains in time."""

from activsparse.report.content import Layer, Report, Variant, layers_of
from activsparse.report.html import render, write

__all__ = ["Layer", "Report", "Variant", "layers_of", "render", "write"]
