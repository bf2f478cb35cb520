"""What a mask is: patterns of output positions a convolution computes. Depends on numpy only.

All maps are row-major (H, W). A mask is bool (OH, OW), True = computed ("kept"); its sparsity is
the share of False.
"""

from activsparse.masks.allocate import Layout, allocate, layouts
from activsparse.masks.arrays import FloatMap, IntArray, Mask
from activsparse.masks.fill import nearest_source
from activsparse.masks.lattice import lattice
from activsparse.masks.mean import Savings
from activsparse.masks.options import PATTERNS, MaskOptions
from activsparse.masks.pattern import auto_pattern, make_mask, sparsity_of
from activsparse.masks.phases import assign_phases
from activsparse.masks.propagate import propagate
from activsparse.masks.score import random_score
from activsparse.masks.select import select
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import tiles

__all__ = [
    "PATTERNS",
    "ConvShape",
    "FloatMap",
    "IntArray",
    "Layout",
    "Mask",
    "MaskOptions",
    "Savings",
    "allocate",
    "assign_phases",
    "auto_pattern",
    "lattice",
    "layouts",
    "make_mask",
    "nearest_source",
    "propagate",
    "random_score",
    "select",
    "sparsity_of",
    "tiles",
]
