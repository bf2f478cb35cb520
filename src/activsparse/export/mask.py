"""Masks for an existing dense ONNX model, without training: how fast would it be?"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx

from activsparse.errors import ActivsparseError, Option
from activsparse.export.convs import OPEN_SIZE, OnnxConv, find_convs
from activsparse.export.insert import MASK_SUFFIX, SOURCE_SUFFIX, insert_mask, remove_masks
from activsparse.input_sizes import InputSizes, image_axes
from activsparse.masks import (
    ConvShape,
    FloatMap,
    layouts,
    random_score,
    sparsity_of,
)
from activsparse.onnx_file import check_accepted, normal_form

__all__ = [
    "FILLS",
    "REQUESTED_KEY",
    "SITES",
    "MaskReport",
    "MaskedLayer",
    "dense_copy",
    "mask_model",
]

SITES = ("norm", "conv")
FILLS = ("zero", "nearest")
REQUESTED_KEY = "activsparse.requested"
"""Metadata of the model: JSON object, name of the convolution -> requested sparsity."""

# A mask is worked out in memory, some bytes per position.
_MOST_POSITIONS = 1 << 27

Size = tuple[int, int]
_EXAMPLE_SIZE = Option("input_size", (224, 224))


@dataclass(frozen=True)
class MaskedLayer:
    """A convolution that got a mask; `pattern` is `dense` where it keeps every position."""

    name: str
    shape: ConvShape
    pattern: str
    requested: float
    achieved: float

    @property
    def is_far_off(self) -> bool:
        """Whether the layer alone misses the request by more than a tenth of its positions."""
        return abs(self.achieved - self.requested) > 0.1


@dataclass(frozen=True)
class MaskReport:
    """What `mask_model` did: the masked layers, and why each other convolution stayed dense."""

    layers: list[MaskedLayer]
    dense: dict[str, str]

    @property
    def requested(self) -> float:
        """Mean requested sparsity over the masked layers."""
        return sum(layer.requested for layer in self.layers) / len(self.layers)

    @property
    def achieved(self) -> float:
        """Mean achieved sparsity over the masked layers."""
        return sum(layer.achieved for layer in self.layers) / len(self.layers)


def mask_model(
    model: onnx.ModelProto,
    sparsity: float,
    *,
    pattern: str = "auto",
    block: int = 1,
    site: str = "norm",
    fill: str = "zero",
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    kernel_sizes: Sequence[Size] = (),
    include_stem: bool = False,
    include_shortcuts: bool = False,
    include_head: bool = False,
    seed: int = 0,
    replace: bool = False,
    input_size: Size | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    name: str = "model",
) -> tuple[onnx.ModelProto, MaskReport]:
    """Return a copy of `model` with masks, and a report.

    Without further options every convolution is masked except the stem (the published study masks
    it and pays for it), the 1x1 projections of residual shortcuts (an identity shortcut keeps all
    positions as well), and those that have a single output position or a size that is not known.
    Layers of one residual block share a phase.

    Args:
        model: a dense model; unchanged.
        sparsity: requested for every masked layer, in [0, 1); their mean is within 0.03 of it, see
            `masks.allocate`.
        pattern: one of `masks.PATTERNS`.
        block: `random` only: side of the squares dropped as a whole.
        site: `norm`: after the BatchNormalization that alone reads the convolution, after the
            convolution where there is none; `conv`: after the convolution.
        fill: what a skipped position holds: `zero`, or the value of the `nearest` kept position.
        skip: globs of layers to leave dense, over a layer's name or its node's name.
        only: globs of layers to mask; by default all.
        kernel_sizes: mask only convolutions with one of these (height, width).
        include_stem: mask the stem too.
        include_shortcuts: mask shortcut projections too.
        include_head: mask the layers whose positions are the answer too, as in detectors.
        seed: `random` only: of the score map at input size that all layers derive their masks from.
        replace: take masks out that are there already, instead of refusing.
        input_size: (H, W) for a model whose input leaves them open; it is fixed to them, as masks
            belong to one size.
        input_shapes: whole shapes by name, for the same.
        batch: for a model that leaves it open; it stays so without.
        name: of the model, for error messages.

    Raises:
        ActivsparseError: not a valid model, or one the engine refuses whatever its operators
            (float16, quantised, in training mode, too old); an option outside its range, a glob
            that matches nothing, masks present without `replace`, no convolution left to mask.
    """
    for option, value, valid in (("site", site, SITES), ("fill", fill, FILLS)):
        if value not in valid:
            raise ActivsparseError(f"{option} {value!r}: unknown; choose one of {', '.join(valid)}")
    masked, convs = dense_copy(
        model, InputSizes(input_shapes or {}, input_size, batch), replace=replace, name=name
    )
    dense = _dense_layers(
        convs, skip, only, kernel_sizes, include_stem, include_shortcuts, include_head, name
    )
    layers = [(conv, conv.shape) for conv in convs if conv.shape and conv.name not in dense]
    if not layers:
        raise _nothing_left(dense, name)
    for conv, shape in layers:
        if math.prod(shape.output) > _MOST_POSITIONS:
            raise ActivsparseError(
                f"{name}: layer {conv.name!r} has {'x'.join(map(str, shape.output))} positions, "
                "too many for a mask; fix the input to a smaller size"
            )
    shapes = [shape for _, shape in layers]
    score = _score(masked, seed, name) if pattern == "random" else None
    try:
        found = layouts(
            shapes,
            sparsity,
            pattern,
            phases=[conv.phase for conv, _ in layers],
            score=score,
            block=block,
            names=[conv.name for conv, _ in layers],
            inputs=_inputs([conv for conv, _ in layers], site, fill),
        )
    except ActivsparseError as error:
        raise type(error)(f"{name}: ", error) from error
    report = MaskReport([], dense)
    for (conv, shape), layout in zip(layers, found, strict=True):
        insert_mask(masked, conv, layout.mask, site, fill)
        achieved = sparsity_of(layout.mask)
        report.layers.append(MaskedLayer(conv.name, shape, layout.pattern, sparsity, achieved))
    write_requested(masked, {layer.name: layer.requested for layer in report.layers})
    return masked, report


def dense_copy(
    model: onnx.ModelProto, sizes: InputSizes, *, replace: bool, name: str
) -> tuple[onnx.ModelProto, list[OnnxConv]]:
    """A copy of `model` without masks, its sizes fixed, and its convolutions.

    Raises:
        ActivsparseError: see `mask_model`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    masked = normal_form(copy, str(name))
    check_accepted(masked, str(name))
    _fix_sizes(masked, sizes, name)
    present = remove_masks(masked)
    if present and not replace:
        raise ActivsparseError(
            f"{name}: holds {present} masks already; use ",
            Option("replace", True),
            " to put new ones in their place",
        )

    _refuse_leftovers(masked, name)
    return masked, find_convs(masked, str(name))


