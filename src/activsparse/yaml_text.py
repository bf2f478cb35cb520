"""YAML as people write it, and nothing that only looks like it."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["parse_yaml"]

_DEEPEST = 32
_MOST_NODES = 100_000
_MOST_DIGITS = 40


def parse_yaml(text: str) -> Any:
    """The value a YAML text describes, as plain Python values.

    Raises:
        ValueError: not YAML, or nested, repeated (by references) or long beyond what a recipe or a
            mask plan can be; one line.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        # Before values are made: references to references can describe more than memory holds.
        _check_extent(node)
        return None if node is None else loader.construct_document(node)
    except _TooMuchError:
        raise
    except RecursionError:
        raise _TooMuchError(f"is nested deeper than {_DEEPEST} levels") from None
    except Exception as error:  # PyYAML raises whatever a wrong date or number happens to
        raise ValueError(f"is not YAML ({' '.join(str(error).split())[:500]})") from error


class _TooMuchError(ValueError):
    """YAML that nobody wrote."""


def _check_extent(node: yaml.Node | None) -> None:
    count = 0
    left = [] if node is None else [(node, 1)]
    while left:
        node, depth = left.pop()
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif node.tag.endswith((":int", ":float")) and len(node.value) > _MOST_DIGITS:
            raise _TooMuchError(f"holds a number of {len(node.value)} digits")
        count += len(inner)
        if depth > _DEEPEST:
            raise _TooMuchError(f"is nested deeper than {_DEEPEST} levels")
        if count > _MOST_NODES:
            raise _TooMuchError(f"holds more than {_MOST_NODES} values, references followed")
        left += [(part, depth + 1) for part in inner]
