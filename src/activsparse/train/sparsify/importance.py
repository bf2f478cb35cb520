"""How much each position of each masked layer matters, averaged over data.

    magnitude    mean over images and channels of |activation|
    taylor       mean over images of |sum over channels of gradient x activation|, the first-order
                 estimate of what the loss changes by when the position is zeroed (Molchanov et al.,
                 ICLR 2017, arXiv 1611.06440, there for channels)

Both look at what the mask acts on, in the network without masks. With pattern `random` they are
mixed into the score map: `Sparsifier(..., importance_weight=0.5)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.distributed import mean_over_ranks
from activsparse.errors import ActivsparseError
from activsparse.masks import FloatMap
from activsparse.masks.stored import MASK, SOURCE
from activsparse.names import suggest
from activsparse.train.sparsify.norms import batch_statistics
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["IMPORTANCES", "measure_importance"]

IMPORTANCES = ("magnitude", "taylor")


def measure_importance(
    sparsifier: Sparsifier,
    batches: Sequence[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    kind: str = "taylor",
) -> dict[str, FloatMap]:
    """Measure, for `Sparsifier.set_importance`.

    Args:
        sparsifier: of the network, which is left as it was; its masks are ignored.
        batches: pairs of images (N, C, H, W) and labels (N,).
        loss: mean loss of (logits, labels); `taylor` only.
        kind: one of `IMPORTANCES`.

    Returns:
        float32 (OH, OW) by name of each masked convolution, the mean over all processes.

    Raises:
        ActivsparseError: an unknown kind, or no batches.
    """
    if kind not in IMPORTANCES:
        raise ActivsparseError(f"importance {kind!r} is unknown; {suggest(kind, IMPORTANCES)}")
    if not batches:
        raise ActivsparseError("importance is measured on data; pass at least one batch")
    model = sparsifier.model
    hosts = {layer.name: model.get_submodule(layer.host) for layer in sparsifier.layers}
    totals = {layer.name: torch.zeros(layer.shape) for layer in sparsifier.layers}
    outputs: dict[str, Tensor] = {}
    # Before the hook that masks, which would replace the output.
    handles = [
        host.register_forward_hook(_noting(outputs, name), prepend=True)
        for name, host in hosts.items()
    ]
    try:
        with batch_statistics(model), _nothing_skipped(hosts.values()):
            for images, labels in batches:
                for name, values in _of_batch(model, outputs, images, labels, loss, kind).items():
                    totals[name] += values.cpu()
    finally:
        for handle in handles:
            handle.remove()
    device = batches[0][0].device
    return {name: mean_over_ranks(total.to(device)).cpu().numpy() for name, total in totals.items()}


def _noting(outputs: dict[str, Tensor], name: str) -> Any:
    def hook(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs[name] = output

    return hook


def _of_batch(
    model: nn.Module,
    outputs: dict[str, Tensor],
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    kind: str,
) -> dict[str, Tensor]:
    """Importances (OH, OW) summed over the images of a batch."""
    if kind == "magnitude":
        with torch.no_grad():
            model(images)
        return {name: output.abs().mean(1).sum(0) for name, output in outputs.items()}
    with torch.enable_grad():
        # Frozen first layers would leave their outputs without gradients.
        total = loss(model(images.detach().requires_grad_()), labels) * len(images)
        gradients = torch.autograd.grad(total, list(outputs.values()))
    return {
        name: (gradient * output).sum(1).abs().sum(0).detach()
        for (name, output), gradient in zip(outputs.items(), gradients, strict=True)
    }


@contextmanager
def _nothing_skipped(hosts: Iterable[nn.Module]) -> Iterator[None]:
    """Masks that keep everything."""
    buffers = [b for host in hosts for b in (host._buffers[MASK], host._buffers.get(SOURCE))]
    kept = [(buffer, buffer.clone()) for buffer in buffers if buffer is not None]
    try:
        for buffer, _ in kept:
            buffer.copy_(torch.arange(len(buffer)) if buffer.ndim == 1 else torch.tensor(1.0))
        yield
    finally:
        for buffer, values in kept:
            buffer.copy_(values)
