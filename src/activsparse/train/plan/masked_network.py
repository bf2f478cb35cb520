"""A network whose masks can be exchanged from one forward pass to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from activsparse.masks import Mask, nearest_source
from activsparse.train.sparsify.fill import fill_nearest, fill_zero
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["MaskedNetwork"]


class MaskedNetwork:
    """Does to a network what a `Sparsifier` would, without being made anew for each mask.

    Args:
        model: a network without masks; it is left as it was when the block is left.
        layers: those that may be masked.
        site: where masks act.
    """

    def __init__(self, model: nn.Module, layers: Sequence[ConvLayer], site: str) -> None:
        self.model = model
        self._hosts = {layer.name: layer.host(site) for layer in layers}
        self._present: dict[str, tuple[str, Tensor]] = {}

    @contextmanager
    def attached(self) -> Iterator[MaskedNetwork]:
        """Let masks act within the block."""
        modules = dict(self.model.named_modules())
        handles = [
            modules[host].register_forward_hook(self._hook(layer))
            for layer, host in self._hosts.items()
        ]
        try:
            yield self
        finally:
            self._present = {}
            for handle in handles:
                handle.remove()

    def set_masks(self, masks: Mapping[str, tuple[Mask, str]]) -> None:
        """Mask these layers and no others.

        Args:
            masks: bool (OH, OW) and fill by name of the convolution.
        """
        self._present = {
            name: (fill, _source(mask) if fill == "nearest" else _factors(mask))
            for name, (mask, fill) in masks.items()
        }

    def _hook(self, layer: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            found = self._present.get(layer)
            if found is None:
                return output
            fill, tensor = found
            apply = fill_nearest if fill == "nearest" else fill_zero
            return apply(output, tensor.to(output.device))

        return hook


def _source(mask: Mask) -> Tensor:
    return torch.from_numpy(nearest_source(mask).astype(np.int64))


def _factors(mask: Mask) -> Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]
