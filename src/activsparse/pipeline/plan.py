"""The masks: chosen for a speed-up that is measured here, at the least measured loss."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from activsparse.bench.measured_speedup import measured_speedup
from activsparse.data import BatchData
from activsparse.engine.calibrate import this_table
from activsparse.engine.compile import NATIVE, target_isa
from activsparse.errors import ActivsparseError
from activsparse.export.mask_by_plan import mask_by_plan
from activsparse.export.model_file import read_model, write_model
from activsparse.export.onnx import export_onnx
from activsparse.masks import MaskOptions
from activsparse.masks.latency import dense_ms
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.mask_plan_file import write_mask_plan
from activsparse.pipeline.options import Effort
from activsparse.pipeline.progress import Measuring
from activsparse.pipeline.work import Work
from activsparse.report.plan import draw_plan
from activsparse.train.phase import make_network
from activsparse.train.plan.losses import BEYOND
from activsparse.train.plan.plan_network import Found, network_planner, planning
from activsparse.train.run.folder import example_input
from activsparse.train.tasks.task import held_out_loss
from activsparse.train.trainer import dense_phase

__all__ = ["find_masks", "first_images", "make_plan", "plan_speedup", "refuse_unreachable"]

_log = logging.getLogger(__name__)

Batches = Sequence[tuple[Tensor, Tensor]]


def make_plan(work: Work) -> None:
    """Write `plan.yaml` and its picture.

    Raises:
        ActivsparseError: no masks make the network so fast; see `find_masks`.
    """
    run, effort = work.run("dense"), work.options.effort
    with Measuring("measuring losses under masks", work.console) as progress:
        found, layers_ms = find_masks(
            run.model,
            run.example_input,
            first_images(work.data, effort.images),
            held_out_loss(run.model, run.example_input),
            work.options.target_speedup,
            dense=work.path("dense.onnx"),
            effort=effort,
            options=work.config.sparsity,
            threads=work.options.threads,
            fallback=work.options.fallback,
            losses=work.path("plan.losses.csv"),
            advance=progress.advance,
        )
    draw_plan(found.plan, layers_ms, work.path("plan.png"), "png")
    write_mask_plan(found.plan, work.path("plan.yaml"))


def refuse_unreachable(work: Work) -> None:
    """See before any training if masks can make the network so fast here: weights do not matter.

    Raises:
        ActivsparseError: no masks do.
    """
    target, threads = work.options.target_speedup, work.options.threads
    _log.info("is %g times as fast within reach here?", target)
    network = make_network(dense_phase(work.config), work.data).eval()
    example = example_input(work.data.shape)
    isa = target_isa(NATIVE)
    table, where = this_table(isa, threads)
    planner = network_planner(
        network,
        example,
        lambda variants, names, layer, tell: [0.0] * len(variants),
        options=work.config.sparsity,
        table=table,
        where=where,
        count=work.options.effort.masks,
    )
    with tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.onnx"
        export_onnx(network, example, dense, verify=False)
        measure = partial(
            plan_speedup,
            dense,
            threads=threads,
            repeat=work.options.effort.repeat,
            session={"isa": isa, "fallback": work.options.fallback},
        )
        planner.refuse_unreachable(target, measure)


def find_masks(
    model: nn.Module,
    example_input: Tensor,
    batches: Batches,
    loss: Callable[[Any, Any], Tensor],
    target: float,
    *,
    dense: Path,
    effort: Effort,
    options: MaskOptions | None = None,
    threads: int = 1,
    fallback: str | None = None,
    losses: Path | None = None,
    advance: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[Found, dict[str, float]]:
    """The masks of least measured loss with which the network is so fast on this machine.

    Args:
        model: a network without masks, in evaluation mode.
        example_input: (1, C, H, W).
        batches: pairs of images and labels that losses are measured on, of that size.
        loss: mean loss of (outputs, labels).
        target: how many times as fast as dense, above 1.
        dense: the network as an ONNX file.
        effort: how much is measured.
        options: which layers stay dense, see `MaskOptions`.
        threads: of the engine.
        fallback: as of `Session`.
        losses: file that keeps what was measured.
        advance: told (measurements done, of how many, what).

    Returns:
        What was found, and each layer's estimated ms without a mask.

    Raises:
        ActivsparseError: the target is out of reach, the loss not finite, or see `planning`.
    """
    isa = target_isa(NATIVE)
    table, where = this_table(isa, threads)
    with planning(
        model,
        example_input,
        batches,
        loss,
        options=options,
        losses=losses,
        table=table,
        where=where,
        count=effort.masks,
        advance=advance,
    ) as planner:
        if planner.planner.whole_loss(planner.planner.dense, "dense") >= BEYOND:
            raise ActivsparseError(
                "the loss without masks is not finite on these images, so that no masks can be "
                "told from others; check the network's weights and the images"
            )
        measure = partial(
            plan_speedup,
            dense,
            threads=threads,
            repeat=effort.repeat,
            session={"isa": isa, "fallback": fallback},
        )
        found = planner.find(target, measure, rounds=effort.rounds)
        layers = [layer for unit in planner.planner.units for layer in unit.layers]
        return found, {layer.name: dense_ms(layer.conv, table) for layer in layers}


def plan_speedup(dense: Path, plan: MaskPlan, **how: Any) -> float:
    """How many times as fast as a dense network it is with the masks of a plan.

    Args:
        dense: its ONNX file.
        plan: of that network.
        how: see `measured_speedup`.
    """
    with tempfile.TemporaryDirectory() as folder:
        masked = Path(folder) / "masked.onnx"
        write_model(mask_by_plan(read_model(dense), plan)[0], masked)
        return measured_speedup(dense, masked, **how)


def first_images(data: BatchData, count: int) -> list[tuple[Tensor, Tensor]]:
    """So many training images without variation, in batches with their labels.

    Held-out images choose checkpoints later on.
    """
    batches: Iterable[tuple[Tensor, Tensor]] = data.unvaried_dataloader(count)
    found: list[tuple[Tensor, Tensor]] = []
    for images, labels in batches:
        # Of boxes a row says of which image it is.
        own = labels[:count] if labels.ndim == 1 else labels[labels[:, 0] < count]
        found.append((images[:count], own))
        count -= len(images)
        if count <= 0:
            break
    return found
