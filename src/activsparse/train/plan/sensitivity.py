"""What a network loses when one layer alone skips positions, by doing exactly that."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError, Option
from activsparse.masks import MaskOptions
from activsparse.train.sparsify.norms import batch_statistics
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["SPARSITIES", "Sensitivity", "measure_sensitivity", "write_sensitivity"]

SPARSITIES = (0.2, 0.35, 0.5, 0.65)


@dataclass(frozen=True)
class Sensitivity:
    """One layer at one sparsity, all others dense.

    Attributes:
        layer: name of the convolution.
        requested: sparsity asked for.
        achieved: sparsity of its mask.
        loss: mean loss on the held-out images.
        loss_increase: above the dense network's.
        top1: share of them classified rightly; None of a detector.
    """

    layer: str
    requested: float
    achieved: float
    loss: float
    loss_increase: float
    top1: float | None


def measure_sensitivity(
    model: nn.Module,
    example_input: Tensor,
    batches: Sequence[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    sparsities: Iterable[float] = SPARSITIES,
    *,
    advance: Callable[[int, int], None] = lambda done, total: None,
    options: MaskOptions | None = None,
    **changes: Any,
) -> list[Sensitivity]:
    """Mask each layer by itself at each sparsity and measure the loss.

    Norms use the statistics of each batch, so that a layer is judged as it would be after
    recalibration or more training.

    Args:
        model: a network without masks; it is left as it was.
        example_input: (N, C, H, W).
        batches: pairs of held-out images (N, C, H, W) and labels (N,).
        loss: mean loss of (logits, labels).
        sparsities: what to measure.
        advance: told how many of how many measurements are done.
        options: pattern, fill, site, skip and so on; sparsities are not looked at.
        changes: single ones by name, over those in `options`.

    Returns:
        By layer in the order of execution, then by sparsity.

    Raises:
        ActivsparseError: a layer whose mask changes nothing (what it computes is not used, or its
            mask is not applied), no batches, a model with masks.
    """
    if not batches:
        raise ActivsparseError("sensitivity is measured on data; pass at least one batch")
    wanted = sorted(set(sparsities))
    options = (options or MaskOptions()).but(**{**changes, "per_layer": {}})
    everything = Sparsifier(model, example_input, max(wanted, default=0.3), options=options)
    names = [layer.name for layer in everything.layers]
    everything.detach()

    dense = _outputs(model, batches)
    dense_loss = _mean_loss(dense, batches, loss)
    found = []
    for number, name in enumerate(names):
        others = [other for other in names if other != name]
        for at, sparsity in enumerate(wanted):
            alone = options.but(sparsity=sparsity, skip=[*options.skip, *others])
            sparsifier = Sparsifier(model, example_input, options=alone)
            try:
                achieved = sparsifier.achieved_sparsity
                masked = _outputs(model, batches)
            finally:
                sparsifier.detach()
            if achieved and all(torch.equal(a, b) for a, b in zip(dense, masked, strict=True)):
                raise ActivsparseError(
                    f"layer {name}: skipping {achieved:.0%} of its positions changes nothing; "
                    "name it in ",
                    Option("skip"),
                    ", and look whether its output is used",
                )
            value = _mean_loss(masked, batches, loss)
            top1 = _top1(masked, [y for _, y in batches])
            found.append(Sensitivity(name, sparsity, achieved, value, value - dense_loss, top1))
            advance(number * len(wanted) + at + 1, len(names) * len(wanted))
    return found


def write_sensitivity(found: Sequence[Sensitivity], path: Path) -> None:
    """As CSV, into a path that `atomic_path` gave."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [field.name for field in fields(Sensitivity)], lineterminator="\n"
        )
        writer.writeheader()
        for row in found:
            values = asdict(row).items()
            writer.writerow({k: round(v, 6) if isinstance(v, float) else v for k, v in values})


def _top1(outputs: Sequence[Tensor], labels: Sequence[Tensor]) -> float | None:
    if outputs[0].ndim != 2:
        return None
    right = sum(int((out.argmax(1) == y).sum()) for out, y in zip(outputs, labels, strict=True))
    return right / sum(map(len, labels))


@torch.no_grad()
def _outputs(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    with batch_statistics(model):
        return [model(images) for images, _ in batches]


def _mean_loss(
    outputs: Sequence[Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
) -> float:
    total = sum(
        float(loss(output, labels)) * len(output)
        for output, (_, labels) in zip(outputs, batches, strict=True)
    )
    return total / sum(map(len, outputs))
