"""The engine against ONNX Runtime, which knows nothing of masks."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.session import Session
from activsparse.engine.tolerance import network_bound, sum_noise, sums_of, weight_noise
from activsparse.engine.verify_draws import DRAWS, Moves, finite_error, moves
from activsparse.engine.verify_reference import Reference
from activsparse.errors import ActivsparseError

__all__ = [
    "NORMAL",
    "TRIALS",
    "MismatchError",
    "OutputError",
    "OutputErrors",
    "compare_with_onnxruntime",
    "require_agreement",
]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]

NORMAL = "normal"
TRIALS = (NORMAL, "denormal", "huge", "NaN", "infinite")
"""What inputs hold: standard normal numbers, those times 1e-39 or 1e12, or a few odd ones among
them."""

_SCALES = {"denormal": np.float32(1e-39), "huge": np.float32(1e12)}
_LEAST = 2.0**-100
"""Where inputs are denormal: what products below the least normal number may come to."""

# Relative noise on huge inputs, far above what roundings do to a layer's input: where an activation
# saturates there, a sum near zero falls to one side or the other in any engine.
_NOISE = 2.0**-14
_INPUTS = 4
"""How many inputs to try where roundings decide of what shape a result is."""

_AMPLIFIES = "the network amplifies roundings, which move its result by {:.3g}"


@dataclass(frozen=True)
class OutputError:
    """How far one output is off, and how far it may be (tolerance.py).

    Attributes:
        name: of the output.
        max_abs_err: largest absolute difference from the reference, of what is finite in both.
        bound: what rounding explains of it.
        reference_max: largest finite magnitude in the reference.
        problem: what no bound allows: another shape, NaN or infinity on one side only; or ''.
        trial: what the inputs held, one of TRIALS.
        note: whose error a failed comparison turned out to be; or ''.
    """

    name: str
    max_abs_err: float
    bound: float
    reference_max: float
    problem: str = ""
    trial: str = NORMAL
    note: str = ""

    @classmethod
    def of(
        cls, name: str, actual: FloatArray, reference: FloatArray, sums: Sequence[float]
    ) -> OutputError:
        """Compare an output with its reference; `sums` as of `network_bound`."""
        half = len(sums) + 1 if np.float16 in (actual.dtype, reference.dtype) else 0
        actual, reference = (x.astype(np.float64) for x in (actual, reference))
        if actual.shape != reference.shape:
            problem = f"its shape is {actual.shape}, the reference's {reference.shape}"
            return cls(name, math.nan, 0.0, math.nan, problem)
        finite = np.isfinite(actual) & np.isfinite(reference)
        equal = finite | (actual == reference) | (np.isnan(actual) & np.isnan(reference))
        scale = np.where(np.isfinite(reference), reference, 0)
        return cls(
            name,
            finite_error(actual, reference) if equal.all() else math.nan,
            network_bound(sums, scale, half),
            float(np.max(np.abs(scale), initial=0.0)),
            _odd_values(int((~equal).sum()), actual.size),
        )

    @property
    def max_rel_err(self) -> float:
        """The largest error as a share of the reference's largest magnitude.

        Not of each element, of which those near zero are all rounding. Infinite where the reference
        is zero throughout and the output is not.
        """
        if self.reference_max == 0 and self.max_abs_err > 0:
            return math.inf
        return self.max_abs_err / (self.reference_max or 1.0)

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound; NaN is not."""
        return not self.problem and self.max_abs_err <= self.bound

    @property
    def figures(self) -> str:
        """What was compared and how far it is off, in words."""
        inputs = "" if self.trial == NORMAL else f", {self.trial} inputs"
        # Without a bound there still are shapes, NaN and infinity to tell results apart by.
        bound = "none for such numbers" if math.isinf(self.bound) else f"{self.bound:.3g}"
        notes = "; ".join(["", *filter(None, (self.problem, self.note))])
        return (
            f"output '{self.name}'{inputs}: largest error {self.max_abs_err:.3g}, bound {bound}, "
            f"relative {self.max_rel_err:.3g}{notes}"
        )

    def __str__(self) -> str:
        """The figures and whether they hold, in one line."""
        return f"{self.figures}: {'holds' if self.holds else 'does not hold'}"


