"""Which layers are masked, and how sparse each of them is to become."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from activsparse.errors import ActivsparseError, Option
from activsparse.masks.branches import branches
from activsparse.masks.layer import Layer
from activsparse.masks.options import KernelSize, MaskOptions
from activsparse.names import suggest

__all__ = ["NothingToMaskError", "Requests", "request_sparsities"]


class NothingToMaskError(ActivsparseError):
    """Every convolution is left dense.

    Attributes:
        dense: why, by name.
    """

    dense: dict[str, str]


@dataclass(frozen=True)
class Requests:
    """What each convolution of a network is asked to skip.

    Attributes:
        sparsities: requested sparsity of each masked layer, in the order of execution.
        own: of these, the layers that were given a sparsity of their own.
        dense: why each other layer is left dense.
    """

    sparsities: dict[str, float]
    own: frozenset[str]
    dense: dict[str, str]


def request_sparsities(layers: Sequence[Layer], options: MaskOptions) -> Requests:
    """Split layers into those to mask and those left dense.

    What leaves a layer dense wins over `per_layer`; of several `per_layer` globs that match, the
    last one counts.

    Args:
        layers: all convolutions of a network, in the order of execution.
        options: what is asked for.

    Raises:
        ActivsparseError: a glob or type that matches no layer.
        NothingToMaskError: no layer is left.
    """
    dense = _dense(layers, options)
    sparsities = {layer.name: options.sparsity for layer in layers if layer.name not in dense}
    own = set()
    for glob, value in options.per_layer.items():
        matched = _matching(glob, layers, "per_layer")
        masked = [name for name in matched if name in sparsities]
        if not masked and value > 0.0:
            name = matched[0]
            raise ActivsparseError(
                Option("per_layer"),
                f" {glob!r} matches only layers left dense ({name}: {dense[name]})",
            )
        sparsities.update(dict.fromkeys(masked, value))
        own |= set(masked)
    if not sparsities:
        raise _nothing_left(dense)
    return Requests(sparsities, frozenset(own), dense)


def _dense(layers: Sequence[Layer], options: MaskOptions) -> dict[str, str]:
    """Name of every layer that stays dense, and the first reason for it."""
    dense: dict[str, str] = {}

    def leave(names: Iterable[str], reason: str) -> None:
        for name in names:
            dense.setdefault(name, reason)

    for glob in options.skip:
        leave(_matching(glob, layers, "skip"), f"skipped by name ({glob})")
    wanted = {name for glob in options.only for name in _matching(glob, layers, "only")}
    if options.only:
        others = (layer.name for layer in layers if layer.name not in wanted)
        leave(others, "not among those chosen by name")
    for kind in options.skip_types:
        type_name = kind if isinstance(kind, str) else kind.__name__
        leave(_of_type(type_name, layers), f"skipped by type ({type_name})")
    kept, left = map(_pairs, (options.kernel_sizes, options.skip_kernel_sizes))
    for layer in layers:
        if options.skip_stem and layer.stem:
            leave([layer.name], "stem")
        if options.skip_shortcuts and layer.shortcut:
            leave([layer.name], "shortcut projection")
        if options.skip_head and layer.head:
            leave([layer.name], "head")
        # A model without 1x1 convolutions has nothing to skip; that is no mistake.
        kernel = layer.shape and layer.shape.kernel
        if kernel and ((kept and kernel not in kept) or kernel in left):
            leave([layer.name], f"kernel size {kernel[0]}x{kernel[1]}")
        if layer.problem:
            leave([layer.name], layer.problem)
    if options.pattern == "band":
        inside = {n for b in branches([x for x in layers if x.name not in dense]) for n in b}
        alone = (layer.name for layer in layers if layer.name not in inside)
        leave(alone, "in no residual branch, where a shortcut fills the holes of a band")
    return dense


def _pairs(sizes: Iterable[KernelSize]) -> set[tuple[int, int]]:
    return {(size, size) if isinstance(size, int) else (size[0], size[1]) for size in sizes}


def _of_type(type_name: str, layers: Sequence[Layer]) -> list[str]:
    found = [layer.name for layer in layers if type_name in layer.enclosing]
    if not found:
        known = sorted({kind for layer in layers for kind in layer.enclosing})
        raise ActivsparseError(
            Option("skip_types"), f": no layer is in a {type_name}; {suggest(type_name, known)}"
        )
    return found


def _matching(glob: str, layers: Sequence[Layer], option: str) -> list[str]:
    found = [
        layer.name for layer in layers if any(fnmatchcase(alias, glob) for alias in layer.aliases)
    ]
    if not found:
        names = [layer.name for layer in layers]
        raise ActivsparseError(
            Option(option), f" {glob!r} matches no convolution; {suggest(glob, names)}"
        )
    return found


# Options that mask what is left dense for one of these reasons.
_REMEDIES = {"stem": "skip_stem", "shortcut projection": "skip_shortcuts", "head": "skip_head"}


def _nothing_left(dense: dict[str, str]) -> NothingToMaskError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(dense.items())[:3])
    kinds = set(dense.values())
    remedies = [Option(name, False) for reason, name in _REMEDIES.items() if reason in kinds]
    by_choice = [
        Option(name)
        for name, begins in (
            ("skip", "skipped by name"),
            ("only", "not among"),
            ("skip_types", "skipped by type"),
            ("kernel_sizes", "kernel size"),
        )
        if any(reason.startswith(begins) for reason in kinds)
    ]
    words: list[str | Option] = [
        f"no convolution is left to mask ({reasons or 'there is none'})",
    ]
    for verb, options in (("use", remedies), ("loosen", by_choice)):
        for i, option in enumerate(options):
            words += [f"; {verb} " if i == 0 else " or ", option]
    error = NothingToMaskError(*words)
    error.dense = dense
    return error
