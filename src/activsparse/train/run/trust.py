"""What a run folder of a stranger's may not do: name code that is called, or files that are run.

A recipe given on the command line is its user's own word. The `config.yaml` of a run folder came
with the folder; see docs/security.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from activsparse.errors import ActivsparseError, Option
from activsparse.models.pruned import PRUNED
from activsparse.train.recipes.config import Config

__all__ = ["check_trust"]

_LOADING = ("pretrained", "checkpoint", "weights", "cache_dir")
"""Beginnings of constructors' options that download weights or unpickle a file."""


def check_trust(config: Config, where: str, trust: bool | Config) -> None:
    """Refuse a foreign recipe that calls for code from outside this package and its libraries.

    Args:
        config: read from a run folder.
        where: the file, for the error.
        trust: whether its author is trusted, or a recipe that is, whose own calls are allowed.

    Raises:
        ActivsparseError: there is such a call.
    """
    if trust is True:
        return
    allowed = set(_calls(trust)) if isinstance(trust, Config) else set()
    for key, call in _calls(config):
        if (key, call) not in allowed:
            raise ActivsparseError(
                f"{where}: {key} calls {call}, code or files that a run folder may not call by "
                "itself; if you trust whoever made it, allow that with ",
                Option("trust", True),
            )


def _calls(config: Config) -> Iterator[tuple[str, str]]:
    teacher = None if config.distillation is None else config.distillation.model
    for section in (config.model, teacher):
        if section is not None:
            yield from _of_network(section.name, section.options)


def _of_network(name: Any, options: Any) -> Iterator[tuple[str, str]]:
    options = options if isinstance(options, Mapping) else {"options": options}
    if name == PRUNED:
        yield from _of_network(options.get("base"), options.get("options") or {})
    elif not isinstance(name, str) or (":" in name and not name.startswith("timm:")):
        yield "model.name", f"{name} with {json.dumps(options, sort_keys=True, default=str)}"
    else:
        for key, value in options.items():
            if str(key).startswith(_LOADING) and value not in (None, False):
                yield f"model.options.{key}", str(value)
