"""Forward passes that share what runs before a layer.

Networks that differ from some layer on compute the same up to it. Whole modules that have returned
before that layer starts are run once; afterwards they answer with what they said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["Replay"]


class Replay:
    """Knows in which order the modules of a network run.

    Args:
        model: does the same on the same images every time; hooks may change from one pass to the
            next.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._runs: dict[str, tuple[int, int]] = {}

    @contextmanager
    def before(self, layer: str, images: Tensor) -> Iterator[None]:
        """Within the block modules that end before `layer` starts run once.

        Args:
            layer: name of a module.
            images: (N, C, H, W), on which the network is run within the block.
        """
        if not self._runs:
            self._runs = _runs(self._model, images)
        with ExitStack() as stack:
            for module in self._ended_before(layer):
                stack.enter_context(_Answer(module.forward).taking_over(self._model, module))
            yield

    def _ended_before(self, layer: str) -> list[nn.Module]:
        """The outermost of them."""
        start = self._runs.get(layer, (0, 0))[0]
        found: dict[str, nn.Module] = {}
        for name, module in self._model.named_modules():
            inside = any(f"{name}.".startswith(f"{outer}.") for outer in found)
            if inside or name not in self._runs or isinstance(module, torch.jit.ScriptModule):
                continue
            if self._runs[name][1] < start:
                found[name] = module
        return list(found.values())


def _runs(model: nn.Module, images: Tensor) -> dict[str, tuple[int, int]]:
    """When each module first starts and last ends, counted in starts and ends."""
    found: dict[str, tuple[int, int]] = {}
    clock = 0

    def starts(name: str) -> None:
        nonlocal clock
        clock += 1
        found[name] = (found.get(name, (clock, 0))[0], found.get(name, (0, clock))[1])

    def ends(name: str) -> None:
        nonlocal clock
        clock += 1
        found[name] = (found[name][0], clock)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            for handle in (
                module.register_forward_pre_hook(lambda *_, name=name: starts(name)),
                module.register_forward_hook(lambda *_, name=name: ends(name)),
            ):
                stack.callback(handle.remove)
        model(images)
    return found


class _Answer:
    """Stands for a module's `forward`: says in later passes what it said in the first.

    What follows may work in place, so copies are kept and given. A module that returns what it was
    given costs nothing, and others may hold it: that is not remembered.
    """

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward
        self._said: list[Any] = []
        self._calls = 0

    def start(self, *_: Any) -> None:
        """A pass begins."""
        self._calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        if self._calls <= len(self._said) and self._said[self._calls - 1] is not None:
            return _copy(self._said[self._calls - 1])
        answer = self._forward(*args, **kwargs)
        if self._calls > len(self._said):
            given = {x.data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
            said = [x.data_ptr() for x in tree_leaves(answer) if isinstance(x, Tensor)]
            self._said.append(None if given.intersection(said) else _copy(answer))
        return answer

    @contextmanager
    def taking_over(self, model: nn.Module, module: nn.Module) -> Iterator[None]:
        """Stand there within the block; the module's own hooks still see each call."""
        kept = module.__dict__.get("forward")
        passes = model.register_forward_pre_hook(self.start)
        module.__dict__["forward"] = self
        try:
            yield
        finally:
            passes.remove()
            del module.__dict__["forward"]
            if kept is not None:
                module.__dict__["forward"] = kept


def _copy(answer: Any) -> Any:
    return tree_map_only(Tensor, torch.clone, answer)