def write_requested(model: onnx.ModelProto, requested: dict[str, float]) -> None:
    """Note the requested sparsity of each masked convolution in the model's metadata."""
    for entry in [entry for entry in model.metadata_props if entry.key == REQUESTED_KEY]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=REQUESTED_KEY, value=json.dumps(requested))


def _dense_layers(
    convs: Sequence[OnnxConv],
    skip: Sequence[str],
    only: Sequence[str],
    kernel_sizes: Sequence[Size],
    include_stem: bool,
    include_shortcuts: bool,
    include_head: bool,
    name: str,
) -> dict[str, str]:
    """Name of every convolution that stays dense, and why."""
    skipped = {conv.name for glob in skip for conv in _matching(glob, "skip", convs, name)}
    wanted = {conv.name for glob in only for conv in _matching(glob, "only", convs, name)}
    dense = {}
    for conv in convs:
        reason = conv.problem
        if conv.name in skipped:
            reason = "skipped by name"
        elif only and conv.name not in wanted:
            reason = "not among those chosen by name"
        elif conv.role == "stem" and not include_stem:
            reason = "stem"
        elif conv.role == "shortcut" and not include_shortcuts:
            reason = "shortcut projection"
        elif conv.role == "head" and not include_head:
            reason = "head"
        elif kernel_sizes and conv.shape and conv.shape.kernel not in kernel_sizes:
            reason = "kernel size"
        if reason is not None:
            dense[conv.name] = reason
    return dense


