"""Networks with fewer channels: pruning by torch-pruning, and building them again from a recipe.

A pruned network is its original with other numbers of channels. Those numbers are all a recipe
holds of it (`model.options.channels`), so it is read back without torch-pruning.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError, Option
from activsparse.models.registry import build_model

__all__ = ["PRUNED", "channels_of", "prune_channels", "pruned"]

PRUNED = "activsparse.models.pruned:pruned"
"""The name of such networks in recipes."""

Channels = dict[str, list[int]]


def prune_channels(
    model: nn.Module,
    example_input: Tensor,
    ratio: float,
    *,
    round_to: int = 8,
    skip: Iterable[str] = (),
) -> nn.Module:
    """A copy of `model` without the channels of least weight.

    Layers that must keep equal numbers of channels (residual additions, depthwise convolutions,
    norms) lose the same ones; groups are ranked by the L2 norm of their weights (Fang et al.,
    "DepGraph", CVPR 2023, arXiv 2301.12900). The classes of the last layer stay.

    Args:
        model: a classifier without masks.
        example_input: (N, C, H, W).
        ratio: share of channels to leave out of every layer, in (0, 1). Multiply-adds fall to
            about its complement squared.
        round_to: numbers of channels become the nearest multiples of this;
            engines compute several at a time.
        skip: name globs of layers whose outputs keep all channels.

    Raises:
        ActivsparseError: a ratio out of range, a glob that matches nothing, a network that cannot
            be traced, or nothing to prune.
    """
    import torch_pruning

    if not 0 < ratio < 1:
        raise ActivsparseError(f"ratio {ratio:g} is outside (0, 1); 0.3 leaves out 30 %")
    if round_to < 1:
        raise ActivsparseError(f"round_to {round_to} must be at least 1")
    small = copy.deepcopy(model).train(False)
    layers = {n: m for n, m in small.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    ignored = [list(layers.values())[-1]]
    for glob in skip:
        found = [layer for name, layer in layers.items() if fnmatch.fnmatchcase(name, glob)]
        if not found:
            raise ActivsparseError(f"skip: {glob!r} matches no convolution or linear layer")
        ignored += found
    before = channels_of(small)
    for parameter in small.parameters():
        parameter.requires_grad_(True)  # the graph is read from the gradient's
    try:
        torch_pruning.pruner.MagnitudePruner(
            small,
            example_input,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            pruning_ratio_dict={
                layer: _rounded_ratio(layer, ratio, round_to)
                for layer in layers.values()
                if layer not in ignored
            },
            ignored_layers=ignored,
        ).step()
        with torch.no_grad():
            small(example_input)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ActivsparseError(
            f"{type(model).__name__}: its channels cannot be pruned ({error}); name the layers "
            "that resist in ",
            Option("skip"),
        ) from error
    if channels_of(small) == before:
        raise ActivsparseError(
            f"ratio {ratio:g} takes no channel out when rounded to multiples of {round_to}; raise "
            "the ratio or lower ",
            Option("round_to"),
        )
    return small


def _rounded_ratio(layer: nn.Module, ratio: float, round_to: int) -> float:
    """The ratio nearest to the request that leaves a multiple of `round_to` channels."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    channels = layer.weight.shape[0]
    kept = max(round((1 - ratio) * channels / round_to), 1) * round_to
    # The pruner truncates the number it keeps.
    return max(0.0, 1 - (kept + 1e-3) / channels)


def channels_of(model: nn.Module) -> Channels:
    """Of each layer with weights: [inputs, outputs, groups] (norms: [channels])."""
    found: Channels = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            found[name] = [module.in_channels, module.out_channels, module.groups]
        elif isinstance(module, nn.Linear):
            found[name] = [module.in_features, module.out_features]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            found[name] = [module.num_features]
    return found


def pruned(
    num_classes: int,
    base: str,
    channels: Mapping[str, list[int]],
    in_channels: int = 3,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build the network `base` with other numbers of channels and no particular weights.

    Args:
        num_classes: of the head.
        base: name of the original, see `build_model`.
        channels: as `channels_of` gives them.
        in_channels: channels of the images.
        options: of the original.

    Raises:
        ActivsparseError: an unknown base, or channels of another network.
    """
    model = build_model(base, num_classes, in_channels=in_channels, **(options or {}))
    modules = dict(model.named_modules())
    for name, counts in channels.items():
        if name not in modules:
            raise ActivsparseError(
                f"model.options.channels: {base} has no layer {name}; prune this network again"
            )
        _resize(modules[name], counts)
    return model


def _resize(module: nn.Module, counts: list[int]) -> None:
    """Give a layer other numbers of channels and fresh weights."""
    if isinstance(module, nn.Conv2d):
        module.in_channels, module.out_channels, module.groups = counts
        shape = (counts[1], counts[0] // counts[2], *module.kernel_size)
        module.weight = nn.Parameter(module.weight.new_empty(shape))
        outputs = counts[1]
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = counts
        module.weight = nn.Parameter(module.weight.new_empty(counts[1], counts[0]))
        outputs = counts[1]
    else:
        (outputs,) = counts
        module.num_features = outputs  # type: ignore[assignment]
        _renew(module, "weight", outputs, 1.0)
        for name, value in (("running_mean", 0.0), ("running_var", 1.0)):
            if module._buffers.get(name) is not None:
                module.register_buffer(name, torch.full((outputs,), value))
    _renew(module, "bias", outputs, 0.0)
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _renew(module: nn.Module, name: str, size: int, value: float) -> None:
    if module._parameters.get(name) is not None:
        module.register_parameter(name, nn.Parameter(torch.full((size,), value)))
