"""How fast the engine means to be, and which of these targets a set of results meets.

A target is a factor: how many times as fast as the fastest other engine on the dense network, all
in one run with one thread. With two threads 90 % of it is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from results import DENSE, Result, own
from rich.box import SIMPLE
from rich.table import Table

SPARSITIES = (0.0, 0.1, 0.2, 0.3, 0.5)

AGAINST_PEERS = {
    ("resnet18", "auto"): (1.45, 1.75, 1.95, 2.2, 2.7),
    ("resnet18", "lattice"): (1.45, 1.5, 1.6, 1.8, 2.3),
    ("resnet18", "random"): (1.45, 1.45, 1.5, 1.6, 2.0),
    ("resnet50", "auto"): (1.05, 1.2, 1.3, 1.45, 1.9),
    ("mobilenet_v2", "lattice"): (1.15, 1.25, 1.4, 1.55, 2.0),
    ("efficientnet_b0", "lattice"): (1.1, 1.15, 1.25, 1.4, 1.75),
    ("vgg16_bn", "auto"): (1.4, 1.6, 1.75, 1.95, 2.5),
    ("yolov5n", "lattice"): (1.2, None, None, 1.6, None),
    ("yolov5n", "auto"): (1.2, None, None, 1.6, None),
}
"""Network and pattern to the targets at `SPARSITIES`, where there is one."""

AGAINST_OWN_DENSE = {("resnet18", "auto", 0.3): 1.42, ("mobilenet_v2", "lattice", 0.3): 1.35}
"""Network, pattern and sparsity to the factor over our own dense network, one thread."""

SHARE_OF_TARGET = {1: 1.0, 2: 0.9}
SPARSITY_TOLERANCE = 0.03


@dataclass(frozen=True)
class Check:
    """One target and what was measured."""

    model: str
    pattern: str
    requested: float
    threads: int
    yardstick: str
    target: float
    measured: float

    @property
    def met(self) -> bool:
        """Whether the measured factor, as printed, reaches the target."""
        return round(self.measured, 2) >= round(self.target, 2)


def check(results: Sequence[Result]) -> list[Check]:
    """Compare results with every target they speak of."""
    found = {(r.model, r.pattern, r.requested, r.threads): r for r in own(results)}
    checks: dict[Check, None] = {}
    for model, pattern, requested, yardstick, target in _targets():
        for threads, share in SHARE_OF_TARGET.items():
            key = (model, DENSE if requested == 0 else pattern, requested, threads)
            if key not in found or (yardstick == "own dense" and threads != 1):
                continue
            result = found[key]
            measured = (
                result.vs_best_dense_peer if yardstick == "best peer" else result.vs_own_dense
            )
            checks[Check(*key, yardstick, target * share, measured or 0.0)] = None
    return list(checks)


def _targets() -> Iterator[tuple[str, str, float, str, float]]:
    for (model, pattern), targets in AGAINST_PEERS.items():
        for requested, target in zip(SPARSITIES, targets, strict=True):
            if target is not None:
                yield model, pattern, requested, "best peer", target
    for (model, pattern, requested), target in AGAINST_OWN_DENSE.items():
        yield model, pattern, requested, "own dense", target


def off_sparsity(results: Sequence[Result]) -> list[Result]:
    """Results whose masks skip clearly more or less than was asked for."""
    return [r for r in own(results) if round(abs(r.achieved - r.requested), 4) > SPARSITY_TOLERANCE]


def table(checks: Sequence[Check]) -> Table:
    """One line per target, missed ones marked."""
    met = sum(check.met for check in checks)
    result = Table(
        box=SIMPLE,
        title=f"{met} of {len(checks)} targets met",
        caption="times as fast as the fastest other engine, or our own, on the dense network",
    )
    for column in ("network", "pattern", "than", ""):
        result.add_column(column, no_wrap=True)
    for column in ("sparsity", "threads", "target", "measured"):
        result.add_column(column, justify="right")
    for item in checks:
        result.add_row(
            item.model,
            item.pattern,
            item.yardstick,
            "met" if item.met else "[red]missed[/red]",
            f"{item.requested:.1f}",
            str(item.threads),
            f"{item.target:.2f}",
            f"{item.measured:.2f}",
        )
    return result
