"""The order of the stages, and what of them is kept: the same call goes on where it was stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from activsparse.errors import ActivsparseError, Option
from activsparse.pipeline.alternatives import (
    check_alternatives,
    make_dense_longer,
    make_smaller_input,
)
from activsparse.pipeline.check import make_checks
from activsparse.pipeline.dense import make_dense
from activsparse.pipeline.int8 import make_int8
from activsparse.pipeline.masked import make_masked
from activsparse.pipeline.options import DENSE_LONGER, SMALLER_INPUT, SparsifyOptions
from activsparse.pipeline.outcome import Outcome
from activsparse.pipeline.plan import make_plan, refuse_unreachable
from activsparse.pipeline.score import make_score
from activsparse.pipeline.show import write_card, write_report
from activsparse.pipeline.timing import make_timing
from activsparse.pipeline.work import Work, file_of

__all__ = ["STAGES", "Stage", "carry_out"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        title: what it is, for the log.
        result: the file that is written last, whole: where it is, the stage is over.
        make: does it.
        base: whether the results of later stages are made from this one's.
        wanted: whether the options ask for it.
    """

    title: str
    result: str
    make: Callable[[Work], None]
    base: bool = False
    wanted: Callable[[SparsifyOptions], bool] = lambda options: True


STAGES = (
    Stage("the dense network", "dense.onnx", make_dense, base=True),
    Stage("a plan of masks", "plan.yaml", make_plan, base=True),
    Stage("training with masks", "masked.onnx", make_masked, base=True),
    Stage(
        "training with a smaller input in place of masks",
        file_of(SMALLER_INPUT),
        make_smaller_input,
        base=True,
        wanted=lambda options: SMALLER_INPUT in options.alternatives,
    ),
    Stage(
        "training the dense network as long",
        file_of(DENSE_LONGER),
        make_dense_longer,
        base=True,
        wanted=lambda options: DENSE_LONGER in options.alternatives,
    ),
    Stage(
        "both networks in int8",
        "masked.int8.onnx",
        make_int8,
        base=True,
        wanted=lambda options: options.int8,
    ),
    Stage("checks against ONNX Runtime", "verify.json", make_checks),
    Stage("accuracy on held-out images", "predictions.npz", make_score),
    Stage("time on this machine", "bench.json", make_timing),
)


def carry_out(work: Work) -> Outcome:
    """Do what is not done yet, then write `report.html` and `README.md`.

    Raises:
        ActivsparseError: bad options, a folder of other ones, or what a stage raises.
        Interrupted: by SIGINT or SIGTERM while training; the same call goes on.
    """
    work.check()
    check_alternatives(work)
    work.claim(last=lambda: refuse_unreachable(work))
    stages = [stage for stage in STAGES if stage.wanted(work.options)]
    for at, stage in enumerate(stages):
        if work.path(stage.result).is_file():
            _log.info("[%d/%d] %s: kept", at + 1, len(stages), stage.title)
            continue
        later = [s.result for s in stages[at + 1 :] if work.path(s.result).exists()]
        if stage.base and later:
            raise ActivsparseError(
                f"{work.path(stage.result)}: is missing, and {later[0]} was made from it; restore "
                "it, or begin again in another folder, in ",
                Option("out"),
            )
        _log.info("[%d/%d] %s", at + 1, len(stages), stage.title)
        stage.make(work)
    outcome = Outcome.of(work)
    write_report(work, outcome)
    write_card(work, outcome)
    return outcome
