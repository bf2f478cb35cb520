"""The mask inside the network: a buffer and a forward hook on each masked layer's host.

Hooks are plain functions and everything they read hangs on the module itself, so deepcopy,
pickling, `torch.compile` and `torch.export` treat a masked network like any other.

The modules that make a masked layer, its convolution, norm and host, carry its name and the
Sparsifier's state. Whoever replaces one of them (fuses norms, converts them, quantises) leaves
fewer than there were, or strangers with another state: so a lost mask is noticed, in copies and
parts of the model too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.masks import Mask, nearest_source
from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.train.sparsify.fill import fill_nearest, fill_zero
from activsparse.train.sparsify.state import SparsifierState

__all__ = [
    "HeldMask",
    "Links",
    "attach_mask",
    "copy_masks",
    "held_masks",
    "hold_masks",
    "read_mask",
    "remove_masks",
    "unwrapped",
]

_MODE = "activation_state"
_LAYER = "activation_layer"
_PARTS = "activation_parts"


def attach_mask(
    layer: str,
    parts: Sequence[nn.Module],
    shape: tuple[int, int],
    fill: str,
    state: SparsifierState,
) -> None:
    """Give a layer an all-kept mask of `shape` (OH, OW).

    Args:
        layer: name of its convolution.
        parts: what makes the layer: its convolution, its norm if there is one, and last its host,
            to whose output (N, C, OH, OW) the mask is applied.
        shape: of the mask.
        fill: `zero` or `nearest`.
        state: of the Sparsifier.
    """
    host = parts[-1]
    state.shapes[layer] = shape
    tensor = next((p for part in parts for p in part.parameters()), None)
    device = None if tensor is None else tensor.device
    host.register_buffer(MASK, torch.ones(1, 1, *shape, device=device))
    if fill == "nearest":
        host.register_buffer(SOURCE, torch.arange(shape[0] * shape[1], device=device))
    for part in parts:
        # Past nn.Module.__setattr__, which would make the state a child of every part.
        object.__setattr__(part, _MODE, state)
        object.__setattr__(part, _LAYER, layer)
    state.__dict__.setdefault(_PARTS, {})[layer] = len(set(parts))
    host.register_forward_hook(_fill_nearest if fill == "nearest" else _fill_zero)


@dataclass(frozen=True)
class HeldMask:
    """A mask as a model holds it: bool (OH, OW), True = computed, its fill and its host."""

    mask: Mask
    fill: str
    host: nn.Module


def held_masks(model: nn.Module) -> dict[str, HeldMask]:
    """The masks `model` holds, by the names of their convolutions in it.

    Args:
        model: sparsified, or a copy, a part or a wrapper of such a one.

    Raises:
        ActivsparseError: a part of a masked layer was replaced, its hook is gone, or a mask is
            none (see `read_mask`).
    """
    parts: dict[int, Counter[str]] = {}
    states = {id(m): m for m in model.modules() if isinstance(m, SparsifierState)}
    complete = set(states)
    convs, hosts = {}, {}
    for name, module in model.named_modules():
        if _LAYER not in module.__dict__:
            continue
        state, layer = module.__dict__[_MODE], module.__dict__[_LAYER]
        states[id(state)] = state
        parts.setdefault(id(state), Counter())[layer] += 1
        if isinstance(module, nn.Conv2d):
            convs[id(state), layer] = name
        if MASK in module._buffers:
            hosts[id(state), layer] = module
    for key, state in states.items():
        expected: dict[str, int] = state.__dict__.get(_PARTS, {})
        found = parts.get(key, Counter())
        # The whole model must hold all layers, a part of it those that it has.
        for layer in expected if key in complete else found:
            if found[layer] != expected[layer] or not _is_hooked(hosts.get((key, layer))):
                raise _replaced(layer)
    return {
        convs.get(key, key[1]): HeldMask(
            read_mask(host, key[1]), "nearest" if SOURCE in host._buffers else "zero", host
        )
        for key, host in hosts.items()
    }


def read_mask(host: nn.Module, layer: str) -> Mask:
    """The mask on `host`: bool (OH, OW), True = computed.

    An average of equal masks may round its ones, all in the same way; an average of several holds
    numbers between, and is no mask.

    Raises:
        ActivsparseError: it is an average of several masks.
    """
    values = host.get_buffer(MASK)[0, 0].detach().float().cpu().numpy()
    mask: Mask = values != 0
    sound = bool((values[mask] == values.max()).all()) and abs(float(values.max()) - 1) < 0.01
    if sound and SOURCE in host._buffers:
        source = host.get_buffer(SOURCE).cpu().numpy()
        sound = np.array_equal(source, nearest_source(mask))
    if not sound:
        raise ActivsparseError(
            f"layer {layer}: its mask is an average of several masks, which is none; give an "
            "average of weights the masks of the model by its Sparsifier's copy_masks_to(average)"
        )
    return mask


@contextmanager
def hold_masks(
    masks: Mapping[str, HeldMask], hook: Callable[[str], Callable[..., Any]]
) -> Iterator[None]:
    """Let `hook(name)` take the place of the hooks that apply `masks`."""
    kept = [dict(held.host._forward_hooks) for held in masks.values()]
    try:
        for name, held in masks.items():
            for key, function in held.host._forward_hooks.items():
                if function in _HOOKS:
                    held.host._forward_hooks[key] = hook(name)
        yield
    finally:
        for held, hooks in zip(masks.values(), kept, strict=True):
            held.host._forward_hooks.update(hooks)


@contextmanager
def without_masks(model: nn.Module) -> Iterator[None]:
    """Let `model` run dense, as it would without what a `Sparsifier` added."""
    kept = [(module, dict(module._forward_hooks)) for module in model.modules()]
    try:
        for module, hooks in kept:
            for key, hook in hooks.items():
                if hook in _HOOKS:
                    del module._forward_hooks[key]
        yield
    finally:
        for module, hooks in kept:
            module._forward_hooks.clear()
            module._forward_hooks.update(hooks)


class Links:
    """The way from a model to its masked layers, to see in microseconds that it is still there."""

    def __init__(self, model: nn.Module) -> None:
        links: dict[tuple[int, str], tuple[nn.Module, str, nn.Module, str]] = {}
        self._hosts: list[tuple[nn.Module, str]] = []
        for name, module in model.named_modules():
            if _LAYER not in module.__dict__:
                continue
            layer = module.__dict__[_LAYER]
            if MASK in module._buffers:
                self._hosts.append((module, layer))
            parent = model
            for key in name.split("."):
                child = parent.get_submodule(key)
                links.setdefault((id(parent), key), (parent, key, child, layer))
                parent = child
        self._links = list(links.values())

    def check(self) -> None:
        """See that it is.

        Raises:
            ActivsparseError: a module was replaced, or lost its hook or mask.
        """
        for parent, key, child, layer in self._links:
            found = parent._modules.get(key)
            # torch.compile and data parallelism put wrappers around modules.
            if found is not child and (found is None or unwrapped(found) is not child):
                raise _replaced(layer)
        for host, layer in self._hosts:
            if not _is_hooked(host):
                raise _replaced(layer)


def unwrapped(model: nn.Module) -> nn.Module:
    """What torch.compile and torch's data parallelism have wrapped."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def copy_masks(model: nn.Module, other: nn.Module) -> None:
    """Give `other`, a copy of `model` (also inside a wrapper), the masks and state of `model`.

    Raises:
        ActivsparseError: `other` has no masks where `model` has.
    """
    buffers = dict(other.named_buffers())
    states = {k: m for k, m in other.named_modules() if isinstance(m, SparsifierState)}
    prefix = next(iter(states), STATE).removesuffix(STATE)
    for key, value in model.named_buffers():
        if key.rpartition(".")[2] not in (MASK, SOURCE) and not key.startswith(f"{STATE}."):
            continue
        if prefix + key not in buffers:
            raise ActivsparseError(
                f"{type(other).__name__} has no {prefix + key}; make it by copying the model after "
                "its Sparsifier is made"
            )
        buffers[prefix + key].copy_(value)
    own = model.get_submodule(STATE)
    assert isinstance(own, SparsifierState)
    for state in states.values():
        state.follow(own)


