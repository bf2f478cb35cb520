"""A network in torch as `masks.network` takes it: the operations of one forward pass.

What torch is asked to do is seen below modules, functions and methods, where all of them have
become operators of its core. Modules only lend convolutions and norms their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from activsparse.masks.operations import Kind, Operation, Sizes, Value
from activsparse.masks.shape import ConvShape
from activsparse.train.sparsify.operators import kind_of

__all__ = ["Recorder"]

# A tensor by its place in memory: operations in place and views of a whole tensor give the same
# one. Tensors are kept alive, so no place is used twice.
_Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations of the network that runs while it is active.

    Attributes:
        operations: in the order of execution; convolutions and norms bear their modules' names.
        sizes: of all values.
        calls: how often each module ran.
        outputs: of each Conv2d, the sizes of its results.
        passed: by value the first `nn.Identity` that got it, straight from what computed it.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        """Before the network runs on `inputs`, tensors in any nesting."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._modules = dict(model.named_modules())
        self.operations: list[Operation] = []
        self.sizes: dict[Value, Sizes] = {}
        self.calls: Counter[str] = Counter()
        self.outputs: dict[str, list[tuple[int, ...]]] = {}
        self.passed: dict[Value, str] = {}
        self._running: list[_Frame] = []
        self._alive: list[Tensor] = []
        # The value of each place, None for a constant, and the places that share memory.
        self._values: dict[_Place, int | None] = {}
        self._shared: dict[int, list[_Place]] = {}
        for tensor in _tensors(inputs):
            self._set(tensor, self._new(tensor))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """While the network runs."""
        handles = []
        for name, module in self._modules.items():
            handles.append(module.register_forward_pre_hook(self._enter(name)))
            handles.append(module.register_forward_hook(self._leave(name), always_call=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def values(self, results: Any) -> list[Value]:
        """What the network computed of tensors in any nesting."""
        found = [self._values.get(_place(tensor)) for tensor in _tensors(results)]
        return [value for value in found if value is not None]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = self.values([*args, kwargs])
        result = func(*args, **kwargs)
        written = _written(func, args, kwargs)
        tensors = list({_place(t): t for t in (*written, *_tensors(result))}.values())
        if inputs:
            self._note(func, args, inputs, tensors, written)
        else:
            for tensor in tensors:
                if _place(tensor) not in self._values:
                    self._set(tensor, None)
        return result

    def _note(
        self, func: Any, args: Any, inputs: list[Value], tensors: list[Tensor], written: Any
    ) -> None:
        operator = func._schema.name.partition("::")[2]
        kind, name, shape = kind_of(operator, args, self._is_computed), None, None
        if kind is Kind.CONVOLUTION:
            inputs = self.values(args[0])
            name = self._name(_is_convolution)
            shape = None if self._is_computed(args[1]) else _conv_shape(args, tensors[0])
        elif kind is Kind.NORM:
            tensors = tensors[:1]
            name = self._name(_is_norm)
            if name is None:  # nothing a mask could be put behind
                kind = Kind.POINT
        elif operator == "copy_":
            inputs = self.values(args[1])
        if not inputs:
            return
        places = {_place(tensor) for tensor in written}
        fresh = [t for t in tensors if _place(t) in places or not self._is_input(t, inputs)]
        if not fresh:
            return
        outputs = [self._new(tensor) for tensor in fresh]
        self.operations.append(Operation(kind, tuple(inputs), tuple(outputs), name, shape))
        for tensor, value in zip(fresh, outputs, strict=True):
            self._set(tensor, value)
            if _place(tensor) in places:
                self._overwrite(tensor, value)

    def _is_computed(self, value: Any) -> bool:
        return bool(self.values(value))

    def _is_input(self, tensor: Tensor, inputs: list[Value]) -> bool:
        """Whether an operator gave back what it got."""
        return self._values.get(_place(tensor)) in inputs

    def _overwrite(self, tensor: Tensor, value: int) -> None:
        """Other views of the memory that was written hold something new as well."""
        place = _place(tensor)
        for other in list(self._shared[place[0]]):
            if other != place and _overlap(other, place):
                before = self._values[other]
                inputs = (value,) if before is None else (before, value)
                after = len(self.sizes)
                self.sizes[after] = other[2]
                self.operations.append(Operation(Kind.OTHER, inputs, (after,)))
                self._values[other] = after

    def _new(self, tensor: Tensor) -> int:
        value = len(self.sizes)
        self.sizes[value] = tuple(int(size) for size in tensor.shape)
        return value

    def _set(self, tensor: Tensor, value: int | None) -> None:
        place = _place(tensor)
        if place not in self._values:
            self._shared.setdefault(place[0], []).append(place)
        self._values[place] = value
        self._alive.append(tensor)

    def _name(self, is_one: Callable[[nn.Module], bool]) -> str | None:
        """Name of the innermost running module of a kind, which lends it once."""
        frames = [frame for frame in self._running if is_one(frame.module)]
        name = frames[-1].name if frames and not frames[-1].lent else None
        for frame in frames:
            frame.lent = True
        return name

    def _enter(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self.calls[name] += 1
            self._running.append(_Frame(name, module, self.values(args)))

        return hook

    def _leave(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            frame = self._running.pop()
            if not isinstance(output, Tensor):
                return
            if isinstance(module, nn.Conv2d):
                self.outputs.setdefault(name, []).append(tuple(output.shape))
            if isinstance(module, nn.Identity) and self.operations:
                latest = self.operations[-1].outputs
                for value in (v for v in self.values(output) if v in latest):
                    self.passed.setdefault(value, name)
            if not frame.lent and frame.inputs:
                self._replace(frame, output)

        return hook

    def _replace(self, frame: _Frame, output: Tensor) -> None:
        """A convolution or norm that does its work with other operators counts as one of torch."""
        module, shape = frame.module, None
        if isinstance(module, nn.Conv2d):
            kind = Kind.CONVOLUTION
            shape = ConvShape(
                kernel=pair(module.kernel_size),
                stride=pair(module.stride),
                group=module.groups,
                in_channels=module.in_channels,
                out_channels=module.out_channels,
                output=pair(output.shape[-2:]),
                dilation=pair(module.dilation),
            )
        elif _is_norm(module):
            kind = Kind.NORM
        else:
            return
        value = self._new(output)
        operation = Operation(kind, tuple(frame.inputs[:1]), (value,), frame.name, shape)
        self.operations.append(operation)
        self._set(output, value)


class _Frame:
    """A module that runs; `lent` says whether it has named an operation."""

    def __init__(self, name: str, module: nn.Module, inputs: list[Value]) -> None:
        self.name = name
        self.module = module
        self.inputs = inputs
        self.lent = False


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a batch norm, those of libraries included, frozen or with an activation.

    Others take their statistics from all positions at run time, and need their input computed.
    """
    named = "BatchNorm" in type(module).__name__
    return named and isinstance(getattr(module, "running_mean", None), Tensor)


def _place(tensor: Tensor) -> _Place:
    storage = tensor.untyped_storage()._cdata
    return storage, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()


def _overlap(one: _Place, other: _Place) -> bool:
    spans = []
    for _, offset, sizes, strides in (one, other):
        steps = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        spans.append((offset, offset + steps))
    (start, end), (begin, stop) = spans
    return start <= stop and begin <= end


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors an operator changes."""
    if not func._schema.is_mutable:
        return []
    arguments = func._schema.arguments
    return [
        tensor
        for i, argument in enumerate(arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(args[i] if i < len(args) else kwargs.get(argument.name))
    ]


def _tensors(value: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(value)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def _conv_shape(args: Any, output: Tensor) -> ConvShape:
    _, weight, _, stride, _, dilation, _, _, groups = args
    return ConvShape(
        kernel=pair(weight.shape[2:]),
        stride=pair(stride),
        group=groups,
        in_channels=groups * weight.shape[1],
        out_channels=weight.shape[0],
        output=pair(output.shape[2:]),
        dilation=pair(dilation),
    )


def pair(value: Any) -> tuple[int, int]:
    """(height, width) of two numbers, or of one that stands for both."""
    return int(value[0]), int(value[-1])
