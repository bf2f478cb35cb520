"""Losses of a network under masks, measured once and kept: a stopped search goes on where it was.

A loss is a function of the whole network's masks, so it is kept under a digest of all of them. The
file is a CSV of one line per measurement, written as soon as it is known; a line that a kill cut
short is measured again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.masks import Mask
from activsparse.masks.plan_options import PlanOption
from activsparse.train.plan.masked_network import MaskedNetwork
from activsparse.train.sparsify.norms import batch_statistics

__all__ = ["LossFile", "MeasuredLoss"]

Batches = Sequence[tuple[Tensor, Tensor]]


class LossFile:
    """Losses by key, in memory and in a file.

    Args:
        path: of the file, or None to keep nothing.
        of: what they were measured on: a file of anything else is refused.

    Raises:
        ActivsparseError: the file is of another measurement, or of something else.
    """

    def __init__(self, path: Path | None, of: str) -> None:
        self.path = path
        self._known: dict[str, float] = {}
        head = f"# losses of activsparse plan, measured on {of}\n"
        if path is None:
            return
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if text and not text.startswith(head):
            raise ActivsparseError(
                f"{path}: holds losses of another network or other images; delete it, or name "
                "another output"
            )
        whole = text[: text.rfind("\n") + 1]
        for row in csv.reader(io.StringIO(whole[len(head) :])):
            if len(row) == 3 and _is_number(row[2]):
                self._known[row[0]] = float(row[2])
        if whole != text or not text:
            try:
                path.write_text(whole or head, encoding="utf-8")
            except OSError as error:
                raise ActivsparseError(
                    f"{path}: cannot be written ({error.strerror}); choose a writable folder"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get(self, key: str, what: str, measure: Callable[[], float]) -> float:
        """The loss under a key, measured if it is not known; `what` says in words what it is of."""
        if key not in self._known:
            value = measure()
            if not math.isfinite(value):
                value = 1e9  # a network of numbers beyond float32
            self._known[key] = value
            if self.path is not None:
                with self.path.open("a", encoding="utf-8", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow([key, what, repr(value)])
        return self._known[key]


class MeasuredLoss:
    """The loss of a network under options of its layers, on the same images every time.

    Norms use the statistics of each batch, so that masks are judged as they would be after
    recalibration or more training.

    Args:
        network: within its block.
        batches: pairs of images (N, C, H, W) and labels, in the network's memory layout.
        loss: mean loss of (outputs, labels).
        file: keeps what was measured.
        input_size: (H, W) of the images.
    """

    def __init__(
        self,
        network: MaskedNetwork,
        batches: Batches,
        loss: Callable[[Tensor, Tensor], Tensor],
        file: LossFile,
        input_size: tuple[int, int],
    ) -> None:
        if not batches:
            raise ActivsparseError("losses are measured on data; pass at least one batch")
        self._network, self._batches, self._loss = network, batches, loss
        self._file, self._size = file, input_size
        self._masks: dict[tuple[PlanOption, tuple[int, int]], Mask] = {}

    def __call__(
        self, options: Mapping[str, tuple[PlanOption, tuple[int, int]]], what: str = ""
    ) -> float:
        """The loss.

        Args:
            options: option and (OH, OW) by layer; dense ones may be left out.
            what: in words, for whoever reads the file.
        """
        masked = {name: both for name, both in options.items() if both[0].sparsity}
        return self._file.get(self.key(masked), what, lambda: self._measure(masked))

    def key(self, options: Mapping[str, tuple[PlanOption, tuple[int, int]]]) -> str:
        """A digest of all masks."""
        text = json.dumps(
            [self._size, sorted((n, repr(o), s) for n, (o, s) in options.items() if o.sparsity)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def knows(self, options: Mapping[str, tuple[PlanOption, tuple[int, int]]]) -> bool:
        """Whether this was measured before."""
        return self.key(options) in self._file

    @torch.no_grad()
    def _measure(self, options: Mapping[str, tuple[PlanOption, tuple[int, int]]]) -> float:
        self._network.set_masks(
            {name: (self._mask(o, shape), o.fill) for name, (o, shape) in options.items()}
        )
        total = images = 0.0
        try:
            with batch_statistics(self._network.model):
                for x, y in self._batches:
                    total += float(self._loss(self._network.model(x), y)) * len(x)
                    images += len(x)
        finally:
            self._network.set_masks({})  # dense again for whoever exports it
        return total / images

    def _mask(self, option: PlanOption, shape: tuple[int, int]) -> Mask:
        key = (option, shape)
        if key not in self._masks:
            self._masks[key] = option.exact.mask(shape, self._size)
        return self._masks[key]


def fingerprint(model: nn.Module, batches: Batches) -> str:
    """A digest of a network's weights and the images a loss is measured on."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in model.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    for pair in batches:
        for part in pair:
            digest.update(part.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
