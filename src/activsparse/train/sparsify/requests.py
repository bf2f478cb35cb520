"""Which layers are masked, and how sparse each of them becomes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

from activsparse.errors import ActivsparseError
from activsparse.names import suggest
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["choose_sparsities", "given_own"]


def choose_sparsities(
    layers: Sequence[ConvLayer],
    sparsity: float,
    *,
    per_layer: Mapping[str, float] | None = None,
    skip: Iterable[str] = (),
    skip_types: Iterable[str | type] = (),
    skip_kernel_sizes: Iterable[int | Sequence[int]] = (),
    skip_stem: bool = True,
    skip_shortcuts: bool = True,
    skip_head: bool = True,
) -> tuple[dict[str, float], dict[str, str]]:
    """Split layers into the masked and the skipped.

    Skipping wins over `per_layer`; of several `per_layer` globs that match, the last one counts.

    Returns:
        Requested sparsity of each masked layer, and why each other layer is skipped.

    Raises:
        ActivsparseError: a sparsity outside [0, 1), or a glob, type or kernel size that matches no
            layer.
    """
    per_layer = dict(per_layer or {})
    for where, value in [("sparsity", sparsity), *per_layer.items()]:
        if not 0.0 <= value < 1.0:
            raise ActivsparseError(
                f"{where}: sparsity {value} is outside [0, 1); 0.3 skips 30 % of the positions"
            )

    names = [layer.name for layer in layers]
    skipped = {layer.name: layer.problem for layer in layers if layer.problem}
    for glob in skip:
        for name in _matches(glob, names, "skip"):
            skipped.setdefault(name, f"skipped by name ({glob})")
    for kind in skip_types:
        type_name = kind if isinstance(kind, str) else kind.__name__
        hits = [layer.name for layer in layers if type_name in layer.enclosing]
        if not hits:
            known = sorted({t for layer in layers for t in layer.enclosing})
            raise ActivsparseError(
                f"skip_types: no layer is in a {type_name}; {suggest(type_name, known)}"
            )
        for name in hits:
            skipped.setdefault(name, f"skipped by type ({type_name})")
    for size in skip_kernel_sizes:
        pair = (size, size) if isinstance(size, int) else tuple(size)
        # A model without 1x1 convolutions has nothing to skip; that is no mistake.
        for layer in layers:
            if layer.shape.kernel == pair:
                skipped.setdefault(layer.name, f"skipped by kernel size ({pair[0]}x{pair[1]})")
    for layer in layers:
        if skip_stem and layer.stem:
            skipped.setdefault(layer.name, "skipped as the stem")
        if skip_shortcuts and layer.shortcut:
            skipped.setdefault(layer.name, "skipped as a shortcut projection")
        if skip_head and layer.head:
            skipped.setdefault(layer.name, "skipped as the head")

    requested = {name: sparsity for name in names if name not in skipped}
    for glob, value in per_layer.items():
        matched = _matches(glob, names, "per_layer")
        masked = [name for name in matched if name in requested]
        if not masked and value > 0.0:
            name = matched[0]
            raise ActivsparseError(
                f"per_layer: {glob!r} matches only skipped layers ({name}: {skipped[name]})"
            )
        requested.update(dict.fromkeys(masked, value))
    if not requested:
        raise ActivsparseError(
            "every convolution is skipped; loosen skip, skip_types, skip_kernel_sizes, skip_stem, "
            "skip_shortcuts or skip_head"
        )
    return requested, skipped


def given_own(names: Iterable[str], per_layer: Iterable[str]) -> list[bool]:
    """Which layers a glob of `per_layer` gives a sparsity of their own."""
    globs = list(per_layer)
    return [any(fnmatch.fnmatchcase(name, glob) for glob in globs) for name in names]


def _matches(glob: str, names: Sequence[str], option: str) -> list[str]:
    found = [name for name in names if fnmatch.fnmatchcase(name, glob)]
    if not found:
        raise ActivsparseError(f"{option}: {glob!r} matches no convolution; {suggest(glob, names)}")
    return found