class OutputErrors(list[OutputError]):
    """Of every output and kind of input; printed, a line for each."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


class MismatchError(ActivsparseError):
    """An output differs from ONNX Runtime's by more than rounding explains."""


def require_agreement(
    path: str | os.PathLike[str], session: Session, seed: int = 0
) -> OutputErrors:
    """Compare on inputs of all kinds; arguments and result as of `compare_with_onnxruntime`.

    Raises:
        MismatchError: a bound does not hold.
        ActivsparseError: see `compare_with_onnxruntime`.
    """
    rows = compare_with_onnxruntime(path, session, seed, TRIALS)
    for row in rows:
        if not row.holds:
            why = row.problem or f"error {row.max_abs_err:.3g}, bound {row.bound:.3g}"
            raise MismatchError(
                f"{os.fspath(path)}: output {row.name!r} on {row.trial} inputs is not ONNX "
                f"Runtime's ({why}); please report this"
            )
    return rows


def compare_with_onnxruntime(
    path: str | os.PathLike[str],
    session: Session,
    seed: int = 0,
    trials: Sequence[str] = (NORMAL,),
) -> OutputErrors:
    """Run both engines on the same random inputs.

    Where they differ by more than the bound, double precision decides which of them is right, if
    onnx has a reference for the model's operators; of quantised files, exact arithmetic does, and
    nothing is tried that is not finite.

    Args:
        path: the ONNX file.
        session: the engine's, of that file or of a plan compiled from it.
        seed: of the inputs.
        trials: what the inputs hold, of TRIALS.

    Returns:
        One comparison per trial and output; none of a trial that ONNX Runtime cannot run.

    Raises:
        ActivsparseError: onnxruntime is not installed or cannot run the file.
    """
    reference = Reference(path, session)
    if reference.exact is not None:
        # What becomes of NaN and infinities among whole numbers, ONNX leaves open.
        trials = [trial for trial in trials if trial not in ("NaN", "infinite")]
    if any(value.type != "tensor(float)" for value in session.get_inputs()):
        trials = [NORMAL]  # integers and float16 hold no others
    if any(row.precision == "float16" for row in session.explain()):
        trials = [trial for trial in trials if trial != "huge"]  # float16 ends at 65504
    return OutputErrors(
        row for trial in trials for row in _compare(reference, session, seed, trial)
    )


def _compare(reference: Reference, session: Session, seed: int, trial: str) -> list[OutputError]:
    """Compare on one input of which roundings do not decide the results' shapes, if there is one.

    Whether a detector keeps a box may hang on the last bit of a score.
    """
    for attempt in range(_INPUTS):
        rows, by_rounding = _compare_on(reference, session, seed + attempt * 2**32, trial)
        if not by_rounding:
            break
        _log.info("roundings decide the shapes of %s results; other inputs are tried", trial)
    return rows


