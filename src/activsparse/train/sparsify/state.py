"""What a Sparsifier remembers between steps, as one entry of the model's `state_dict`."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.train.sparsify.schedule import Schedule

__all__ = ["SparsifierState"]

_BYTES = 1024
"""Length of the encoded state; always the same, for averages add the entries of two models."""
_KEY = "_extra_state"  # torch's name for what get_extra_state gives
_BUFFERS = ("seed", "step", "best_step", "best_loss", "frozen")
"""What state dicts of activsparse 0.1 hold instead, one tensor each."""


class SparsifierState(nn.Module):
    """Step counter and search memory of a Sparsifier.

    Plain numbers, so that no step waits for a device. `state_dict` holds them as text in a tensor
    of bytes: loops that average, move or convert all entries of a state dict go on working, and
    leave a copy's numbers as they were when it was made. Score maps are not stored: they follow
    from (`seed`, step), so the best one is remembered by its step.

    Attributes:
        made_with: what decides the masks besides the step; a state of other options is refused.
        shapes: (OH, OW) of every masked layer by the name of its convolution.
        seed: of all score maps.
        step: optimiser steps done.
        best_step: the pruning step with the lowest training loss so far, -1 before the first.
        best_loss: that loss, infinite before the first.
        frozen: whether the masks are final.
        device: where the model is, and so the entry of its state dict.
        bypass: whether forward passes in training mode leave the masks out now. It follows from
            the others; an attribute of its own, since compiled forward passes depend on what they
            read, and the step changes at each.
    """

    def __init__(self, seed: int, schedule: Schedule, made_with: Mapping[str, Any]) -> None:
        super().__init__()
        self.schedule = schedule
        self.made_with = {"seed": seed, **made_with}
        self.shapes: dict[str, tuple[int, int]] = {}
        self.seed = seed
        self.step = 0
        self.best_step = -1
        self.best_loss = math.inf
        self.frozen = False
        self.bypass = False
        self.device = torch.device("cpu")
        self.refresh()

    @property
    def runs_dense(self) -> bool:
        """Whether a forward pass leaves the masks out now.

        The model's mode counts, not that of a masked norm, which may be frozen in evaluation mode.
        """
        return self.training and self.bypass

    def refresh(self) -> None:
        """Derive what is not stored from what is."""
        self.bypass = not self.frozen and self.schedule.is_dense_step(self.step)

    def remember(self, step: int, loss: float) -> None:
        """Note the training loss under the masks of `step`; the lowest one stays."""
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, step

    def follow(self, other: SparsifierState) -> None:
        """Take over the numbers of the same Sparsifier's state in another copy of the model."""
        self.set_extra_state(other.get_extra_state())

    def extra_repr(self) -> str:
        """The masked layers, which `print(model)` shows with it."""
        shapes = getattr(self, "shapes", {})  # models pickled by earlier versions have none
        listed = ", ".join(f"{name} {h}x{w}" for name, (h, w) in shapes.items())
        how = "frozen" if self.frozen else f"step {self.step}"
        return f"{how}, masked: {listed}" if listed else how

    def forward(self, x: Any) -> Any:
        """Return `x`: inside an `nn.Sequential` the state is called like a layer."""
        return x

    def get_extra_state(self) -> Tensor:
        """The numbers and `made_with`, as JSON after its checksum: uint8 (1024,)."""
        values = {
            **{"step": self.step, "best_step": self.best_step, "frozen": self.frozen},
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "made_with": self.made_with,
        }
        return _encode(values).to(self.device)

    def set_extra_state(self, state: Any) -> None:
        """Continue from there.

        Raises:
            ActivsparseError: the state of a Sparsifier with other options, or no state.
        """
        found = _decode(state)
        there = found["made_with"]
        for key, here in self.made_with.items():
            if there.get(key, here) != here:
                raise ActivsparseError(
                    f"the saved masks are of another Sparsifier ({key} is {there[key]} there, "
                    f"{here} here); make this one with the same options, or load the weights alone "
                    "before it is made"
                )
        self.step, self.best_step = found["step"], found["best_step"]
        self.best_loss = math.inf if found["best_loss"] is None else found["best_loss"]
        self.frozen = found["frozen"]
        self.refresh()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if all(prefix + name in state_dict for name in _BUFFERS):
            old = {name: state_dict.pop(prefix + name).item() for name in _BUFFERS}
            old["frozen"] = bool(old["frozen"])
            old["best_loss"] = old["best_loss"] if math.isfinite(old["best_loss"]) else None
            state_dict[prefix + _KEY] = _encode({**old, "made_with": {"seed": old["seed"]}})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparsifierState:
        # Follow the model to its device, but not to a lower precision.
        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        self.device = fn(torch.empty(0, device=self.device)).device
        return self


def _encode(values: Mapping[str, Any]) -> Tensor:
    text = json.dumps(values).encode().ljust(_BYTES - 8)
    return torch.tensor(list(b"%08x" % zlib.crc32(text) + text), dtype=torch.uint8)


def _decode(state: Any) -> dict[str, Any]:
    # State dicts in another precision hold the bytes as numbers of that type.
    try:
        data = bytes(state.to("cpu", torch.uint8).tolist())
        if int(data[:8], 16) != zlib.crc32(data[8:]):
            raise ValueError
        found: dict[str, Any] = json.loads(data[8:])
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise ActivsparseError(
            "the saved state of a Sparsifier is damaged (averages of state dicts spoil it); take "
            "the entry sparsifier_state._extra_state from one of the models themselves"
        ) from None
    return found
