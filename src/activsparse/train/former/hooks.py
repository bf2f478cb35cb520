"""Now `activsparse.train.sparsify.hooks`."""

from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.train.sparsify.hooks import (
    HeldMask,
    Links,
    attach_mask,
    copy_masks,
    held_masks,
    hold_masks,
    read_mask,
    remove_masks,
    unwrapped,
)

__all__ = [
    "MASK",
    "SOURCE",
    "STATE",
    "HeldMask",
    "Links",
    "attach_mask",
    "copy_masks",
    "held_masks",
    "hold_masks",
    "read_mask",
    "remove_masks",
    "unwrapped",
]
