"""Weights from files, into networks whose head may differ."""

from __future__ import annotations

import argparse
import codecs
import logging
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.files import require_file
from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.models.stem import fit_stem_weight, stem_name
from activsparse.models.yolov5 import STRIDES, YoloV5

__all__ = ["fill_in", "load_weights", "read_tensors", "trained_weights"]

_log = logging.getLogger(__name__)
_AVERAGE = "average.module."
_SMALL = 0.01
"""Deviation of a new head's weights."""


def load_weights(model: nn.Module, path: str | Path) -> bool:
    """Load a file of weights into `model`.

    Takes a plain state dict, or one anywhere in a checkpoint, that under `state_dict`, `model` or
    `model_state` before others (Lightning, timm, torchvision's references, one's own loop), with
    whatever prefix all its names have, and drops masks.
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
        with torch.serialization.safe_globals(_data_types()):
            content = read_tensors(file)
    except Exception as error:  # whatever a strange file makes the unpickler raise
        raise ActivsparseError(f"{file}: {_why_unread(error)}") from error
    own = isinstance(content, Mapping) and "activsparse" in content
    for key in ("state_dict", "model_state", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if own and isinstance(content, Mapping):
        content = trained_weights(content)
    found = max(_state_dicts(content), key=lambda state: _named_alike(state, model), default=None)
    if found is None:
        raise ActivsparseError(f"{file}: holds no weights; pass a state dict saved by torch.save")
    return fill_in(model, found, str(file))


def _data_types() -> list[Any]:
    """What checkpoints hold beside weights that is data as well: settings, numbers of numpy."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = {type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool")}
    encode = codecs.encode  # how old pickles hold bytes
    return [argparse.Namespace, np.dtype, *kinds, *((scalar, n) for n in names), encode]


def _why_unread(error: Exception) -> str:
    """What a file is that holds other things than data, and the remedy."""
    other = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if other is not None:
        return (
            f"holds objects ({other[1]}), which to load is to run their code; save "
            "model.state_dict() with torch.save where you trust it"
        )
    if "TorchScript" in str(error):
        return "is a network compiled by torch.jit; save its state_dict() with torch.save"
    kind = type(error).__name__
    return f"is not a file of weights ({kind}); pass a state dict saved by torch.save"


def _state_dicts(content: Any, depth: int = 3) -> Iterator[Mapping[str, Any]]:
    """Mappings of names to tensors in a checkpoint, outer ones first."""
    if not isinstance(content, Mapping):
        return
    if any(isinstance(value, Tensor) and isinstance(key, str) for key, value in content.items()):
        yield content
    for value in content.values() if depth else ():
        yield from _state_dicts(value, depth - 1)


def _named_alike(state: Mapping[str, Any], model: nn.Module) -> int:
    """How many of a network's weights are in a state dict, whatever its prefix."""
    own = {key for key, _ in model.named_parameters()}
    prefix = _prefix(state, own)
    return sum(prefix + key in state for key in own)


def _prefix(state: Mapping[str, Any], own: Collection[str]) -> str:
    """What stands before most of the network's names in a state dict, such as 'net.module.'."""
    found = Counter(
        key[: dot.end()]
        for key in state
        for dot in re.finditer(r"^|\.", key)
        if key[dot.end() :] in own
    )
    return max(found, key=lambda prefix: (found[prefix], -len(prefix)), default="")


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
    if not set(weights) & set(own) and (prefix := _prefix(weights, own)):
        weights = {
            key.removeprefix(prefix): value
            for key, value in weights.items()
            if key.startswith(prefix)
        }
    stem = f"{stem_name(model)}.weight"
    if stem in weights and _fits_stem(weights[stem], own[stem]):
        weights[stem] = fit_stem_weight(weights[stem], own[stem])
    heads = _heads(model)
    replaced = set()
    for key, value in own.items():
        if key in weights and weights[key].shape == value.shape:
            continue
        if key.endswith("num_batches_tracked"):  # which old files have not, and nothing needs
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
