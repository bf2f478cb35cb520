"""The options that decide a network's masks: one set, whoever makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

from activsparse.errors import ActivsparseError, Option
from activsparse.names import suggest
from activsparse.values import check_count, check_number, refuse

__all__ = [
    "CRITERIA",
    "FILLS",
    "LITERALS",
    "PATTERNS",
    "PHASES",
    "SITES",
    "UNTRAINED",
    "Criterion",
    "Fill",
    "MaskOptions",
    "Pattern",
    "Phases",
    "Site",
    "check_literal",
    "check_sparsity",
]

Pattern = Literal["random", "lattice", "tiles", "auto", "band"]
Fill = Literal["zero", "nearest", "auto"]
Site = Literal["norm", "conv"]
Criterion = Literal["lnorm", "random"]
Phases = Literal["block", "layer", "one"]

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
FILLS: tuple[Fill, ...] = get_args(Fill)
SITES: tuple[Site, ...] = get_args(Site)
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
PHASES: tuple[Phases, ...] = get_args(Phases)

KernelSize = int | tuple[int, int]
_Options = TypeVar("_Options", bound="MaskOptions")


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Which layers are masked, how sparse, and how their masks are laid.

    Attributes:
        sparsity: share of output positions not computed in every masked layer, in [0, 1).
        pattern: `random` (the published method), `lattice`, `tiles`, `auto`, or `band`: whole rows
            at the bottom or top of the map in residual branches alone, see `masks.branches`. There
            `sparsity` is that of a branch's last layer, and what that one does not read the layers
            before it skip.
        block: `random` only: side of the aligned squares dropped as a whole.
        fill: what a skipped position holds: `zero`, the value of the `nearest` kept position, or
            `auto`: zero where a shortcut is added, which fills the hole, nearest elsewhere.
        site: mask after the batch norm that follows a convolution (`norm`; the convolution itself
            where none does), or directly after the convolution (`conv`, as published).
        criterion: `random` only: `lnorm` drops the lowest of one score map propagated to all
            layers, `random` draws an independent map in each layer.
        phases: all but `random`: whether the pattern is shifted in another way in each residual
            `block`, in each `layer`, or is `one` for all.
        share_in_block: `lattice`, `tiles` and `auto`: whether the convolutions of a residual block
            with equal output sizes and requested sparsities share a mask (a `lattice` does so
            anyway, the others weigh up each layer).
        importance_weight: `random` only, while a network is trained: share of a position's score
            that is its importance, see `activsparse.train.sparsify.importance`; nothing until that
            was measured.
        per_layer: name glob -> sparsity, over `sparsity`; the last match counts. These layers get
            the nearest sparsity their pattern has; the others may trade among themselves.
        skip: name globs of layers left dense; in an ONNX file over the node's name as well.
        only: name globs of the layers to mask; empty means all.
        skip_types: classes or class names; convolutions of such a class or inside such a module are
            left dense. An ONNX file knows no classes.
        skip_kernel_sizes: kernel sizes left dense, as 1 or (1, 1).
        kernel_sizes: the only kernel sizes masked, alike; empty means all.
        skip_stem: whether the convolution that runs first is left dense, with those of a deep stem
            (as in ResNet-D).
        skip_shortcuts: whether the 1x1 projections of residual shortcuts are left dense (an
            identity shortcut keeps all positions as well).
        skip_head: whether layers whose positions are the answer, as in detectors, are left dense.

    Raises:
        ActivsparseError: a value outside its range, or one that does not go with the pattern.
    """

    sparsity: float = 0.3
    pattern: Pattern = "tiles"
    block: int = 1
    fill: Fill = "zero"
    site: Site = "norm"
    criterion: Criterion = "lnorm"
    phases: Phases = "block"
    share_in_block: bool = False
    importance_weight: float = 0.0
    per_layer: Mapping[str, float] = field(default_factory=dict)
    skip: Sequence[str] = ()
    only: Sequence[str] = ()
    skip_types: Sequence[str | type] = ()
    skip_kernel_sizes: Sequence[KernelSize] = ()
    kernel_sizes: Sequence[KernelSize] = ()
    skip_stem: bool = True
    skip_shortcuts: bool = True
    skip_head: bool = True

    def __post_init__(self) -> None:
        per_layer = self.per_layer or {}
        if not isinstance(per_layer, Mapping) or not all(isinstance(k, str) for k in per_layer):
            refuse("per_layer", per_layer, "give a dict such as {'layer1.*': 0.5}")
        object.__setattr__(self, "per_layer", dict(per_layer))
        for name, single in _LISTS.items():
            object.__setattr__(self, name, _several(name, getattr(self, name), single))
        for name, known in LITERALS.items():
            check_literal(name, getattr(self, name), known)
        check_sparsity(self.sparsity)
        for glob, value in self.per_layer.items():
            check_sparsity(value, f"per_layer {glob!r}: sparsity")
        check_number("importance_weight", self.importance_weight, 0.5)
        if not 0.0 <= self.importance_weight <= 1.0:
            raise ActivsparseError(
                Option("importance_weight"), f" {self.importance_weight:g}: is outside [0, 1]"
            )
        if self.importance_weight and self.pattern != "random":
            raise ActivsparseError(
                Option("importance_weight"),
                f": pattern {self.pattern} has no scores to weigh; use ",
                Option("pattern", "random"),
            )
        check_count("block", self.block)
        if self.block > 1 and self.pattern != "random":
            raise ActivsparseError(
                Option("block"),
                f" {self.block}: pattern {self.pattern} drops no squares; use ",
                Option("pattern", "random"),
                " or ",
                Option("block", 1),
            )

    def but(self: _Options, **changes: Any) -> _Options:
        """The same options but for some.

        Raises:
            TypeError: there is no such option.
            ActivsparseError: see the class.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise TypeError(f"there is no option {name!r}; {suggest(name, known)}")
        return replace(self, **changes)


_LISTS: dict[str, tuple[type, ...]] = {
    "skip": (str,),
    "only": (str,),
    "skip_types": (str, type),
    "skip_kernel_sizes": (int, tuple, list),
    "kernel_sizes": (int, tuple, list),
}
"""Options that hold several values, and what each may be."""

_EXAMPLES: dict[type, str] = {str: "['layer1.*']", int: "[1, (3, 3)]"}


def _several(option: str, value: Any, single: tuple[type, ...]) -> tuple[Any, ...]:
    """Several values of an option as a tuple; a text is one.

    Raises:
        ActivsparseError: one is of a type that none may have.
    """
    if value is None:
        return ()
    several = isinstance(value, Iterable) and not isinstance(value, str)
    values = tuple(value) if several else (value,)
    if not all(isinstance(one, single) for one in values):
        refuse(option, value, f"give a list such as {_EXAMPLES[single[0]]}")
    return values


LITERALS: dict[str, tuple[str, ...]] = {
    "pattern": PATTERNS,
    "fill": FILLS,
    "site": SITES,
    "criterion": CRITERIA,
    "phases": PHASES,
}
"""Options whose values are words, and those words."""


def check_literal(option: str, value: object, known: Sequence[str]) -> None:
    """Raise unless `value` is one of the words an option knows.

    Raises:
        ActivsparseError: it is not.
    """
    if value not in known:
        raise ActivsparseError(
            Option(option), f" {value!r}: is unknown; {suggest(str(value), known)}"
        )


def check_sparsity(sparsity: float, what: str = "sparsity") -> None:
    """Raise unless `sparsity` is in [0, 1); not-a-number is refused as well.

    Raises:
        ActivsparseError: it is not.
    """
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise ActivsparseError(f"{what} {sparsity!r}: is no number; choose for example 0.3")
    if not 0 <= float(sparsity) < 1:
        raise ActivsparseError(f"{what} {sparsity:g}: outside [0, 1); choose for example 0.3")


UNTRAINED = MaskOptions(pattern="auto")
"""For a network that is not trained with its masks: only the time counts."""
