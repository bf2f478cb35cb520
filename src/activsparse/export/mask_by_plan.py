"""The masks of a mask plan in a dense ONNX model."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from activsparse.errors import ActivsparseError
from activsparse.export.convs import find_convs
from activsparse.export.insert import insert_masks
from activsparse.export.mask import (
    MaskedLayer,
    MaskReport,
    dense_copy,
    image_size_of,
    macs_of,
    write_requested,
)
from activsparse.input_sizes import InputSizes
from activsparse.masks import sparsity_of
from activsparse.masks.mask_plan import MaskPlan

__all__ = ["mask_by_plan"]


def mask_by_plan(
    model: onnx.ModelProto,
    plan: MaskPlan,
    *,
    replace: bool = False,
    input_size: tuple[int, int] | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    name: str = "model",
) -> tuple[onnx.ModelProto, MaskReport]:
    """Return a copy of `model` with the plan's masks, bit for bit, and a report.

    Args:
        model: a dense model of the plan's network; unchanged.
        plan: its masks.
        replace: take masks out that are there already, instead of refusing.
        input_size: see `mask_model`.
        input_shapes: see `mask_model`.
        batch: see `mask_model`.
        name: of the model, for error messages.

    Raises:
        ActivsparseError: the plan is of another network or size, or see `mask_model`.
    """
    sizes = InputSizes(input_shapes or {}, input_size, batch)
    masked, convs = dense_copy(model, sizes, replace=replace, name=name)
    try:
        plan.check({conv.name: conv.shape for conv in convs if conv.shape}, image_size_of(masked))
        masks = plan.masks()
        if any(conv.part_of and conv.name in masks for conv in convs):
            convs = find_convs(masked, name)  # where it was planned, nothing could mask the sum
    except ActivsparseError as error:
        raise ActivsparseError(f"{name}: ", error) from error
    report = MaskReport([], {}, macs_of(convs))
    made = []
    for conv in convs:
        if conv.shape is None or conv.name not in masks:
            report.dense[conv.name] = conv.problem or "mask plan"
            continue
        layer, mask = plan.layers[conv.name], masks[conv.name]
        made.append((conv, mask, layer.fill))
        achieved = sparsity_of(mask)
        report.layers.append(
            MaskedLayer(conv.name, conv.shape, layer.exact.pattern, achieved, achieved)
        )
    insert_masks(masked, made, plan.site)
    write_requested(masked, {layer.name: layer.requested for layer in report.layers})
    return masked, report
