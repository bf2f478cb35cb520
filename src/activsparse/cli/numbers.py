"""Numbers and sizes as options: one line says what is wrong with the text."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

__all__ = [
    "image_size",
    "named_shape",
    "natural",
    "number",
    "positive",
    "repeats",
    "threads",
    "whole",
    "word",
]

_MOST = 2**31 - 1


def whole(least: int, most: int = _MOST) -> Callable[[str], int]:
    """Return a parser of integers in a range."""

    def parse(text: str) -> int:
        # int() takes no more than some thousand digits.
        if re.fullmatch(r"[0-9]{1,20}", text) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is not a whole number from {least} to {most}"
        )

    return parse


def number(least: float, most: float, kind: str) -> Callable[[str], float]:
    """Return a parser of numbers above `least` and below `most`, and of `least` itself if 0.

    Args:
        least: lower bound.
        most: upper bound.
        kind: what it is, for the message.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if least < value < most or value == least == 0:
            return value
        raise argparse.ArgumentTypeError(f"{_short(text)} is no {kind}")

    return parse


positive = whole(1)
natural = whole(0)
repeats = whole(1, 1_000_000)


def threads(text: str) -> int:
    """Parse a number of threads."""
    from activsparse.engine.options import MOST_THREADS

    return whole(1, MOST_THREADS)(text)


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH."""
    sizes = _sizes(text)
    if len(sizes) != 2:
        side = sizes[0] if sizes else 32
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is no size; write HEIGHTxWIDTH, such as {side}x{side}"
        )
    return sizes[0], sizes[1]


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse NAME=1x3x224x224."""
    name, equals, shape = text.rpartition("=")
    sizes = _sizes(shape)
    if not (equals and name and sizes):
        raise argparse.ArgumentTypeError(
            f"{_short(text)} is no input with its shape; write NAME=1x3x224x224"
        )
    return name, sizes


def sparsity_of_glob(text: str) -> tuple[str, float]:
    """Parse GLOB=SPARSITY."""
    glob, equals, value = text.rpartition("=")
    if not (glob and equals):
        raise argparse.ArgumentTypeError(
            f"{_short(text)}: write GLOB=SPARSITY, such as layer1*=0.5"
        )
    return glob, number(0, 1, "sparsity in [0, 1)")(value)


def word(text: str) -> str:
    """Parse a name: anything but nothing."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a name or leave the option out")
    return text


def _sizes(text: str) -> tuple[int, ...]:
    """The sizes in 1x3x224x224; none where one of them is no size."""
    parts = text.split("x")
    if all(re.fullmatch(r"[0-9]{1,10}", part) and 1 <= int(part) <= _MOST for part in parts):
        return tuple(map(int, parts))
    return ()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
