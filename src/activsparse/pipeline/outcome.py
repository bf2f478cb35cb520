"""What came of it, read back from the folder: the table and the sentence that everything shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activsparse.bench.compare import OWN_ENGINE, Comparison, Row
from activsparse.masks.mean import SAVED_IS, SPARSITY_IS, Savings
from activsparse.pipeline.score import Score, read_score
from activsparse.pipeline.timing import read_timing

if TYPE_CHECKING:
    from activsparse.pipeline.work import Work

__all__ = ["COLUMNS", "LEGEND", "Outcome", "engine_name"]

COLUMNS = ("network", "engine", "median ms", "x dense", "top-1", "sparsity", "saved")
LEGEND = (
    f"x dense: times as fast as the dense network in this engine; sparsity: {SPARSITY_IS}; "
    f"saved: {SAVED_IS}"
)

_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def engine_name(name: str) -> str:
    """An engine as its makers write it."""
    return _NAMES.get(name, name)


@dataclass(frozen=True)
class Outcome:
    """What is known at the end.

    Attributes:
        timing: of both files on all engines.
        score: of both on held-out images.
        summary: of the run with masks, its summary.json.
        quick: whether it was a trial.
    """

    timing: Comparison
    score: Score
    summary: dict[str, Any]
    quick: bool

    @classmethod
    def of(cls, work: Work) -> Outcome:
        """Read it from the folder of a finished pipeline."""
        summary = json.loads(work.path("masked/summary.json").read_text(encoding="utf-8"))
        return cls(
            read_timing(work.path("bench.json")),
            read_score(work.path("predictions.npz")),
            summary,
            work.options.quick,
        )

    @property
    def savings(self) -> Savings:
        """What the masks leave out."""
        return Savings(float(self.summary["achieved"]), 1.0 - float(self.summary["kept_macs"]))

    @property
    def ratios(self) -> dict[str, Any]:
        """How many times as fast the masked network is in this engine."""
        masked = next(row.model for row in self.timing.rows if row.variant == "sparse")
        return next(ratio for ratio in self.timing.ratios if ratio["model"] == masked)

    def rows(self) -> list[tuple[str, ...]]:
        """The table, one line per network and engine, in the columns of `COLUMNS`."""
        dense = next(
            row for row in self.timing.rows if (row.engine, row.variant) == (OWN_ENGINE, "dense")
        )
        return [self._line(row, dense) for row in self.timing.rows]

    def _line(self, row: Row, dense: Row) -> tuple[str, ...]:
        name = {"dense": "dense", "sparse": "masked"}[row.variant]
        own = row.engine == OWN_ENGINE
        times = dense.median_ms / row.median_ms
        if own and row.variant == "sparse":
            times = self.ratios["vs_own_dense"]
        of_network = (
            f"{100 * self.score.top1[name]:.2f} %",
            f"{100 * self.savings.sparsity:.1f} %" if name == "masked" else "",
            f"{100 * self.savings.saved:.1f} %" if name == "masked" else "",
        )
        return (
            name,
            engine_name(row.engine),
            f"{row.median_ms:.3f} ± {row.mad_ms:.3f}",
            f"{times:.2f}",
            *(of_network if own else ("", "", "")),
        )

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        best = self.timing.best_dense["engine"]
        parts = [f"{self.ratios['vs_own_dense']:.2f} times as fast as your dense network here"]
        if best != OWN_ENGINE:
            times = self.ratios["vs_best_dense"]
            parts.append(f"{times:.2f} times as fast as {engine_name(best)} runs that")
        images = len(self.score.labels)
        low, high = (100 * end for end in self.score.interval)
        lost = 100 * self.score.lost
        word = "lost"
        if lost < 0:
            lost, low, high, word = -lost, -high, -low, "gained"
        kept = "held-out" if self.summary["tested_on"] == "test" else "validation"
        parts.append(
            f"{lost:.1f} points {word} on {images} {kept} images "
            f"(paired 95 % interval {low:.1f} to {high:.1f})"
        )
        return ", ".join(parts) + "."

    @property
    def caveat(self) -> str:
        """What must be said beside it."""
        trained = (
            f"The masked network went on from the dense one for {self.summary['epochs']} more "
            "epochs, taught by it"
        )
        if self.quick:
            return (
                f"{trained}; all in a quick trial, of few images and epochs: the speed is real, "
                "the accuracy is not what full training gives."
            )
        return f"{trained}."
