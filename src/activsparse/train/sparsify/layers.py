"""Finding the convolutions of a network: one forward pass with hooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from activsparse.errors import ActivsparseError
from activsparse.masks import ConvShape, assign_phases
from activsparse.masks.roles import stems
from activsparse.train.sparsify.heads import HeadTracker

__all__ = ["ConvLayer", "find_layers"]

# Names of torch's functions that give zero for zero; a batch norm's output is what is masked.
_KEEPING_ZERO = (
    "batch_norm",
    "relu",
    "relu_",
    "relu6",
    "hardtanh",
    "hardtanh_",
    "hardswish",
    "leaky_relu",
    "leaky_relu_",
    "silu",
    "dropout",
)


@dataclass(frozen=True)
class ConvLayer:
    """A convolution as it was met in the forward pass.

    Attributes:
        name: its module name.
        norm: the module after which the site `norm` masks: the batch norm that consumes the
            convolution's output, or None where there is none.
        shape: kernel, stride, groups, channels and output size.
        block: the phase of its pattern, see `assign_phases`.
        shortcut: whether it is the 1x1 projection that a residual addition adds to a branch which
            starts from the same tensor, pooled or not.
        added: whether a residual addition adds its output, normalised, to another map.
        head: whether it is a 1x1 convolution whose positions are the network's answer, as in
            detectors (see `heads`).
        enclosing: class names of the convolution and the modules around it, innermost first,
            without the model's.
        problem: why it cannot be masked, or None.
        source: name of the convolution whose normalised output, through nothing but activations
            that keep zero, is its input: a mask there leaves zeros here. None where there is none.
        stem: whether it is of the network's stem, see `masks.roles`.
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
        return self.norm is not None

    def host(self, site: str) -> str:
        """Name of the module after which it is masked."""
        return self.norm if site == "norm" and self.norm is not None else self.name

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, dense."""
        s = self.shape
        return (
            s.output[0] * s.output[1] * s.out_channels * s.kernel[0] * s.kernel[1]
            * (s.in_channels // s.group)
        )  # fmt: skip


class _Recorder:
    """What a forward pass tells: convolutions in order, their norms, residual blocks."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.outputs: dict[str, list[Tensor]] = {}
        self.norms: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.additions = 0
        self.blocks: dict[str, int] = {}
        self.added: set[str] = set()
        self.sums: list[tuple[str, str]] = []
        # Tensors by identity; they are kept alive, so no identity is used twice.
        self.alive: list[Tensor] = []
        self.producer: dict[int, str] = {}
        self.normalised: dict[int, str] = {}
        self.readers: dict[int, list[str]] = {}
        # What convolution's output a tensor is zero with, and the one each convolution's input is.
        self.zero_with: dict[int, str] = {}
        self.sources: dict[str, str | None] = {}
        # What a map was made of alone: by a norm, an activation, a pooling. And who reads a map.
        self.origins: dict[int, Tensor] = {}
        self.reads: Counter[int] = Counter()
        self.inputs: dict[str, Tensor] = {}
        self.heads = HeadTracker()

    @contextmanager
    def recording(self) -> Iterator[None]:
        handles = []
        for name, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave(name), always_call=True))
        try:
            with _Functions(self):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            # Other norms take their statistics from all positions at run time, so their input must
            # be computed.
            if "BatchNorm" in type(module).__name__ and args:
                conv = self.producer.get(id(args[0]))
                if conv is not None:
                    self.norms[conv] = name

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if isinstance(module, nn.Conv2d):
                self.outputs.setdefault(name, []).append(output)
                self.producer[id(output)] = name
                self.blocks.setdefault(name, self.additions)
                self.zero_with[id(output)] = name
                self.heads.produced(name, output)
                if args:
                    self.sources.setdefault(name, self.zero_with.get(id(args[0])))
                    self.inputs.setdefault(name, args[0])
                    for tensor in self.back(args[0]):
                        self.readers.setdefault(id(tensor), []).append(name)
                    self.alive.append(args[0])
            elif "BatchNorm" in type(module).__name__ and args and id(args[0]) in self.producer:
                self.normalised[id(output)] = self.producer[id(args[0])]
                self.alive.append(output)

        return hook

    def masked_norm(self, conv: str) -> str | None:
        """The module that gives the normalised output of `conv` alone, before any activation."""
        name = self.norms.get(conv)
        if name is None or self.calls[name] != 1:
            return None
        # timm's BatchNormAct2d activates inside, after the child `drop`, which passes its input
        # through.
        inner = f"{name}.drop"
        if inner in self.modules and f"{name}.act" in self.modules and self.calls.get(inner) == 1:
            return inner
        return name

    def add(self, *maps: Tensor) -> None:
        """Note a residual addition and the convolutions whose outputs it adds."""
        self.additions += 1
        left, right = (self.zero_with.get(id(m)) for m in maps)
        if left is not None and right is not None:
            self.sums.append((left, right))
        for name in (self.normalised.get(id(m), self.producer.get(id(m))) for m in maps):
            if name is not None:
                self.added.add(name)

    def follow(self, function: str, args: Any, result: Any) -> None:
        """Note whether a function's result is zero with the same convolution as its input."""
        if not isinstance(result, Tensor):
            return
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is result:  # changed in place: no longer a convolution's or norm's output
            self.producer.pop(id(result), None)
            self.normalised.pop(id(result), None)
        conv = self.zero_with.get(id(first)) if function in _KEEPING_ZERO else None
        if conv is not None:
            self.zero_with[id(result)] = conv
            self.alive.append(result)
        else:
            self.zero_with.pop(id(result), None)  # changed in place, or a new one

    def derive(self, args: Any, result: Any) -> None:
        """Note what one map was made of alone."""
        maps = [a for a in args if isinstance(a, Tensor) and a.ndim == 4]
        if result is not None and any(result is map_ for map_ in maps):
            return  # in place: the same map still
        results = result if isinstance(result, tuple | list) else (result,)
        if not any(isinstance(value, Tensor) for value in results):
            return  # a size
        self.reads.update(id(map_) for map_ in maps)
        self.alive.extend(maps)
        if len(maps) == 1 and isinstance(result, Tensor) and result.ndim == 4:
            self.origins[id(result)] = maps[0]
            self.alive.append(result)

    def back(self, tensor: Tensor) -> Iterator[Tensor]:
        """The map itself and what it was made of, back to a convolution or to where two meet."""
        yield tensor
        while (before := self.origins.get(id(tensor))) is not None:
            yield (tensor := before)

    def is_shortcut(self, conv: str) -> bool:
        """Whether `conv`, a 1x1 convolution, is added to what begins where it does."""
        together = (names for names in self.readers.values() if conv in names)
        return conv in self.added and any(len(set(names)) > 1 for names in together)

    def follows(self, conv: str) -> str | None:
        """The convolution whose map `conv` alone reads, at its size."""
        if conv not in self.inputs:
            return None
        tensor = self.inputs[conv]
        for tensor in self.back(self.inputs[conv]):
            if self.reads[id(tensor)] > 1 or tensor.shape[2:] != self.inputs[conv].shape[2:]:
                return None
        return next((n for n, made in self.outputs.items() if made[0] is tensor), None)


