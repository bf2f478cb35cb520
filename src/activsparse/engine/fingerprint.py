"""What tells a plan's model from another one: digests of its weights and masks."""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import numpy as np

from activsparse.engine.graph import Array

__all__ = ["fingerprint"]


def fingerprint(constants: Mapping[str, Array]) -> str:
    """Digest the constants of a model, those of float32 and int64; docs/plan-format.md, "Metadata".

    Returns:
        Per constant 8 hexadecimal digits for its name and 8 for what it holds.
    """
    return "".join(
        f"{crc32(name.encode()):08x}{_digest(array):08x}"
        for name, array in constants.items()
        if array.dtype in (np.float32, np.int64)
    )


def _digest(array: Array) -> int:
    content = crc32(np.ascontiguousarray(array).reshape(-1).data)
    return crc32(array.nbytes.to_bytes(8, "little"), content)