def remove_masks(model: nn.Module) -> None:
    """Take out of `model` all that a `Sparsifier` added; its weights stay as they are."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if hook in _HOOKS:
                del module._forward_hooks[key]
        for name in (MASK, SOURCE):
            module._buffers.pop(name, None)
        for name in (_MODE, _LAYER):
            module.__dict__.pop(name, None)
    if STATE in model._modules:
        delattr(model, STATE)


def _fill_zero(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    if module.__dict__[_MODE].runs_dense:
        return output
    mask: Tensor = module._buffers[MASK]  # type: ignore[assignment]
    _check_size(mask, output)
    return fill_zero(output, mask)


def _fill_nearest(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    if module.__dict__[_MODE].runs_dense:
        return output
    _check_size(module._buffers[MASK], output)  # type: ignore[arg-type]
    source: Tensor = module._buffers[SOURCE]  # type: ignore[assignment]
    return fill_nearest(output, source)


_HOOKS = frozenset((_fill_zero, _fill_nearest))


def _is_hooked(host: nn.Module | None) -> bool:
    return (
        host is not None
        and MASK in host._buffers
        and not _HOOKS.isdisjoint(host._forward_hooks.values())
    )


def _replaced(layer: str) -> ActivsparseError:
    return ActivsparseError(
        f"layer {layer}: its mask is lost, for its convolution or norm was replaced in the model "
        "(fused, converted or quantised); convert modules, such as to SyncBatchNorm, before making "
        "the Sparsifier, and export the model as it was trained: engines fuse norms themselves"
    )


def _check_size(mask: Tensor, output: Tensor) -> None:
    if mask.shape[2:] != output.shape[2:]:
        raise ActivsparseError(
            f"a mask of {mask.shape[2]}x{mask.shape[3]} positions meets an output of "
            f"{output.shape[2]}x{output.shape[3]}; masks belong to one input size, that of the "
            "Sparsifier's example_input"
        )