class _Functions(TorchFunctionMode):
    """Notes residual additions (sums of two feature maps of one size) and what keeps zeros."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        maps = [a for a in args[:2] if isinstance(a, Tensor) and a.ndim == 4]
        name = getattr(func, "__name__", "")
        is_addition = name in ("add", "add_", "__iadd__")
        if len(maps) == 2 and is_addition and maps[0].shape == maps[1].shape:
            self.recorder.add(*maps)
        result = func(*args, **(kwargs or {}))
        self.recorder.derive(args, result)
        self.recorder.follow(name, args, result)
        self.recorder.heads.follow(name, args, result)
        return result


def find_layers(model: nn.Module, example_input: Tensor | tuple[Any, ...]) -> list[ConvLayer]:
    """All Conv2d layers that run on `example_input`, in the order of execution.

    Args:
        model: any module; it is run once in evaluation mode and left as it was.
        example_input: what the model takes, (N, C, H, W) or a tuple of arguments that starts with
            it.

    Raises:
        ActivsparseError: the model does not run on the example, or has no convolution.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    recorder = _Recorder(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad(), recorder.recording():
            model(*inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        sizes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
        raise ActivsparseError(
            f"{type(model).__name__} does not run on an example input of shape {sizes} ({error}); "
            "pass one it accepts"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not recorder.outputs:
        raise ActivsparseError(
            f"{type(model).__name__} runs no Conv2d layer; there is nothing to mask"
        )

    layers = [
        _layer(recorder, name, outputs, recorder.blocks[name] if recorder.additions else index)
        for index, (name, outputs) in enumerate(recorder.outputs.items())
    ]
    order = {layer.name: index for index, layer in enumerate(layers)}
    phases = assign_phases(
        [layer.block for layer in layers],
        [None if layer.source is None else order[layer.source] for layer in layers],
        [layer.shape.pointwise for layer in layers],
        [(order[left], order[right]) for left, right in recorder.sums],
    )
    befores = [recorder.follows(layer.name) for layer in layers]
    stem = stems(
        [layer.shape for layer in layers],
        [place == 0 for place in range(len(layers))],
        [None if before is None else order[before] for before in befores],
    )
    return [
        replace(layer, block=phase, stem=is_stem)
        for layer, phase, is_stem in zip(layers, phases, stem, strict=True)
    ]


def _layer(recorder: _Recorder, name: str, outputs: list[Tensor], block: int) -> ConvLayer:
    conv = recorder.modules[name]
    assert isinstance(conv, nn.Conv2d)
    sizes = {(int(output.shape[-2]), int(output.shape[-1])) for output in outputs}
    output = next(iter(sizes))
    problem = None
    if len(sizes) > 1:
        problem = "it runs several times with outputs of different sizes"
    elif output == (1, 1):
        problem = "its output has a single position"
    return ConvLayer(
        name=name,
        norm=recorder.masked_norm(name) if len(outputs) == 1 else None,
        shape=ConvShape(
            kernel=_pair(conv.kernel_size),
            stride=_pair(conv.stride),
            group=conv.groups,
            in_channels=conv.in_channels,
            out_channels=conv.out_channels,
            output=output,
            dilation=_pair(conv.dilation),
        ),
        block=block,
        shortcut=_pair(conv.kernel_size) == (1, 1) and recorder.is_shortcut(name),
        added=name in recorder.added,
        head=_pair(conv.kernel_size) == (1, 1) and name not in recorder.heads.interior,
        enclosing=tuple(type(recorder.modules[n]).__name__ for n in [name, *_parents(name)] if n),
        problem=problem,
        source=recorder.sources.get(name),
    )


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[1]


def _parents(name: str) -> list[str]:
    """Enclosing module names of `name`, innermost first, the root ("") last."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts) - 1, -1, -1)]
