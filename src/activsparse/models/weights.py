"""Weights from files, into networks whose head may differ."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.files import require_file
from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.models.stem import fit_stem_weight, stem_name
from activsparse.models.yolov5 import STRIDES, YoloV5

__all__ = ["fill_in", "load_weights", "read_tensors", "trained_weights"]

_log = logging.getLogger(__name__)
_PREFIXES = ("model.", "module.", "_orig_mod.")
_AVERAGE = "average.module."
_SMALL = 0.01
"""Deviation of a new head's weights."""


def load_weights(model: nn.Module, path: str | Path) -> bool:
    """Load a file of weights into `model`.

    Takes a plain state dict, or one under `state_dict`, `model` or `model_state` (checkpoints of
    Lightning, timm and torchvision's references), with the prefixes of wrappers, and drops masks.
    Of a run's checkpoint the averaged weights are taken, where it has any.
    A head for another number of classes starts anew, with small weights; a stem of a larger kernel
    or of other channels is fitted (see `stem.fit_stem_weight`).

    Returns:
        Whether the head is that of the file, too.

    Raises:
        ActivsparseError: not a file of weights, or weights of another network.
    """
    file = require_file(path)
    try:
        content = read_tensors(file)
    except Exception as error:  # whatever a strange file makes the unpickler raise
        raise ActivsparseError(
            f"{file}: is not a file of weights ({type(error).__name__}); "
            "pass a state dict saved by torch.save"
        ) from error
    own = isinstance(content, Mapping) and "activsparse" in content
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if own and isinstance(content, Mapping):
        content = trained_weights(content)
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ActivsparseError(f"{file}: holds no weights; pass a state dict saved by torch.save")
    return fill_in(model, content, str(file))


def read_tensors(file: Path) -> Any:
    """What `torch.save` wrote, if it is tensors, numbers, text and containers, else any error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd pickles; whether they can be read is enough
        return torch.load(file, map_location="cpu", weights_only=True)


def trained_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """The network's state in that of a run's `Learner`: the averaged one, where there is one."""
    average = {k: v for k, v in state.items() if k.startswith(_AVERAGE)}
    prefix, state = (_AVERAGE, average) if average else ("model.", state)
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def fill_in(model: nn.Module, state: Mapping[str, Any], where: str) -> bool:
    """Load a state dict that may carry wrapper prefixes, masks, and another head.

    Returns:
        Whether the head came along.

    Raises:
        ActivsparseError: anything but the head does not fit; names the first such weight.
    """
    own = {key: value for key, value in model.state_dict().items() if not _is_mask(key)}
    weights = {key: value for key, value in state.items() if not _is_mask(key)}
    for _ in _PREFIXES:
        for prefix in _PREFIXES:
            if not set(weights) & set(own):
                weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    stem = f"{stem_name(model)}.weight"
    if stem in weights and _fits_stem(weights[stem], own[stem]):
        weights[stem] = fit_stem_weight(weights[stem], own[stem])
    heads = _heads(model)
    replaced = set()
    for key, value in own.items():
        if key in weights and weights[key].shape == value.shape:
            continue
        if key.rpartition(".")[0] not in heads:
            found = f"has shape {tuple(weights[key].shape)}" if key in weights else "is missing"
            raise ActivsparseError(
                f"{where}: weight {key} {found}, {type(model).__name__} needs "
                f"{tuple(value.shape)}; pass weights of this network"
            )
        replaced.add(key)
    if replaced:
        named = heads[0].rpartition(".")[0] if len(heads) > 1 else heads[0]
        _say_once(f"{where}: the head {named} starts anew, for another number of classes")
    kept = {key: value for key, value in weights.items() if key in own and key not in replaced}
    model.load_state_dict(kept, strict=False)
    for head in {key.rpartition(".")[0] for key in replaced}:
        _start_small(model.get_submodule(head))
    return not replaced


@torch.no_grad()
def _start_small(head: nn.Module) -> None:
    """Let a new linear head say nothing yet.

    Some networks draw it for a thousand classes whatever their number (timm's EfficientNets by
    1 / sqrt(classes)): with two its first answers are sure and wrong, and unlearning that takes the
    published weights along.
    """
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=_SMALL)
        if head.bias is not None:
            nn.init.zeros_(head.bias)


@cache
def _say_once(text: str) -> None:
    """Log it the first time: a pipeline makes its network anew for each of its stages."""
    _log.info("%s", text)


def _fits_stem(weight: Tensor, own: Tensor) -> bool:
    """Whether `weight` is that of a larger kernel or of other channels than `own`."""
    larger = all(a >= b for a, b in zip(weight.shape[2:], own.shape[2:], strict=True))
    other = weight.shape != own.shape and own.shape[1] in (1, 3) and weight.shape[1] in (1, 3)
    return weight.shape[0] == own.shape[0] and larger and other


def _heads(model: nn.Module) -> list[str]:
    """Names of the layers that give the classes: the last one with weights, a detector's three."""
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-len(STRIDES) :] if isinstance(model, YoloV5) else layers[-1:]


def _is_mask(key: str) -> bool:
    return key.endswith((f".{MASK}", f".{SOURCE}")) or STATE in key.split(".")
