"""What came of it, read back from the folder: the table and the sentence that everything shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.bench.compare import OWN_ENGINE, Comparison, Row
from activsparse.bench.timing import Ratio
from activsparse.masks.mean import SAVED_IS, SPARSITY_IS, Savings
from activsparse.pipeline.detection_score import DetectionScore
from activsparse.pipeline.options import DENSE_LONGER, SMALLER_INPUT
from activsparse.pipeline.score import Score, in_words, read_score
from activsparse.pipeline.timing import read_timing
from activsparse.pipeline.work import file_of

if TYPE_CHECKING:
    from activsparse.pipeline.work import Work

__all__ = ["LEGEND", "Outcome", "engine_name"]

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
        timing: of all files on all engines.
        score: of all on held-out images.
        summary: of the run with masks, its summary.json.
        quick: whether it was a trial.
        smaller: (H, W) of the smaller input, where that was trained beside.
    """

    timing: Comparison
    score: Score | DetectionScore
    summary: dict[str, Any]
    quick: bool
    smaller: tuple[int, int] | None = None

    @classmethod
    def of(cls, work: Work) -> Outcome:
        """Read it from the folder of a finished pipeline."""
        summary = json.loads(work.path("masked/summary.json").read_text(encoding="utf-8"))
        return cls(
            read_timing(work.path("bench.json")),
            read_score(work.path("predictions.npz")),
            summary,
            work.options.quick,
            work.smaller_size if SMALLER_INPUT in work.options.alternatives else None,
        )

    @property
    def savings(self) -> Savings:
        """What the masks leave out."""
        return Savings(float(self.summary["achieved"]), 1.0 - float(self.summary["kept_macs"]))

    @property
    def networks(self) -> list[str]:
        """Names of the networks, `dense` first, then `masked`."""
        return self.score.networks

    def model_of(self, network: str) -> str:
        """A network's file, as the rows of `timing` spell it."""
        return next(x.model for x in self.timing.rows if Path(x.model).name == file_of(network))

    def _of(self, network: str) -> list[Row]:
        return [row for row in self.timing.rows if row.model == self.model_of(network)]

    def _own(self, network: str) -> Row:
        return next(row for row in self._of(network) if row.engine == OWN_ENGINE)

    def speedup(self, of: str, over: str, engine: str = OWN_ENGINE) -> float:
        """How many times as fast one network is in this engine as another in some engine."""
        slow = next(row for row in self._of(over) if row.engine == engine)
        return Ratio.of_rounds(slow.visits_ms, self._own(of).visits_ms).median

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table."""
        figure = self.score.figure
        return ("network", "engine", "median ms", "x dense", figure, "sparsity", "saved")

    def rows(self) -> list[tuple[str, ...]]:
        """The table, one line per network and engine, in `columns`."""
        return [self._line(name, row) for name in self.networks for row in self._of(name)]

    def _line(self, name: str, row: Row) -> tuple[str, ...]:
        own = row.engine == OWN_ENGINE
        times = self._own("dense").median_ms / row.median_ms
        if own:
            times = self.speedup(name, "dense")
        masked = name.startswith("masked")
        of_network = (
            f"{100 * self.score.value(name):.2f} %",
            f"{100 * self.savings.sparsity:.1f} %" if masked else "",
            f"{100 * self.savings.saved:.1f} %" if masked else "",
        )
        return (
            f"input {self._side}" if name == SMALLER_INPUT else name,
            engine_name(row.engine),
            f"{row.median_ms:.3f} ± {row.mad_ms:.3f}",
            f"{times:.2f}",
            *(of_network if own else ("", "", "")),
        )

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        return self._sentence("masked", "dense", "your dense network")

    @property
    def int8_sentence(self) -> str:
        """The same of the networks in int8; empty where there are none."""
        if "masked int8" not in self.networks:
            return ""
        said = self._sentence("masked int8", "dense int8", "your dense network in int8")
        return f"In int8: {said}"

    @property
    def _side(self) -> str:
        """Size of the smaller input."""
        return "x".join(map(str, self.smaller or ()))

    @property
    def alternative_sentence(self) -> str:
        """What the simplest alternative costs, trained alike; empty where it was not asked for."""
        if SMALLER_INPUT not in self.networks:
            return ""
        speed = self.speedup(SMALLER_INPUT, "dense")
        lost = self._lost("masked", SMALLER_INPUT)
        return (
            f"The dense network with a smaller input, {self._side}, trained as long and by the "
            f"same teacher: {speed:.2f} times as fast, {self._lost(SMALLER_INPUT)}; against it the "
            f"masks have {lost}."
        )

    def _lost(self, name: str, against: str = "dense") -> str:
        """Points lost or gained and their interval, in words."""
        points = "points" if isinstance(self.score, Score) else f"points of {self.score.figure}"
        lost, interval = self.score.lost(name, against), self.score.interval(name, against)
        return in_words(lost, interval, points)

    def _sentence(self, masked: str, dense: str, called: str) -> str:
        """Times are against the dense network of the same type, points against the float one."""
        parts = [f"{self.speedup(masked, dense):.2f} times as fast as {called} here"]
        peers = [row for row in self._of(dense) if row.engine != OWN_ENGINE]
        if peers:
            best = min(peers, key=lambda row: row.median_ms).engine
            times = self.speedup(masked, dense, best)
            parts.append(f"{times:.2f} times as fast as {engine_name(best)} runs that")
        kept = "held-out" if self.summary["tested_on"] == "test" else "validation"
        trial = "in a quick trial, whose accuracy says little, " if self.quick else ""
        lost, interval = self._lost(masked).split(" (", 1)
        parts.append(f"{trial}{lost} on {self.score.images} {kept} images ({interval}")
        return ", ".join(parts) + "."

    @property
    def caveat(self) -> str:
        """What must be said beside it."""
        trained = (
            f"The masked network went on from the dense one for {self.summary['epochs']} more "
            "epochs, taught by it; "
        )
        if DENSE_LONGER in self.networks:
            trained += f"the dense one, trained on alike, has {self._lost(DENSE_LONGER)}"
        else:
            trained += "what a dense one trained as long would reach is not known"
        if self.quick:
            return (
                f"{trained}; all in a quick trial, of few images and epochs: the speed was "
                "measured, the accuracy is not what full training gives."
            )
        return f"{trained}."