def _inputs(convs: Sequence[OnnxConv], site: str, fill: str) -> list[int | None]:
    """For each masked convolution the number of the one whose mask leaves zeros in its input."""
    if fill != "zero":
        return [None] * len(convs)
    # Before a batch norm a zero does not stay one.
    zeros = {
        conv.name: i
        for i, conv in enumerate(convs)
        if site == "norm" or conv.norm_output == conv.conv_output
    }
    return [zeros.get(conv.source) if conv.source is not None else None for conv in convs]


def _refuse_leftovers(model: onnx.ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith((MASK_SUFFIX, SOURCE_SUFFIX)):
            raise ActivsparseError(
                f"{name}: constant {tensor.name!r} has the name of a mask, but is none (a mask has "
                "shape (1, 1, OH, OW) and holds 0 and 1 only); start from the dense model"
            )


def _nothing_left(dense: dict[str, str], name: str) -> ActivsparseError:
    if OPEN_SIZE in dense.values():
        return ActivsparseError(
            f"{name}: {OPEN_SIZE}; give the input's, for example ", _EXAMPLE_SIZE
        )
    reasons = "; ".join(f"{key}: {reason}" for key, reason in list(dense.items())[:3])
    return ActivsparseError(
        f"{name}: no convolution is left to mask ({reasons or 'it has none'}); loosen ",
        Option("skip"),
        ", ",
        Option("only"),
        " and ",
        Option("kernel_sizes"),
        ", or use ",
        Option("include_stem", True),
    )


def _matching(glob: str, option: str, convs: Sequence[OnnxConv], name: str) -> list[OnnxConv]:
    found = [c for c in convs if fnmatchcase(c.name, glob) or fnmatchcase(c.node_name, glob)]
    if not found:
        names = [conv.name for conv in convs]
        nearest = difflib.get_close_matches(glob, names, n=3, cutoff=0.3) or names[:3]
        raise ActivsparseError(
            f"{name}: ",
            Option(option),
            f" {glob!r} matches no convolution; nearest: {', '.join(nearest)}",
        )
    return found


def _image_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs of shape (N, C, H, W) or (N, H, W, C)."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        value
        for value in model.graph.input
        if value.name not in constants and len(value.type.tensor_type.shape.dim) == 4
    ]


def _fix_sizes(model: onnx.ModelProto, sizes: InputSizes, name: str) -> None:
    """Write the sizes that are given into the model's inputs."""
    if not sizes:
        return
    constants = {tensor.name for tensor in model.graph.initializer}
    dims = {
        value.name: value.type.tensor_type.shape.dim
        for value in model.graph.input
        if value.name not in constants
    }
    known = {k: tuple(d.dim_value if d.dim_value > 0 else None for d in v) for k, v in dims.items()}
    for value, found in sizes.resolve(known, name).items():
        for dim, size in zip(dims[value], found, strict=True):
            if size is not None:
                dim.dim_value = size


def _score(model: onnx.ModelProto, seed: int, name: str) -> FloatMap:
    """A random score map of the input's size."""
    size = image_size_of(model)
    if size is not None:
        return random_score(size, np.random.default_rng(seed))
    raise ActivsparseError(
        f"{name}: the size of its input is open; give it, for example ", _EXAMPLE_SIZE
    )


def image_size_of(model: onnx.ModelProto) -> Size | None:
    """(H, W) of the first image among the inputs; None where it is open."""
    for value in _image_inputs(model):
        dims = [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
        axes = image_axes(dims) or (2, 3)
        height, width = (dims[axis] for axis in axes)
        if height and width:
            return height, width
    return None
