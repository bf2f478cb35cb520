"""The options of masks, which several commands take: those of `activsparse.masks.MaskOptions`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from activsparse.cli.numbers import image_size, number, positive, sparsity_of_glob

if TYPE_CHECKING:
    from activsparse.masks import MaskOptions

__all__ = ["add_mask_options", "add_sparsity_option", "mask_options"]


# Options whose values are words.
_WORDS = {
    "pattern": "how the kept positions are laid out; auto chooses pattern and sparsity of each "
    "layer so that the whole takes least time: dense where skipping saves little, elsewhere at "
    "most 0.2 above",
    "fill": "what a skipped position holds: zero, the nearest kept position, or zero only where a "
    "shortcut is added",
    "site": "mask after the batch normalisation of a convolution, where there is one, or directly "
    "after the convolution",
    "criterion": "pattern random: the lowest of one score map, or an independent map in each layer",
    "phases": "regular patterns: what is shifted in a way of its own",
}
_ROLES = {
    "stem": "the stem",
    "shortcuts": "shortcut projections",
    "head": "layers whose positions are the answer, as in detectors",
}


def add_mask_options(
    parser: argparse.ArgumentParser, defaults: MaskOptions, *, which: tuple[str, ...] | None = None
) -> None:
    """Add the options.

    Args:
        parser: of a command.
        defaults: what holds where an option is not given.
        which: fields of `MaskOptions` to offer; by default all that the command line can say.
    """
    from activsparse.masks.options import LITERALS

    def offered(field: str) -> bool:
        return which is None or field in which

    laid = parser.add_argument_group("masks")
    for field, decides in _WORDS.items():
        if offered(field):
            default = getattr(defaults, field)
            laid.add_argument(
                f"--{field}",
                choices=LITERALS[field],
                default=default,
                help=f"{decides} (default: {default})",
            )
    if offered("block"):
        laid.add_argument(
            "--block",
            type=positive,
            default=defaults.block,
            metavar="N",
            help=f"pattern random: drop aligned squares of this side (default: {defaults.block})",
        )
    if offered("share_in_block"):
        laid.add_argument(
            "--share-in-block",
            action="store_true",
            help="regular patterns: one mask for equal layers of a residual block",
        )

    layers = parser.add_argument_group("layers")

    def several(option: str, help_: str, metavar: str, **more: Any) -> None:
        layers.add_argument(
            option, nargs="+", action="extend", default=[], metavar=metavar, help=help_, **more
        )

    if offered("per_layer"):
        several(
            "--per-layer",
            "sparsities of layers' own, over --sparsity; the last match counts",
            "GLOB=S",
            type=sparsity_of_glob,
        )
    if offered("skip"):
        several("--skip", "leave these dense: a layer's name, or its node's", "GLOB")
    if offered("only"):
        several("--only", "mask only these", "GLOB")
    for field, says in (("kernel_sizes", "mask only"), ("skip_kernel_sizes", "leave dense")):
        if offered(field):
            several(
                f"--{field.replace('_', '-')}",
                f"{says} convolutions of these kernel sizes, for example 3x3",
                "HxW",
                type=image_size,
            )
    for role, what in _ROLES.items():
        if offered(f"skip_{role}"):
            layers.add_argument(
                f"--include-{role}",
                dest=f"skip_{role}",
                action="store_false",
                default=getattr(defaults, f"skip_{role}"),
                help=f"mask {what} too",
            )


def add_sparsity_option(
    parser: argparse._ActionsContainer, *, required: bool = True, default: float | None = None
) -> None:
    """Add --sparsity."""
    ending = "" if default is None else f" (default: {default:g})"
    parser.add_argument(
        "--sparsity",
        type=number(0, 1, "sparsity in [0, 1)"),
        required=required,
        default=default,
        metavar="S",
        help="share of output positions not to compute, in [0, 1); the mean over the masked layers "
        f"is within 0.03 of it{ending}",
    )


def mask_options(args: argparse.Namespace, defaults: MaskOptions) -> MaskOptions:
    """What was given, over `defaults`.

    Raises:
        ActivsparseError: options that do not go together.
    """
    given = {f.name: getattr(args, f.name) for f in fields(defaults) if hasattr(args, f.name)}
    if "per_layer" in given:
        given["per_layer"] = dict(given["per_layer"])
    return defaults.but(**given)
