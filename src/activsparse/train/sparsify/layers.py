"""Finding the convolutions of a network in torch: one forward pass, recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError, Option
from activsparse.masks import ConvShape
from activsparse.masks.network import Convolution, find_convolutions
from activsparse.masks.operations import Value
from activsparse.masks.parallel import part_problem
from activsparse.train.sparsify.hooks import without_masks
from activsparse.train.sparsify.modes import evaluating
from activsparse.train.sparsify.recorder import Recorder, pair

__all__ = ["ConvLayer", "find_layers", "image_size"]


@dataclass(frozen=True)
class ConvLayer:
    """A convolution as it was met in the forward pass.

    Attributes:
        name: its module name.
        norm: the module after which the site `norm` masks: the batch norm that consumes the
            convolution's output, or None where there is none. Of parallel branches, what passes
            their sum on, after which both sites mask.
        shape: kernel, stride, groups, channels and output size.
        block: the phase of its pattern, see `assign_phases`.
        shortcut, head, stem: whether that is its role, see `masks.network`.
        added: whether it ends a residual branch, see `masks.network`.
        enclosing: class names of the convolution and the modules around it, innermost first,
            without the model's.
        problem: why it cannot be masked, or None.
        source: name of the convolution whose normalised output, through nothing but activations
            that keep zero, is its input: a mask there leaves zeros here. None where there is none.
        reader: name of the convolution that alone reads its output, through nothing but functions
            of each element, or None.
        sums: whether its output is a sum of parallel branches, see `masks.parallel`.
    """

    name: str
    norm: str | None
    shape: ConvShape
    block: int
    shortcut: bool
    added: bool
    head: bool
    enclosing: tuple[str, ...]
    problem: str | None
    source: str | None = None
    stem: bool = False
    reader: str | None = None
    sums: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names that globs are matched with."""
        return (self.name,)

    @property
    def phase(self) -> int:
        """Phase of its pattern."""
        return self.block

    @property
    def normed(self) -> bool:
        """Whether a batch norm alone reads it."""
        return self.norm is not None and not self.sums

    def host(self, site: str) -> str:
        """Name of the module after which it is masked."""
        if self.norm is not None and (site == "norm" or self.sums):
            return self.norm
        return self.name

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, dense."""
        s = self.shape
        return (
            s.output[0] * s.output[1] * s.out_channels * s.kernel[0] * s.kernel[1]
            * (s.in_channels // s.group)
        )  # fmt: skip


def find_layers(model: nn.Module, example_input: Tensor | tuple[Any, ...]) -> list[ConvLayer]:
    """All Conv2d layers that run on `example_input`, in the order of execution.

    Args:
        model: any module; it is run once in evaluation mode and left as it was.
        example_input: what the model takes, (N, C, H, W) or a tuple of arguments.

    Raises:
        ActivsparseError: the example holds no values, the model does not run on it, or has no
            convolution.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    for x in inputs:
        if isinstance(x, Tensor) and (x.is_meta or not x.numel()):
            kind = "is on the meta device and" if x.is_meta else f"of shape {tuple(x.shape)}"
            raise ActivsparseError(
                Option("example_input"), f": {kind} holds no values; give one image at least, "
                "on the device of the network's weights"
            )  # fmt: skip
    _require_weights(model)
    recorder = Recorder(model, inputs)
    try:
        with torch.no_grad(), evaluating(model), without_masks(model), recorder.recording():
            results = model(*inputs)
    except Exception as error:  # a network may be anybody's code
        sizes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
        raise ActivsparseError(
            f"{type(model).__name__} does not run on an example input of shape {sizes} ({error}); "
            "pass one it accepts"
        ) from error

    def passed(value: Value) -> bool:
        host = recorder.passed.get(value)
        return host is not None and recorder.calls[host] == 1

    network = find_convolutions(
        recorder.operations, recorder.values(results), recorder.sizes, passed
    )
    calls: dict[str, list[Convolution]] = {}
    leaders: dict[str, str] = {}
    for conv in network:
        if conv.operation.name is not None:
            calls.setdefault(conv.operation.name, []).append(conv)
        for part in conv.parts:
            if part.name is not None:
                calls.setdefault(part.name, []).append(replace(conv, operation=part, parts=()))
                leaders[part.name] = str(conv.operation.name)
    if not calls:
        raise ActivsparseError(
            f"{type(model).__name__} runs no Conv2d layer; there is nothing to mask"
            f"{' (of one or three axes none is)' if _has_other_axes(model) else ''}"
        )
    modules = dict(model.named_modules())
    layers = [_layer(name, found, network, modules, recorder) for name, found in calls.items()]
    return [
        replace(layer, problem=part_problem(leaders[layer.name]), norm=None)
        if layer.name in leaders
        else layer
        for layer in layers
    ]


