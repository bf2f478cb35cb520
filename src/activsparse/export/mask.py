"""Masks for an existing dense ONNX model, without training: how fast would it be?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from activsparse.errors import ActivsparseError, Option, memory_suffices
from activsparse.export.convs import OPEN_SIZE, OnnxConv, find_convs
from activsparse.export.insert import MASK_SUFFIX, SOURCE_SUFFIX, insert_masks, remove_masks
from activsparse.input_sizes import InputSizes, image_axes
from activsparse.masks import ConvShape, MaskOptions, Savings, sparsity_of
from activsparse.masks.maker import MaskMaker
from activsparse.masks.options import UNTRAINED
from activsparse.masks.placement import fill_of
from activsparse.masks.requests import NothingToMaskError, request_sparsities
from activsparse.onnx_file import check_accepted, normal_form

__all__ = ["REQUESTED_KEY", "MaskReport", "MaskedLayer", "dense_copy", "fix_sizes", "mask_model"]

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
    def macs(self) -> int:
        """Multiply-adds without the mask."""
        return self.shape.macs

    @property
    def is_far_off(self) -> bool:
        """Whether the layer alone misses the request by more than a tenth of its positions."""
        return abs(self.achieved - self.requested) > 0.1


@dataclass(frozen=True)
class MaskReport:
    """What `mask_model` did: the masked layers, and why each other convolution stayed dense."""

    layers: list[MaskedLayer]
    dense: dict[str, str]
    macs: int = 0
    """Multiply-adds of all convolutions whose size is known, without masks."""

    def __repr__(self) -> str:
        """A line for each layer, masked or dense."""
        lines = [
            f"MaskReport({len(self.layers)} masked layers: sparsity {self.savings.sparsity:.3f}, "
            f"{self.savings.saved:.3f} of all convolutions' multiply-adds saved)"
        ]
        for layer in self.layers:
            height, width = layer.shape.output
            lines.append(
                f"  {layer.name} {height}x{width}, {layer.pattern}: "
                f"{layer.requested:.3f} requested, {layer.achieved:.3f} skipped"
            )
        lines += [f"  {name}: dense, {why}" for name, why in self.dense.items()]
        return "\n".join(lines)

    @property
    def savings(self) -> Savings:
        """What the masks leave out of the whole network."""
        return Savings.of(((x.achieved, x.macs) for x in self.layers), self.macs)

    @property
    def requested(self) -> float:
        """The sparsity asked for, weighted as in `savings`."""
        return Savings.of((x.requested, x.macs) for x in self.layers).sparsity

    @property
    def each_once(self) -> float:
        """Mean sparsity, every layer counted once: what `masks.allocate` brings near a request."""
        return sum(layer.achieved for layer in self.layers) / len(self.layers)


def mask_model(
    model: onnx.ModelProto,
    sparsity: float | None = None,
    *,
    options: MaskOptions = UNTRAINED,
    seed: int = 0,
    replace: bool = False,
    input_size: Size | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    name: str = "model",
    **changes: Any,
) -> tuple[onnx.ModelProto, MaskReport]:
    """Return a copy of `model` with masks, and a report.

    The masks are those that `Sparsifier` gives the network with the same options and no schedule.
    Without further options every convolution is masked except the stem (the published study masks
    it and pays for it), the 1x1 projections of residual shortcuts (an identity shortcut keeps all
    positions as well), heads, and those that have a single output position or a size that is not
    known.

    Args:
        model: a dense model; unchanged.
        sparsity: requested for every masked layer, in [0, 1); their mean is within 0.03 of it, see
            `masks.allocate`. By default that of `options`.
        options: which layers are masked and how; by default pattern `auto`.
        seed: `random` only: of the score map at input size that all layers derive their masks from.
        replace: take masks out that are there already, instead of refusing.
        input_size: (H, W) for a model whose input leaves them open; it is fixed to them, as masks
            belong to one size.
        input_shapes: whole shapes by name, for the same.
        batch: for a model that leaves it open; it stays so without.
        name: of the model, for error messages.
        changes: single options by name, over those in `options`: `pattern="lattice"` and so on, all
            documented at `activsparse.masks.MaskOptions`.

    Raises:
        ActivsparseError: not a valid model, or one the engine refuses whatever its operators
            (float16, quantised, in training mode, too old); an option outside its range, a glob
            that matches nothing, masks present without `replace`, no convolution left to mask.
    """
    if sparsity is not None:
        changes["sparsity"] = sparsity
    options = options.but(**changes)
    if options.importance_weight:
        raise ActivsparseError(
            Option("importance_weight"), ": importance is measured in training only; leave it out"
        )
    masked, convs = dense_copy(
        model, InputSizes(input_shapes or {}, input_size, batch), replace=replace, name=name
    )
    try:
        requests = request_sparsities(convs, options)
    except ActivsparseError as error:
        if isinstance(error, NothingToMaskError) and OPEN_SIZE in error.dense.values():
            raise ActivsparseError(
                f"{name}: {OPEN_SIZE}; give the input's, for example ", _EXAMPLE_SIZE
            ) from error
        raise type(error)(f"{name}: ", error) from error
    layers = [conv for conv in convs if conv.name in requests.sparsities]
    for conv in layers:
        if conv.shape and math.prod(conv.shape.output) > _MOST_POSITIONS:
            raise ActivsparseError(
                f"{name}: layer {conv.name!r} has {'x'.join(map(str, conv.shape.output))} "
                "positions, too many for a mask; fix the input to a smaller size"
            )
    sparsities = list(requests.sparsities.values())
    with memory_suffices(name):
        try:
            maker = MaskMaker(layers, _score_size(masked, options), options, requests.own)
            maker.check(sparsities)
            found = maker.layouts(seed, 0, sparsities)
        except ActivsparseError as error:
            raise type(error)(f"{name}: ", error) from error
    report = MaskReport([], requests.dense, macs_of(convs))
    made = [
        (conv, layout.mask, fill_of(conv, options))
        for conv, layout in zip(layers, found, strict=True)
    ]
    insert_masks(masked, made, options.site)
    for conv, shape, layout in zip(layers, maker.shapes, found, strict=True):
        achieved = sparsity_of(layout.mask)
        requested = requests.sparsities[conv.name]
        report.layers.append(MaskedLayer(conv.name, shape, layout.pattern, requested, achieved))
    write_requested(masked, {layer.name: layer.requested for layer in report.layers})
    return masked, report


def macs_of(convs: Iterable[OnnxConv]) -> int:
    """Multiply-adds of convolutions, as far as their sizes are known."""
    shapes = [conv.shape for conv in convs if conv.shape is not None]
    return sum(shape.macs for shape in shapes)


def dense_copy(
    model: onnx.ModelProto, sizes: InputSizes, *, replace: bool, name: str
) -> tuple[onnx.ModelProto, list[OnnxConv]]:
    """A copy of `model` without masks, its sizes fixed, and its convolutions.

    Raises:
        ActivsparseError: see `mask_model`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    masked = normal_form(copy, str(name), foreign=True)
    check_accepted(masked, str(name))
    fix_sizes(masked, sizes, name)
    present = remove_masks(masked)
    if present and not replace:
        raise ActivsparseError(
            f"{name}: holds {present} masks already; use ",
            Option("replace", True),
            " to put new ones in their place",
        )

    _refuse_leftovers(masked, name)
    return masked, find_convs(masked, str(name), sums=True)


