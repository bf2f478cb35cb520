"""Checks of single values that users give as arguments, for both halves."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NoReturn

from activsparse.errors import ActivsparseError, Option

__all__ = ["LARGEST", "check_count", "check_number", "refuse"]

LARGEST = 2**63 - 1
"""The largest whole number of 64 bits: that of a size in ONNX, of a seed in torch."""


def check_count(option: str, value: object, most: int = LARGEST, least: int = 1) -> None:
    """Check an option that is a whole number of at least `least`.

    Raises:
        ActivsparseError: it is none, smaller, or larger than `most`.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not least <= int(value) <= most:  # type: ignore[call-overload]
        known = most < LARGEST or (whole and int(value) > most)  # type: ignore[call-overload]
        at_most = f" and at most {most}" if known else ""
        refuse(option, value, f"must be a whole number, at least {least}{at_most}")


def check_number(option: str, value: object, example: float) -> None:
    """Check an option that is a finite number; `example` is one that does.

    Raises:
        ActivsparseError: it is none.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        refuse(option, value, f"is no number; choose for example {example:g}")


def refuse(option: str, value: Any, remedy: str) -> NoReturn:
    """Say what is wrong with the value of an option, and what to do."""
    raise ActivsparseError(Option(option, value), f": {remedy}")
