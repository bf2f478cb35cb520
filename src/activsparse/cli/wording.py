"""How the command line spells the options and functions that errors name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from activsparse.errors import Call, Named, Option, Setting

__all__ = ["spell", "speller"]

# Arguments whose options say the opposite.
_OPPOSITE = {
    "skip_stem": "--include-stem",
    "skip_shortcuts": "--include-shortcuts",
    "skip_head": "--include-head",
}

# Arguments whose options are not called after them.
_OPTIONS = {"overrides": "--set", "input_shapes": "--input-shape"}

# Arguments that no command has: it makes them itself.
_MADE = {"example_input": "the example input"}

_COMMANDS = {
    "activsparse.train.trainer.resume": "activsparse train --resume",
    "activsparse.engine.calibrate.calibrate": "activsparse calibrate",
}


# Options that are of no help at some commands: those, and one where they are.
_ELSEWHERE = {
    "fallback": (("mask", "compile", "convert"), "activsparse run"),
    "check_export": (("sparsify",), "activsparse train"),
}

# Keys of recipes that are options of a command.
_OF_SPARSIFY = {
    "model.name": "MODEL",
    "model.weights": "--weights",
    "data.name": "--data",
    "data.root": "--data",
    "data.image_size": "--input-size",
    "data.batch_size": "--batch-size",
    "training.epochs": "--epochs",
    "dense.epochs": "--dense-epochs",
    "search.target_speedup": "--target-speedup",
}
_OF_PLAN = {
    "model.name": "MODEL",
    "model.weights": "--weights",
    "data.name": "--data",
    "data.root": "--data-root",
    "data.image_size": "--image-size",
    "data.batch_size": "--batch-size",
}
_KEYS = {"sparsify": _OF_SPARSIFY, "plan": _OF_PLAN}


def speller(command: str | None) -> Callable[[Named], str]:
    """Return `spell` for the messages of a command, which may name options of another one."""

    def spell_there(named: Named) -> str:
        if isinstance(named, Option):
            commands, other = _ELSEWHERE.get(named.name, ((), ""))
            if command in commands:
                return f"{other} {spell(named)}"
        if command in _KEYS and isinstance(named, Setting):
            return _key(named, _KEYS[command])
        return spell(named)

    return spell_there


def _key(named: Setting, options: Mapping[str, str]) -> str:
    """A recipe's key as the option of a command that decides it; `plan` takes no others."""
    option = options.get(named.key)
    if option is None:
        return spell(named) if named.value is not ... else f"--set {named.key}=..."
    return option if named.value is ... else f"{option} {shlex.quote(str(named.value))}"


def spell(named: Named) -> str:
    """Return an option or a command as the user types it."""
    if isinstance(named, Call):
        words = [_COMMANDS.get(named.function, named.function)]
        return " ".join([*words, *(shlex.quote(os.fspath(a)) for a in named.arguments)])
    if isinstance(named, Setting):
        return str(named) if named.value is ... else f"--set {shlex.quote(str(named))}"
    if named.name in _OPPOSITE:
        return _OPPOSITE[named.name]
    if named.name in _MADE:
        return _MADE[named.name]
    option = _OPTIONS.get(named.name, "--" + named.name.replace("_", "-"))
    if isinstance(named.value, bool):
        return option if named.value else option.replace("--", "--no-", 1)
    value = _value(named)
    return f"{option} {value}" if value else option


def _value(option: Option) -> str:
    value: Any = option.value
    if value is ... or value is None:
        return ""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_size(shape)}" for name, shape in value.items())
    return _size(value) if isinstance(value, tuple) else shlex.quote(str(value))


def _size(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))
