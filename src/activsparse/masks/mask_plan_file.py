"""Mask plans as YAML files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path, require_file
from activsparse.masks.exact import as_values, exact_mask, whole
from activsparse.masks.mask_plan import FILLS, MaskPlan, PlannedLayer
from activsparse.masks.options import SITES
from activsparse.masks.shape import ConvShape

__all__ = ["plan_of", "plan_text", "plan_values", "read_mask_plan", "write_mask_plan"]

_VERSION = 1
_KEYS = ("mask_plan", "input_size", "site", "notes", "layers")
_LAYER = ("conv", "mask", "fill", "ms", "loss")
_MOST = 2**24


def read_mask_plan(path: str | os.PathLike[str]) -> MaskPlan:
    """Read a mask plan.

    Raises:
        ActivsparseError: no such file, not a mask plan; one line naming the key.
    """
    from activsparse.yaml_text import parse_yaml

    file = require_file(path)
    try:
        values = parse_yaml(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ActivsparseError(f"{file}: is not UTF-8 ({error.reason}); save it as such") from None
    except ValueError as error:
        raise ActivsparseError(f"{file}: {error}; name a mask plan") from error
    return plan_of(values, str(file))


def write_mask_plan(plan: MaskPlan, path: str | os.PathLike[str]) -> None:
    """Write a mask plan; see `read_mask_plan`.

    Raises:
        ActivsparseError: the path cannot be written to.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(plan_text(plan), encoding="utf-8")


def plan_text(plan: MaskPlan) -> str:
    """The plan as YAML."""
    import yaml

    values = plan_values(plan)
    return str(
        yaml.safe_dump(
            values, sort_keys=False, default_flow_style=None, allow_unicode=True, width=200
        )
    )


def plan_values(plan: MaskPlan) -> dict[str, Any]:
    """The plan as plain values, which `plan_of` reads."""
    layers = {}
    for name, layer in plan.layers.items():
        values: dict[str, Any] = {
            "conv": {k: list(v) if isinstance(v, tuple) else v for k, v in vars(layer.conv).items()}
        }
        values["mask"] = as_values(layer.exact)
        values["fill"] = layer.fill
        for key in ("ms", "loss"):
            if getattr(layer, key) is not None:
                values[key] = round(float(getattr(layer, key)), 6)
        layers[name] = values
    return {
        "mask_plan": _VERSION,
        "input_size": list(plan.input_size),
        "site": plan.site,
        "notes": dict(plan.notes),
        "layers": layers,
    }


def plan_of(values: Any, where: str) -> MaskPlan:
    """The plan that plain values describe.

    Args:
        values: as `plan_values` gives them.
        where: they come from, for errors.

    Raises:
        ActivsparseError: they describe none; one line naming the key.
    """
    if not isinstance(values, dict) or "mask_plan" not in values:
        raise ActivsparseError(f"{where}: is no mask plan; make one with activsparse plan")
    if values["mask_plan"] != _VERSION:
        raise ActivsparseError(
            f"{where}: is a mask plan of format {values['mask_plan']!r}, this version reads "
            f"{_VERSION}; make it anew"
        )
    try:
        _refuse_unknown(values, _KEYS)
        site = _word(values, "site", SITES)
        size = _pair(values, "input_size")
        notes = values.get("notes", {})
        if not isinstance(notes, dict) or not all(
            isinstance(key, str) and isinstance(note, str | int | float)
            for key, note in notes.items()
        ):
            raise ActivsparseError("notes: are no numbers and words by name")
        layers = values.get("layers")
        if not isinstance(layers, dict) or not layers:
            raise ActivsparseError("layers: are no mapping from names to masks")
    except ActivsparseError as error:
        raise ActivsparseError(f"{where}: ", error) from error
    found = {str(name): _layer(layer, f"{where}: layer {name}: ") for name, layer in layers.items()}
    return MaskPlan(size, found, site, notes)


def _layer(values: Any, where: str) -> PlannedLayer:
    try:
        return _planned(values)
    except ActivsparseError as error:
        raise ActivsparseError(where, error) from error


def _planned(values: Any) -> PlannedLayer:
    if not isinstance(values, dict):
        raise ActivsparseError(f"is no mapping; it has the keys {', '.join(_LAYER)}")
    _refuse_unknown(values, _LAYER)
    conv = _conv(values.get("conv"))
    return PlannedLayer(
        conv,
        exact_mask(values.get("mask"), conv.output),
        _word(values, "fill", FILLS),
        _number(values, "ms"),
        _number(values, "loss"),
    )


def _conv(values: Any) -> ConvShape:
    names = [field.name for field in fields(ConvShape)]
    if not isinstance(values, dict) or {str(key) for key in values} != set(names):
        raise ActivsparseError(f"conv: needs the keys {', '.join(names)}, and no others")
    pairs = {key: _pair(values, key) for key in ("kernel", "stride", "output", "dilation")}
    counts = {key: whole(values, key, 1, _MOST) for key in names if key not in pairs}
    return ConvShape(**pairs, **counts)  # type: ignore[arg-type]


def _pair(values: Mapping[Any, Any], key: str) -> tuple[int, int]:
    pair = values.get(key)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ActivsparseError(f"{key}: is no pair (height, width)")
    height, width = (whole({key: value}, key, 1, _MOST) for value in pair)
    return height, width


def _word(values: Mapping[Any, Any], key: str, known: tuple[str, ...]) -> str:
    value = values.get(key)
    if value not in known:
        raise ActivsparseError(f"{key}: is none of {', '.join(known)}")
    return str(value)


def _number(values: Mapping[Any, Any], key: str) -> float | None:
    value = values.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ActivsparseError(f"{key}: is no number")
    return None if value is None else float(value)


def _refuse_unknown(values: Mapping[Any, Any], known: tuple[str, ...]) -> None:
    odd = next((key for key in values if key not in known), None)
    if odd is not None:
        raise ActivsparseError(f"unknown key {odd!r}; there are {', '.join(known)}")
