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
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.masks import Mask
from activsparse.masks.plan_options import PlanOption
from activsparse.train.plan.masked_network import MaskedNetwork
from activsparse.train.plan.replay import Replay
from activsparse.train.sparsify.norms import batch_statistics

__all__ = ["BEYOND", "LossFile", "MeasuredLoss"]

BEYOND = 1e9
"""Stands for the loss of a network whose numbers are beyond float32."""

Batches = Sequence[tuple[Tensor, Tensor]]
LayerOptions = Mapping[str, tuple[PlanOption, tuple[int, int]]]
"""Option and (OH, OW) by layer; dense ones may be left out."""


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

    def __getitem__(self, key: str) -> float:
        return self._known[key]

    def add(self, key: str, what: str, value: float) -> None:
        """Keep the loss under a key; `what` says in words what it is of."""
        if not math.isfinite(value):
            value = BEYOND
        self._known[key] = value
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([key, what, repr(value)])


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
        self._replay = Replay(network.model)
        self._masks: dict[tuple[PlanOption, tuple[int, int]], Mask] = {}

    def __call__(
        self,
        variants: Sequence[LayerOptions],
        whats: Sequence[str],
        first: str | None = None,
        advance: Callable[[float], None] = lambda share: None,
    ) -> list[float]:
        """The losses of variants of the network; what they share is computed once.

        Args:
            variants: the options of each.
            whats: of each, in words, for whoever reads the file.
            first: name of the first layer whose option is not the same in all, or None.
            advance: told the share of the work that is done.
        """
        masked = [
            {n: both for n, both in options.items() if both[0].sparsity} for options in variants
        ]
        keys = [self.key(options) for options in masked]
        missing = {key: at for at, key in enumerate(keys) if key not in self._file}
        if missing:
            measured = self._measure([masked[at] for at in missing.values()], first, advance)
            for (key, at), value in zip(missing.items(), measured, strict=True):
                self._file.add(key, whats[at], value)
        advance(1.0)
        return [self._file[key] for key in keys]

    def key(self, options: LayerOptions) -> str:
        """A digest of all masks."""
        text = json.dumps(
            [self._size, sorted((n, repr(o), s) for n, (o, s) in options.items() if o.sparsity)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @torch.no_grad()
    def _measure(
        self,
        variants: Sequence[LayerOptions],
        first: str | None,
        advance: Callable[[float], None],
    ) -> list[float]:
        totals, done = [0.0] * len(variants), 0
        try:
            with batch_statistics(self._network.model):
                for x, y in self._batches:
                    with ExitStack() as stack:
                        if first is not None and len(variants) > 1:
                            stack.enter_context(self._replay.before(first, x))
                        for at, options in enumerate(variants):
                            self._set_masks(options)
                            totals[at] += float(self._loss(self._network.model(x), y)) * len(x)
                            done += 1
                            advance(done / (len(variants) * len(self._batches)))
        finally:
            self._network.set_masks({})  # dense again for whoever exports it
        images = sum(len(x) for x, _ in self._batches)
        return [total / images for total in totals]

    def _set_masks(self, options: LayerOptions) -> None:
        self._network.set_masks(
            {name: (self._mask(o, shape), o.fill) for name, (o, shape) in options.items()}
        )

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
