"""The one exception type users see, and the rule for its text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = [
    "ActivsparseError",
    "Call",
    "Named",
    "Option",
    "Setting",
    "Words",
    "memory_suffices",
    "printable",
]

# What moves a terminal's cursor or cannot be encoded: control characters and lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")

# Names in a file may be as long as the file; of a longer message both ends are shown.
_LONGEST = 2000


@dataclass(frozen=True)
class Option:
    """An argument that a message names: each interface spells it in its own way.

    Attributes:
        name: of the argument in Python.
        value: what to give, or what was given; left out where only the name is meant.
    """

    name: str
    value: Any = ...

    def __str__(self) -> str:
        return self.name if self.value is ... else f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Setting:
    """A recipe's key and a value for it, left out where only the key is meant."""

    key: str
    value: Any = ...

    def __str__(self) -> str:
        return self.key if self.value is ... else f"{self.key}={self.value}"


@dataclass(frozen=True)
class Call:
    """A function that a message names, which is a sub-command elsewhere."""

    function: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(repr, self.arguments))})"


Named: TypeAlias = Option | Setting | Call
Words: TypeAlias = "str | Named | ActivsparseError"


class ActivsparseError(Exception):
    """Bad input or an unmet requirement.

    The message is one line that names the file, node or layer, the cause, and the remedy. It is
    made of parts: text, and the options, settings and calls it names, so that a Python caller reads
    `input_shapes={'x': (1, 3, 224, 224)}` where the command line, which prints it without a
    traceback and exits with status 2, says `--input-shape x=1x3x224x224`. Another error is a part
    too, where one adds to what it says.
    """

    def __init__(self, *parts: Words) -> None:
        super().__init__(*parts)

    def __str__(self) -> str:
        return self.worded(str)

    def worded(self, spell: Callable[[Named], str]) -> str:
        """Return the message with what it names as an interface spells it.

        It is one line without control characters, whatever the names in it hold.
        """
        text = "".join(_text(part, spell) for part in self.args)
        line = printable(_LINE_BREAKS.sub(" ", text.strip()))
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST // 2]} [...] {line[-_LONGEST // 2 :]}"
        return line


def _text(part: object, spell: Callable[[Named], str]) -> str:
    if isinstance(part, Named):
        return spell(part)
    return part.worded(spell) if isinstance(part, ActivsparseError) else str(part)


def printable(text: str) -> str:
    r"""Return a text with its control characters as escapes, such as \x1b; line breaks stay."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)


@contextmanager
def memory_suffices(what: str) -> Iterator[None]:
    """Turn an allocation that fails within the block into an error of one line.

    Args:
        what: needs the memory.

    Raises:
        ActivsparseError: the memory did not suffice.
    """
    try:
        yield
    except MemoryError as error:
        cause = f" ({error})" if str(error) else ""
        raise ActivsparseError(
            f"{what}: not enough memory{cause}; use smaller inputs, or free some"
        ) from error
