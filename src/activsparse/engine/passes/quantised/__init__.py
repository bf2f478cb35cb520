"""Quantised networks: what runs on bytes, and what stays in float32 between them.

A quantised file says where values are rounded to eight bits: `QuantizeLinear` and
`DequantizeLinear` around float operators (QDQ), or operators of their own (QOperator), which are
spelled out as the former first. `match_quantised` makes operators on bytes of an operator between
its inputs' `DequantizeLinear` and its result's `QuantizeLinear`; what it does not know runs in
float32 between `dequantise` and `quantise`; `drop_pairs` takes out pairs between the two that round
nothing. `fuse_quantised` joins them as the float passes do:
masks, fills and residuals into convolutions.

In the engine every quantised value is uint8: int8 values are 128 more, and so are their zero
points, which changes no number.
"""

from activsparse.engine.passes.quantised.drop_pairs import drop_pairs
from activsparse.engine.passes.quantised.fuse import fuse_quantised
from activsparse.engine.passes.quantised.match import match_quantised
from activsparse.engine.passes.quantised.qoperator import expand_qoperators
from activsparse.engine.passes.quantised.settle import settle_quantised

__all__ = [
    "drop_pairs",
    "expand_qoperators",
    "fuse_quantised",
    "match_quantised",
    "settle_quantised",
]