def write_requested(model: onnx.ModelProto, requested: dict[str, float]) -> None:
    """Note the requested sparsity of each masked convolution in the model's metadata."""
    for entry in [entry for entry in model.metadata_props if entry.key == REQUESTED_KEY]:
        model.metadata_props.remove(entry)
    model.metadata_props.add(key=REQUESTED_KEY, value=json.dumps(requested))


def _refuse_leftovers(model: onnx.ModelProto, name: str) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith((MASK_SUFFIX, SOURCE_SUFFIX)):
            raise ActivsparseError(
                f"{name}: constant {tensor.name!r} has the name of a mask, but is none (a mask has "
                "shape (1, 1, OH, OW) and holds 0 and 1 only); start from the dense model"
            )


def _image_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs of shape (N, C, H, W) or (N, H, W, C)."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        value
        for value in model.graph.input
        if value.name not in constants and len(value.type.tensor_type.shape.dim) == 4
    ]


def fix_sizes(model: onnx.ModelProto, sizes: InputSizes, name: str) -> None:
    """Write the sizes that are given into the model's inputs."""
    if not sizes:
        return
    constants = {tensor.name for tensor in model.graph.initializer}
    types = {
        value.name: value.type.tensor_type
        for value in model.graph.input
        if value.name not in constants
    }
    known = {
        k: tuple(d.dim_value if d.dim_value > 0 else None for d in v.shape.dim)
        if v.HasField("shape")
        else None
        for k, v in types.items()
    }
    for value, found in sizes.resolve(known, name).items():
        dims = types[value].shape.dim
        while len(dims) < len(found):
            dims.add()
        for dim, size in zip(dims, found, strict=True):
            if size is not None:
                dim.dim_value = size


def _score_size(model: onnx.ModelProto, options: MaskOptions) -> Size:
    """(H, W) of score maps."""
    size = image_size_of(model)
    if size is None and options.pattern == "random":
        raise ActivsparseError(
            "the size of its input is open; give it, for example ", _EXAMPLE_SIZE
        )
    return size or (0, 0)


def image_size_of(model: onnx.ModelProto) -> Size | None:
    """(H, W) of the first image among the inputs; None where it is open."""
    for value in _image_inputs(model):
        dims = [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
        axes = image_axes(dims) or (2, 3)
        height, width = (dims[axis] for axis in axes)
        if height and width:
            return height, width
    return None
