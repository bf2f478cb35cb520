"""The mask inside the network: a buffer and a forward hook on each masked layer's host.

Hooks are plain functions and everything they read hangs on the module itself, so deepcopy,
pickling, weight averaging, `torch.compile` and `torch.export` treat a masked network like any
other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.train.fill import fill_nearest, fill_zero
from activsparse.train.state import SparsifierState

__all__ = ["MASK", "SOURCE", "STATE", "attach_mask", "copy_masks", "remove_masks"]

MASK = "activation_mask"
SOURCE = "activation_source"
STATE = "sparsifier_state"
_MODE = "activation_state"


def attach_mask(host: nn.Module, shape: tuple[int, int], fill: str, state: SparsifierState) -> None:
    """Give `host` an all-kept mask of `shape` (OH, OW), applied to its output (N, C, OH, OW)."""
    tensor = next(iter(host.parameters()), None)
    device = None if tensor is None else tensor.device
    host.register_buffer(MASK, torch.ones(1, 1, *shape, device=device))
    if fill == "nearest":
        host.register_buffer(SOURCE, torch.arange(shape[0] * shape[1], device=device))
    # Past nn.Module.__setattr__, which would make the state a child of every host.
    object.__setattr__(host, _MODE, state)
    host.register_forward_hook(_fill_nearest if fill == "nearest" else _fill_zero)


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
        if MASK not in module._buffers:
            continue
        for key, hook in list(module._forward_hooks.items()):
            if hook in (_fill_zero, _fill_nearest):
                del module._forward_hooks[key]
        del module._buffers[MASK]
        module._buffers.pop(SOURCE, None)
        module.__dict__.pop(_MODE, None)
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


def _check_size(mask: Tensor, output: Tensor) -> None:
    if mask.shape[2:] != output.shape[2:]:
        raise ActivsparseError(
            f"a mask of {mask.shape[2]}x{mask.shape[3]} positions meets an output of "
            f"{output.shape[2]}x{output.shape[3]}; masks belong to one input size, that of the "
            "Sparsifier's example_input"
        )