def _compare_on(
    reference: Reference, session: Session, seed: int, trial: str
) -> tuple[list[OutputError], bool]:
    """Compare on one input, and say whether results differ in shape, as roundings decide."""
    spread = trial == "infinite" and reference.spreads
    if reference.chooses and (trial in ("denormal", "NaN") or spread):
        _log.info("%s inputs are not compared: results are a choice among equals or NaN", trial)
        return [], False
    x = session.random_input(seed)
    rng = np.random.default_rng(seed)
    if trial != NORMAL:
        x = {name: _odd(values, trial, rng) for name, values in x.items()}
    reports = session.explain()
    try:
        expected = reference.run(x, trial == NORMAL)
    except ActivsparseError as error:
        if trial == NORMAL:
            raise
        # A detector that finds nothing in NaN may stop there, in any engine.
        _log.info("%s inputs are not compared: %s", trial, error)
        return [], False
    result = session.run(x)
    actual = result if isinstance(result, list) else [result]
    for (name, _), *values in zip(session.outputs, actual, expected, strict=True):
        if not all(isinstance(value, np.ndarray) for value in values):
            raise ActivsparseError(
                f"{reference.path}: output '{name}' is no tensor, which alone can be compared; "
                "export the model with tensors as outputs"
            )
    sums = sums_of(reports)
    names = [name for name, _ in session.outputs]
    rows = [
        OutputError.of(name, y, z, sums) for name, y, z in zip(names, actual, expected, strict=True)
    ]
    if reference.exact is not None:
        if not all(row.holds for row in rows):
            rows = reference.exact.decide(x, rows, actual, expected, sums)
        return [replace(row, trial=trial) for row in rows], False
    same_shapes = all(a.shape == b.shape for a, b in zip(actual, expected, strict=True))
    reshaped = False
    if trial == "huge" and reference.winograd:
        # An output small beside the others of its tile errs relative to them, and saturates.
        rows = [replace(row, bound=math.inf) for row in rows]
    elif trial == "huge":
        share = max(_NOISE, weight_noise(reports))
        if not all(row.holds for row in rows):
            noisy = (
                {
                    k: v * (1 + share * rng.standard_normal(v.shape, np.float32))
                    for k, v in x.items()
                }
                for _ in range(DRAWS)
            )
            found = moves((reference.run(feed, False) for feed in noisy), expected)
            rows, reshaped = _raised(rows, found), found.reshaped
    if trial == "denormal":
        # Where the largest of values is that are equal all over, roundings decide.
        rows = [
            replace(row, bound=row.bound + _LEAST if y.dtype.kind == "f" else math.inf)
            for row, y in zip(rows, expected, strict=True)
        ]
    if trial in ("NaN", "infinite"):
        rows = [
            _judge_odd(row, y, z, trial, reference)
            for row, y, z in zip(rows, actual, expected, strict=True)
        ]
    if weight_noise(reports) and _some_fail(rows):
        halves = sum(bool(row.dense_macs and "float16" in row.precision) for row in reports)
        share = weight_noise(reports) / math.sqrt(max(halves, 1))
        rows = _raised(rows, _moved_weights(reference, share, x, expected, rng))
    # onnx's own evaluation takes minutes over what a detector does with its boxes.
    drawn = reference.foreign and bool(sums) and trial != "huge"
    if drawn and (_some_fail(rows) or not same_shapes):
        found = _moved_weights(reference, sum_noise(sums), x, expected, rng)
        rows, reshaped = _raised(rows, found, _AMPLIFIES), found.reshaped
    # ONNX Runtime's norm over neighbours, a running sum, is NaN where large numbers leave it.
    made_up = trial in (NORMAL, "huge") and any(row.problem for row in rows)
    exact = reference.in_double(x) if same_shapes and (made_up or _some_fail(rows)) else None
    if exact is not None and all(a.shape == b.shape for a, b in zip(actual, exact, strict=True)):
        if made_up:
            # Nor do its draws tell then how far roundings move what large numbers come to.
            least = math.inf if trial == "huge" else 0.0
            rows = _without_made_up(rows, actual, exact, sums, least)
        rows = _decide(rows, actual, expected, exact, sums)
        # Without sums there are no weights to move in place of their roundings.
        if _some_fail(rows) and sums and not reference.foreign and trial != "huge":
            rows = _allow_for_roundings(reference, sum_noise(sums), x, rows, actual, exact, rng)
    return [replace(row, trial=trial) for row in rows], reshaped and not same_shapes


def _raised(rows: list[OutputError], found: Moves, note: str = "") -> list[OutputError]:
    """Raise bounds that do not hold to what draws allow; the note is told how far they moved."""
    return [
        replace(row, bound=bound, note=note.format(largest) or row.note)
        if not row.holds and bound > row.bound
        else row
        for row, bound, largest in zip(rows, found.bounds, found.largest, strict=True)
    ]


def _some_fail(rows: Sequence[OutputError]) -> bool:
    """Whether an error is larger than its bound; what no bound allows is decided already."""
    return any(not (row.holds or row.problem) for row in rows)


def _decide(
    rows: Sequence[OutputError],
    actual: Sequence[FloatArray],
    expected: Sequence[FloatArray],
    exact: Sequence[FloatArray],
    sums: Sequence[float],
) -> list[OutputError]:
    """Compare outputs whose error exceeds the bound with double precision."""
    decided = []
    for row, ours, theirs, truth in zip(rows, actual, expected, exact, strict=True):
        if not (row.holds or row.problem):
            errors = finite_error(ours, truth), finite_error(theirs, truth)
            finite = np.where(np.isfinite(truth), truth, 0)
            judged = replace(
                row,
                max_abs_err=errors[0],
                reference_max=float(np.max(np.abs(finite), initial=0.0)),
                bound=max(row.bound, network_bound(sums, finite)),
            )
            note = "against float64 {:.3g}, ONNX Runtime's {:.3g}".format(*errors)
            note = "; ".join(filter(None, (row.note, note)))
            row = replace(judged if judged.holds else row, note=note)
        decided.append(row)
    return decided


