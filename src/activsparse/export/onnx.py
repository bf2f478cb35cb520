"""torch networks, sparsified or not, to ONNX files of standard operators."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from activsparse.errors import ActivsparseError, Option
from activsparse.export.bake import bake
from activsparse.export.check import Check, compare
from activsparse.export.insert import remove_masks
from activsparse.export.mask import REQUESTED_KEY, write_requested
from activsparse.export.model_file import write_model
from activsparse.export.name_weights import name_weights
from activsparse.export.normalise import place_mask, write_masks
from activsparse.masks import Mask, sparsity_of
from activsparse.train.sparsify.hooks import HeldMask, held_masks, hold_masks
from activsparse.values import check_count

__all__ = ["DEFAULT_OPSET", "Exported", "convert", "export_onnx", "without_masks"]

DEFAULT_OPSET = 18
"""The oldest operator set torch's exporter writes by itself; most engines know it."""


@dataclass(frozen=True, repr=False)
class Exported:
    """An ONNX model, its masks by name of the convolution, its check (None: not asked for)."""

    model: onnx.ModelProto
    masks: dict[str, Mask]
    check: Check | None

    def __repr__(self) -> str:
        """What was exported, not its megabytes of weights."""
        nodes = len(self.model.graph.node)
        lines = [f"Exported({nodes} nodes, {len(self.masks)} masked layers, check={self.check})"]
        lines += [
            f"  {name} {mask.shape[0]}x{mask.shape[1]}: {sparsity_of(mask):.3f} skipped"
            for name, mask in self.masks.items()
        ]
        return "\n".join(lines)


def export_onnx(
    model: nn.Module, example_input: Any, path: str | os.PathLike[str], **options: Any
) -> Exported:
    """Export `model` to the file `path`; `options` as in `convert`.

    Raises:
        ActivsparseError: see `convert`; or the path is not writable. No file is left then.
    """
    exported = convert(model, example_input, **options)
    write_model(exported.model, path)
    return exported


def convert(
    model: nn.Module,
    example_input: Any,
    *,
    requested: Mapping[str, float] | None = None,
    opset: int = DEFAULT_OPSET,
    dynamic_batch: bool = False,
    verify: bool = True,
) -> Exported:
    """Turn `model` into an ONNX model of standard operators.

    Masks become what docs/architecture.md says: a Mul by the (1, 1, OH, OW) constant
    `<conv name>.activation_mask`, or a Gather for fill `nearest`.

    Args:
        model: any module, also pruned or parametrised by torch, compiled or data parallel; exported
            in evaluation mode, unchanged.
        example_input: a tensor (N, C, H, W), or a tuple of the model's arguments.
        requested: requested sparsity by name of the convolution, noted in the model's metadata.
        opset: ONNX operator set.
        dynamic_batch: leave the first size of all inputs open.
        verify: compare with torch, see `check.compare`.

    Raises:
        ActivsparseError: the example holds no values or the network does not run on it, torch
            cannot copy or export the network, a masked layer was replaced, a mask is an average of
            several or not in the result, or the check fails.
    """
    check_count("opset", opset)
    inputs = _arguments(example_input)
    frozen = bake(model)
    held = held_masks(frozen)
    # What a network says of its input, or of masks of another size, it says best by itself.
    _try(frozen, inputs)
    with hold_masks(held, place_mask):
        proto = _torch_export(frozen, inputs, opset, dynamic_batch)
    name_weights(proto, frozen)
    _drop_notes(proto)
    masks = write_masks(proto, held)
    _require_masks(frozen, held, masks)
    if requested:
        write_requested(proto, {name: requested[name] for name in masks if name in requested})
    check = compare(frozen, proto, inputs) if verify else None
    if check is not None and not check.passed:
        raise ActivsparseError(
            f"the exported {type(model).__name__} differs from torch by {check.error:.3g}, more "
            f"than rounding explains ({check.bound:.3g}); try another ",
            Option("opset"),
            ", or ",
            Option("verify", False),
        )
    return Exported(proto, masks, check)


