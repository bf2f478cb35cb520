"""A planner for a torch network: its layers, their options, and its loss on images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from activsparse.masks.branches import branches
from activsparse.masks.latency import dense_ms
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.options import MaskOptions
from activsparse.masks.placement import fill_of, sources_of_zeros
from activsparse.masks.plan_options import DEFAULT_PATTERNS, PlanLayer, macs, times
from activsparse.masks.plan_units import plan_units, unit_options
from activsparse.masks.requests import request_sparsities
from activsparse.masks.time_table import TimeTable
from activsparse.train.plan.losses import LossFile, MeasuredLoss, fingerprint
from activsparse.train.plan.masked_network import MaskedNetwork
from activsparse.train.plan.meet_target import SpeedSearch
from activsparse.train.plan.planner import Losses, Picks, Planner
from activsparse.train.sparsify.layers import ConvLayer, find_layers

__all__ = ["Found", "NetworkPlanner", "loss_of_guessing", "network_planner", "planning"]

_log = logging.getLogger(__name__)

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Found:
    """A solution.

    Attributes:
        plan: the masks.
        speedup: how many times as fast as dense, measured where it was, else estimated.
        loss, dense_loss: measured, under all masks together and without any.
    """

    plan: MaskPlan
    speedup: float
    loss: float
    dense_loss: float


@dataclass
class NetworkPlanner:
    """A planner and what it leaves out: convolutions that stay dense.

    Attributes:
        planner: of the layers that may be masked.
        input_size: (H, W).
        site: where masks act.
        other_ms: estimated ms of all other convolutions.
        dense_ms: estimated ms of all convolutions without masks.
        where: of the times, for reports.
        guessing: loss of one who knows how often each class comes up and nothing else; None where
            that is not known.
    """

    planner: Planner
    input_size: tuple[int, int]
    site: str
    other_ms: float
    dense_ms: float
    where: str
    guessing: float | None = None

    def find(
        self,
        target: float,
        measure: Callable[[MaskPlan], float] | None = None,
        *,
        rounds: int = 2,
        tolerance: float = 0.025,
    ) -> Found:
        """The plan of least loss that is so fast.

        Args:
            target: speed-up over the dense network, above 1.
            measure: how many times as fast as dense a plan's network really is; without it the
                estimated time of the convolutions counts, as if nothing else took any.
            rounds: how often losses are measured again around the solution.
            tolerance: how far a measured speed-up may be from the target, as a share of it.

        Raises:
            ActivsparseError: a target that is not above 1 or that no masks among the options reach.
        """
        planner = self.planner
        search = self._search(measure, tolerance)
        if target > 1:  # else `meet` says what is wrong with it
            search.refuse_unreachable(target)  # before minutes of measuring losses
        planner.measure()
        tried: dict[Picks, float] = {}
        for at in range(rounds + 1):
            picks, speed = search.meet(target)
            if picks in tried:
                break
            tried[picks] = speed
            if at < rounds:
                planner.measure(picks)
        best = min(tried, key=planner.whole_loss)
        # Losses of layers are told around the solution itself, as far as they were measured there.
        notes: dict[str, Any] = {
            "target_speedup": target,
            "speedup": round(tried[best], 3),
            "speedup_is": "measured" if measure is not None else "estimated, convolutions alone",
            "times": self.where,
            "loss": round(planner.whole_loss(best), 6),
            "dense_loss": round(planner.whole_loss(planner.dense), 6),
        }
        plan = planner.plan(best, self.input_size, self.site, **notes)
        found = Found(plan, tried[best], notes["loss"], notes["dense_loss"])
        self._warn(found, target)
        return found

    def _warn(self, found: Found, target: float) -> None:
        """Training mends what masks lose, but begins anew where they leave nothing."""
        if self.guessing is not None and found.dense_loss < self.guessing < found.loss:
            _log.warning(
                "the masks for %g times the speed leave a network that is worse than guessing: "
                "loss %.2f, of guessing %.2f, without masks %.2f; training will hardly mend that. "
                "Ask for less speed, or see what a smaller input loses",
                target,
                found.loss,
                self.guessing,
                found.dense_loss,
            )

    def refuse_unreachable(
        self, target: float, measure: Callable[[MaskPlan], float], tolerance: float = 0.025
    ) -> None:
        """See if any masks make the network so fast; no loss is measured, weights do not matter.

        Args:
            target: as of `find`.
            measure: as of `find`.
            tolerance: as of `find`.

        Raises:
            ActivsparseError: none do.
        """
        self._search(measure, tolerance).refuse_unreachable(target)

    def without_masks(self) -> Found:
        """The network as it is, for one that is fast enough already."""
        planner = self.planner
        loss = planner.whole_loss(planner.dense, "dense")
        notes: dict[str, Any] = {
            "speedup_is": "without masks",
            "times": self.where,
            "loss": round(loss, 6),
        }
        plan = planner.plan(planner.dense, self.input_size, self.site, **notes)
        return Found(plan, 1.0, loss, loss)

    def _search(
        self, measure: Callable[[MaskPlan], float] | None, tolerance: float
    ) -> SpeedSearch[Picks]:
        planner = self.planner

        def cost(picks: Picks) -> float:
            return planner.cost(picks) + self.other_ms

        def time(picks: Picks) -> float:
            if measure is None:
                return self.dense_ms / cost(picks)
            if not any(picks):
                return 1.0
            return measure(planner.plan(picks, self.input_size, self.site))

        return SpeedSearch(
            solve=lambda budget: planner.solve(budget - self.other_ms),
            cost=cost,
            measure=time,
            dense_cost=self.dense_ms,
            least_cost=lambda: planner.least_cost + self.other_ms,
            # What fits an estimated budget is a solution, however fast.
            tolerance=tolerance if measure is not None else 1.0,
            shortfall=2 * tolerance if measure is not None else 1e-9,
        )


def network_planner(
    model: nn.Module,
    example_input: Tensor,
    losses: Losses,
    *,
    options: MaskOptions | None = None,
    table: TimeTable | None = None,
    where: str = "the table of pattern auto",
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    fills: Sequence[str] = ("zero", "nearest"),
    count: int = 4,
    seed: int = 0,
    by: str = "ms",
    advance: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> NetworkPlanner:
    """A planner for a network whose loss is known from somewhere.

    Args:
        model: a network without masks.
        example_input: (N, C, H, W).
        losses: of the network under options of its layers, see `Planner`.
        options: which layers stay dense, `site`, `phases`, and `block` where it is above 1.
        table: of times; by default that of pattern `auto`, the same on every machine.
        where: its times come from, noted in plans.
        patterns: that layers choose from, see `masks.plan_options`.
        fills: `zero`, `nearest` or both; none leaves the fill to `options`.
        count: masks of each pattern that are measured in a layer.
        seed: of pattern `random`.
        by: what a budget is of: `ms`, or `macs` (millions of multiply-adds; every option is then
            measured, whether it saves time or not).
        advance: see `Planner`.

    Raises:
        ActivsparseError: nothing to mask.
    """
    asked = options or MaskOptions()
    found = find_layers(model, example_input)
    masked = _maskable(found, asked)
    sources = sources_of_zeros(masked, asked.but(fill="zero"))
    size = (int(example_input.shape[-2]), int(example_input.shape[-1]))
    layers = [
        PlanLayer(layer.name, layer.shape, _phase(layer, at, asked.phases), source)
        for at, (layer, source) in enumerate(zip(masked, sources, strict=True))
    ]
    units = plan_units(layers, branches(masked) if "band" in patterns else [])
    by_name = {layer.name: layer for layer in masked}
    feeding = {unit.source for unit in units}
    choices = [
        unit_options(
            unit,
            size,
            table=table,
            patterns=patterns,
            fills=tuple(fills) or (fill_of(by_name[unit.layers[-1].name], asked),),
            count=count,
            block=asked.block if asked.block > 1 else None,
            seed=seed,
            feeds=at in feeding,
            by_time=by == "ms",
        )
        for at, unit in enumerate(units)
    ]
    names = {layer.name for layer in masked}
    rest = [layer.shape for layer in found if layer.name not in names]
    other = sum(dense_ms(shape, table) for shape in rest) if by == "ms" else 0.0
    costs = (
        partial(times, table=table) if by == "ms" else lambda layer, of_it, _: macs(layer, of_it)
    )
    planner = Planner(units, choices, losses, costs, advance)
    dense = other + planner.cost(planner.dense)
    return NetworkPlanner(planner, size, asked.site, other, dense, where)


@contextmanager
def planning(
    model: nn.Module,
    example_input: Tensor,
    batches: Batches,
    loss: Callable[[Any, Any], Tensor],
    *,
    options: MaskOptions | None = None,
    losses: Path | None = None,
    **more: Any,
) -> Iterator[NetworkPlanner]:
    """Plan a network's masks by its measured loss; within the block it has hooks that mask it.

    Args:
        model: a network without masks.
        example_input: (N, C, H, W).
        batches: pairs of images and labels that losses are measured on, of that size.
        loss: mean loss of (outputs, labels).
        options: see `network_planner`.
        losses: file that keeps what was measured, see `LossFile`.
        more: see `network_planner`.

    Raises:
        ActivsparseError: nothing to mask, no batches, a file of other losses.
    """
    asked = options or MaskOptions()
    masked = _maskable(find_layers(model, example_input), asked)
    size = (int(example_input.shape[-2]), int(example_input.shape[-1]))
    model.to(memory_format=torch.channels_last)
    file = LossFile(losses, fingerprint(model, batches))
    with MaskedNetwork(model, masked, asked.site).attached() as network:
        measured = MeasuredLoss(network, batches, loss, file, size)
        planner = network_planner(model, example_input, measured, options=asked, **more)
        planner.guessing = loss_of_guessing([labels for _, labels in batches])
        yield planner


def loss_of_guessing(labels: Sequence[Tensor]) -> float | None:
    """Cross-entropy (nats) of always saying how often each class comes up: the classes' entropy.

    Args:
        labels: int64 (N,) of batches; None comes of targets of another kind.
    """
    if any(not isinstance(of_batch, Tensor) or of_batch.dim() != 1 for of_batch in labels):
        return None
    whole = torch.cat(list(labels))
    if whole.is_floating_point() or not len(whole):
        return None
    _, counts = np.unique(whole.cpu().numpy(), return_counts=True)
    shares = counts / len(whole)
    return float(-(shares * np.log(shares)).sum())


def _maskable(found: Sequence[ConvLayer], options: MaskOptions) -> list[ConvLayer]:
    asked = options.but(sparsity=0.5, per_layer={})
    wanted = request_sparsities(found, asked).sparsities
    return [layer for layer in found if layer.name in wanted]


def _phase(layer: ConvLayer, at: int, phases: str) -> int:
    return {"block": layer.phase, "layer": at, "one": 0}[phases]