def _without_made_up(
    rows: Sequence[OutputError],
    actual: Sequence[FloatArray],
    exact: Sequence[FloatArray],
    sums: Sequence[float],
    least: float,
) -> list[OutputError]:
    """Compare outputs with double precision where ONNX Runtime has NaN that it has not.

    Bounds are `least` at least.
    """
    judged = []
    for row, ours, truth in zip(rows, actual, exact, strict=True):
        if row.problem:
            other = OutputError.of(row.name, ours, truth, sums)
            bound = max(row.bound, other.bound, least)
            note = f"against float64; of ONNX Runtime's, {row.problem}"
            other = replace(other, trial=row.trial, bound=bound, note=note)
            row = other if other.holds else row
        judged.append(row)
    return judged


def _allow_for_roundings(
    reference: Reference,
    share: float,
    x: Mapping[str, FloatArray],
    rows: Sequence[OutputError],
    actual: Sequence[FloatArray],
    exact: Sequence[FloatArray],
    rng: np.random.Generator,
) -> list[OutputError]:
    """Compare with double precision in a network that amplifies the roundings of its own sums."""
    found = moves((reference.in_double(x, share, rng) or exact for _ in range(DRAWS)), exact)
    return [
        replace(
            row,
            max_abs_err=finite_error(ours, truth),
            bound=bound,
            note=f"{row.note}; {_AMPLIFIES.format(largest)}",
        )
        if not (row.holds or row.problem) and bound > row.bound
        else row
        for row, ours, truth, bound, largest in zip(
            rows, actual, exact, found.bounds, found.largest, strict=True
        )
    ]


def _moved_weights(
    reference: Reference,
    share: float,
    x: Mapping[str, FloatArray],
    expected: Sequence[FloatArray],
    rng: np.random.Generator,
) -> Moves:
    """What other roundings of weights do to ONNX Runtime's results."""
    return moves((reference.with_weights_moved(share, rng, x) for _ in range(DRAWS)), expected)


def _odd(values: FloatArray, trial: str, rng: np.random.Generator) -> FloatArray:
    """Scale random values, or put NaN or an infinity at a few places."""
    odd: FloatArray = np.asarray(values * _SCALES.get(trial, np.float32(1)))  # of () a scalar
    if trial in _SCALES:
        return odd
    places = rng.choice(values.size, min(values.size, 3 if trial == "NaN" else 1), replace=False)
    odd.reshape(-1)[places] = np.nan if trial == "NaN" else np.inf
    return odd


def _judge_odd(
    row: OutputError, actual: FloatArray, expected: FloatArray, trial: str, reference: Reference
) -> OutputError:
    """Judge NaN and infinities by what docs/numerics.md allows ("NaN and infinity")."""
    if actual.shape != expected.shape:
        return row
    if actual.dtype.kind != "f" and (reference.spreads or trial == "NaN"):
        # Where the largest of some values was, of which more are NaN here; or where NaN stand among
        # numbers in order, on which engines agree as little as on the whole number that is none.
        return replace(row, bound=math.inf)
    if reference.forgets:
        # ONNX Runtime's maximum forgets NaN that stand for the reference's infinities, what samples
        # at NaN of a picture finds nothing there, and no NaN is above a threshold.
        row = replace(row, bound=math.inf)
    finite = np.isfinite(actual) & np.isfinite(expected)
    wrong = ~finite & (actual != expected) & ~(np.isnan(actual) & np.isnan(expected))
    if reference.spreads:
        # NaN may be where the reference has none, and in place of infinities.
        judged = trial == "NaN" and not reference.forgets
        wrong &= np.isnan(expected) if judged else np.zeros_like(finite)
    if reference.masked and not np.isfinite(actual).all():
        # Later layers may have left out positions that a NaN reached.
        wrong &= np.isfinite(expected)
    return replace(
        row,
        max_abs_err=finite_error(actual, expected),
        problem=_odd_values(int(wrong.sum()), wrong.size),
    )


def _odd_values(count: int, of: int) -> str:
    if not count:
        return ""
    return f"{count} of {of} values are NaN or infinite here or in the reference alone"