def _arguments(example_input: Any) -> tuple[Any, ...]:
    """The network's arguments, their tensors in memory and without gradients."""
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
    cause = None
    if not tensors:
        cause = f"a {type(example_input).__name__} holds no tensor"
    elif isinstance(inputs[-1], dict):
        cause = "torch exports no dict of inputs; wrap the network so that it takes tensors"
    elif any(x.is_meta for x in tensors):
        cause = "is on the meta device and holds no values"
    elif not all(x.numel() for x in tensors):
        cause = "holds an empty tensor"
    if cause is not None:
        raise ActivsparseError(
            Option("example_input"),
            f": {cause}; give a tensor of torch, (N, C, H, W), or a tuple of the model's arguments",
        )
    detached: tuple[Any, ...] = pytree.tree_map(
        lambda x: x.detach().cpu() if isinstance(x, Tensor) else x, inputs
    )
    return detached


def _try(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Whether the network runs on the example and gives finite tensors."""
    name = type(model).__name__
    try:
        with torch.no_grad():
            outputs = model(*inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        tensors = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
        kinds = [f"{tuple(x.shape)} {x.dtype}" for x in tensors]
        raise ActivsparseError(
            Option("example_input"),
            f": {name} does not run on {', '.join(kinds)} ({_cause(error)}); give what it takes, "
            "of the type of its weights",
        ) from error
    tensors = [x for x in pytree.tree_leaves(outputs) if isinstance(x, Tensor)]
    if not tensors:
        raise ActivsparseError(f"{name} gives a {type(outputs).__name__}, no tensor; return one")
    if any(x.isnan().any() for x in tensors):
        raise ActivsparseError(
            f"{name} gives values that are no numbers; check its weights and ",
            Option("example_input"),
        )


def _cause(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def without_masks(model: onnx.ModelProto) -> onnx.ModelProto:
    """The dense model with the same weights."""
    dense = onnx.ModelProto()
    dense.CopyFrom(model)
    remove_masks(dense)
    for entry in [entry for entry in dense.metadata_props if entry.key == REQUESTED_KEY]:
        dense.metadata_props.remove(entry)
    return dense


def _torch_export(
    model: nn.Module, inputs: tuple[Any, ...], opset: int, dynamic_batch: bool
) -> onnx.ModelProto:
    count = sum(isinstance(x, Tensor) for x in pytree.tree_leaves(inputs))
    names = ["input"] if count == 1 else None
    shapes = None
    if dynamic_batch:
        # The exporter takes a size of 1 for a constant.
        inputs = pytree.tree_map(
            lambda x: torch.cat([x, x]) if isinstance(x, Tensor) and len(x) == 1 else x, inputs
        )
        batch = torch.export.Dim("batch")
        shapes = pytree.tree_map(lambda x: {0: batch} if isinstance(x, Tensor) else None, inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                inputs,
                None,
                dynamo=True,
                opset_version=opset,
                input_names=names,
                dynamic_shapes=shapes,
                optimize=True,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise ActivsparseError(
            f"torch cannot export {type(model).__name__} to ONNX opset {opset} ({_cause(cause)}); "
            "see torch.onnx.export for what networks may contain"
        ) from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    written = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if written != opset:
        raise ActivsparseError(
            f"torch writes {type(model).__name__} in opset {written}, not {opset}; use ",
            Option("opset", written),
        )
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress, warnings and log lines to ourselves."""
    names = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _drop_notes(proto: onnx.ModelProto) -> None:
    """Remove torch's notes: they hold source lines with paths of the machine it ran on."""
    graph = proto.graph
    for holder in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        holder.ClearField("metadata_props")
        holder.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
        tensor.ClearField("doc_string")
    if len(graph.output) == 1:
        _rename(graph, graph.output[0].name, "output")


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.output, *graph.value_info):
        if value.name == old:
            value.name = new


def _require_masks(
    model: nn.Module, held: Mapping[str, HeldMask], masks: Mapping[str, Mask]
) -> None:
    """Every mask with a hole must have come through; the exporter drops what is not used."""
    lost = [name for name, mask in held.items() if name not in masks and not mask.mask.all()]
    if lost:
        raise ActivsparseError(
            f"{type(model).__name__} has {len(held)} masks, but {len(lost)} (such as {lost[0]}) "
            "did not come through the export; is every masked layer used?"
        )
