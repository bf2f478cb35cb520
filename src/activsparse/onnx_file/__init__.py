"""ONNX files as they come from outside, read into one form that the rest may rely on.

Both halves of the project read models through this package, so both refuse the same files in the
same words. What it returns holds: names are text; attributes have the types of their operators;
nodes stand in execution order and each value is written once; there are no functions and no
sparse constants; sub-graphs are those of `If`, with `foreign` any; an open size is absent, never
negative; external data is in memory.
"""

from activsparse.onnx_file.accept import QuantisedError, check_accepted, quantised
from activsparse.onnx_file.check import STANDARD
from activsparse.onnx_file.read import check_constants, name_of, normal_form, read_model
from activsparse.onnx_file.tensor import array_of

__all__ = [
    "STANDARD",
    "QuantisedError",
    "array_of",
    "check_accepted",
    "check_constants",
    "name_of",
    "normal_form",
    "quantised",
    "read_model",
]