def image_size(example_input: Tensor | tuple[Any, ...]) -> tuple[int, int]:
    """Height and width of the first image (N, C, H, W) among a network's arguments.

    Of the first tensor where none has four axes.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    images = [x for x in tensors if x.dim() == 4] or [x for x in tensors if x.dim() > 1]
    if not images:
        raise ActivsparseError(
            Option("example_input"), ": holds no image; give one (N, C, H, W) among the arguments"
        )
    return int(images[0].shape[-2]), int(images[0].shape[-1])


def _require_weights(model: nn.Module) -> None:
    """What no forward pass tells of by itself: a network that is frozen, or not yet there."""
    name = type(model).__name__
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ActivsparseError(
            f"{name}: is compiled by torch.jit, and takes no hooks; give the nn.Module it was made "
            "of, and script or trace what comes of it"
        )
    for key, value in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise ActivsparseError(
                f"{name}: '{key}' has no size yet; run the network once, model(example_input), "
                "so that lazy layers know theirs"
            )
        if value.is_meta:
            raise ActivsparseError(
                f"{name}: '{key}' is on the meta device and holds no values; load weights into it, "
                "by model.to_empty and model.load_state_dict"
            )


def _has_other_axes(model: nn.Module) -> bool:
    return any(isinstance(module, (nn.Conv1d, nn.Conv3d)) for module in model.modules())


def _layer(
    name: str,
    calls: list[Convolution],
    network: list[Convolution],
    modules: dict[str, nn.Module],
    recorder: Recorder,
) -> ConvLayer:
    conv, first = modules[name], calls[0]
    assert isinstance(conv, nn.Conv2d)
    sizes = {recorder.sizes[call.operation.output][2:] for call in calls}
    output = pair(recorder.sizes[first.operation.output][2:])
    problem = None
    if len(sizes) > 1:
        problem = "it runs several times with outputs of different sizes"
    elif output == (1, 1):
        problem = "its output has a single position"
    return ConvLayer(
        name=name,
        norm=_masked_norm(first, modules, recorder) if len(calls) == 1 else None,
        sums=bool(first.parts),
        shape=ConvShape(
            kernel=pair(conv.kernel_size),
            stride=pair(conv.stride),
            group=conv.groups,
            in_channels=conv.in_channels,
            out_channels=conv.out_channels,
            output=output,
            dilation=pair(conv.dilation),
        ),
        block=first.phase,
        shortcut=first.role == "shortcut",
        added=any(call.added for call in calls),
        head=all(call.role == "head" for call in calls),
        enclosing=tuple(type(modules[n]).__name__ for n in [name, *_parents(name)] if n),
        problem=problem,
        source=None if first.source is None else network[first.source].operation.name,
        stem=first.role == "stem",
        reader=None
        if first.reader is None or len(calls) > 1
        else network[first.reader].operation.name,
    )


def _masked_norm(
    conv: Convolution, modules: dict[str, nn.Module], recorder: Recorder
) -> str | None:
    """The module that gives the normalised output of `conv` alone, before any activation."""
    if conv.parts:
        return recorder.passed[conv.operation.output]
    name = None if conv.norm is None else conv.norm.name
    if name is None or recorder.calls[name] != 1:
        return None
    # timm's BatchNormAct2d activates inside, after the child `drop`, which passes its input
    # through.
    inner = f"{name}.drop"
    if inner in modules and f"{name}.act" in modules and recorder.calls[inner] == 1:
        return inner
    return name


def _parents(name: str) -> list[str]:
    """Enclosing module names of `name`, innermost first, the root ("") last."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, -1, -1)]
