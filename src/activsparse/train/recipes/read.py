"""Finding and reading recipes: YAML files, shipped by name or given by path."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from activsparse.errors import ActivsparseError, Option
from activsparse.files import require_file
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.mask_plan_file import plan_values, read_mask_plan
from activsparse.names import suggest
from activsparse.train.recipes.config import Config, parse_config
from activsparse.yaml_text import parse_yaml

__all__ = ["differences", "dump_config", "load_config", "read_config", "recipe_names", "with_plan"]


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("activsparse.train.recipes")
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_config(recipe: str, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe by name or path, with `key.key=value` overrides; values are YAML.

    A recipe may build on another one: `extends: NAME or path`.

    Raises:
        ActivsparseError: no such recipe, not YAML, unknown keys, wrong values.
    """
    values = _read(recipe, seen=())
    for text in overrides:
        _override(values, text)
    values.setdefault("recipe", Path(recipe).stem)
    config = parse_config(values, recipe)
    plan = None if config.sparsity is None else config.sparsity.plan
    return with_plan(config, read_mask_plan(plan)) if isinstance(plan, str) else config


def with_plan(config: Config, plan: MaskPlan) -> Config:
    """The recipe with the content of a mask plan, so that its run needs no other file."""
    if config.sparsity is None:
        return config
    section = config.sparsity.but(plan=plan_values(plan), sparsity=round(plan.sparsity, 4))
    return config.model_copy(update={"sparsity": section})


def read_config(path: Path) -> Config:
    """Read the resolved configuration of a run (`config.yaml`)."""
    return parse_config(_parse(require_file(path).read_bytes(), str(path)), str(path))


def dump_config(config: Config) -> str:
    """The configuration as YAML that `read_config` takes."""
    values = config.model_dump(mode="json")
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


_MACHINE = ("recipe", "device", "threads", "tensorboard", "data.root", "data.workers")
"""Keys that do not change how a run goes on."""


def differences(recorded: Config, config: Config) -> list[str]:
    """The keys in which `config` would train otherwise than a recorded one.

    Returns:
        Texts such as `training.lr is 0.1 there, 0.2 here`.
    """
    there, here = (_flat(c.model_dump(mode="json")) for c in (recorded, config))
    return [
        f"{key} is {there.get(key)} there, {here.get(key)} here"
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key) and key not in _MACHINE
        if key != "init_from" or not _same_place(there[key], here[key])
    ]


def _same_place(one: str | None, other: str | None) -> bool:
    return None not in (one, other) and Path(str(one)).resolve() == Path(str(other)).resolve()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _read(recipe: str, seen: tuple[str, ...]) -> dict[str, Any]:
    if recipe in seen:
        raise ActivsparseError(f"{recipe}: extends itself ({' -> '.join((*seen, recipe))})")
    if recipe.endswith((".yaml", ".yml")) or "/" in recipe:
        text = require_file(recipe).read_bytes()
    elif recipe in recipe_names():
        text = (resources.files("activsparse.train.recipes") / f"{recipe}.yaml").read_bytes()
    else:
        raise ActivsparseError(
            f"recipe {recipe!r} is unknown; {suggest(recipe, recipe_names())} "
            "(a file of your own ends in .yaml)"
        )
    values = _parse(text, recipe)
    base = values.pop("extends", None)
    if base is None:
        return values
    if str(base).endswith((".yaml", ".yml")):
        base = str(Path(recipe).parent / str(base))
    return _merge(_read(str(base), (*seen, recipe)), values)


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        values = parse_yaml(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ActivsparseError(f"{where}: is not UTF-8 ({error.reason}); save it as such") from None
    except ValueError as error:
        raise ActivsparseError(f"{where}: {error}") from error
    if not isinstance(values, dict):
        raise ActivsparseError(f"{where}: holds no keys; a recipe is a mapping of sections")
    return values


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _override(values: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ActivsparseError(
            Option("overrides", text), ": write KEY=VALUE, for example training.epochs=3"
        )
    *sections, key = path.strip().split(".")
    target = values
    for section in sections:
        if not isinstance(target.get(section), dict):
            target[section] = {}
        target = target[section]
    try:
        target[key] = parse_yaml(value)
    except ValueError as error:
        raise ActivsparseError(Option("overrides", text), f": {error}") from error
