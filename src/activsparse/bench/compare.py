"""Dense and sparse models on several engines in one interleaved run, outputs checked first."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from activsparse.bench.engines import Engine, engine_class
from activsparse.bench.engines.base import Array
from activsparse.bench.machine import BUSY, LESS_CERTAIN, busy_warning, describe_machine
from activsparse.bench.memory import peak_memory
from activsparse.bench.pace import Pace
from activsparse.bench.related import difference
from activsparse.bench.timing import Ratio, Timing, time_interleaved
from activsparse.engine.border import random_values
from activsparse.engine.input_size import shapes_at
from activsparse.engine.plan_file import is_plan
from activsparse.engine.verify_quantised import is_quantised
from activsparse.errors import ActivsparseError
from activsparse.files import require_file
from activsparse.input_sizes import InputSizes

__all__ = [
    "OWN_ENGINE",
    "Comparison",
    "DisagreementError",
    "Row",
    "compare",
    "short_names",
    "summarize",
]

_log = logging.getLogger(__name__)

OWN_ENGINE = "activsparse"

# Share of the reference output's largest value by which an engine may differ. It catches wrong
# results, not rounding: peers may use Winograd or reorder sums as they like. `activsparse verify`
# holds our engine to a bound.
AGREEMENT = 1e-3
INT8_AGREEMENT = 0.25
"""The same share of quantised models, whose roundings make steps, and what follows from them."""

HALF_AGREEMENT = 0.1
"""The same where our engine keeps weights in float16 or computes in it, which some networks
amplify."""

_LEAST = 2.0**-22
"""By so much they may differ in any case: ONNX Runtime's sigmoid (1.32.0, AVX-512) is off by 1.0e-7
at -13.6, where it is 1.2e-6."""

FLOAT32, INT8 = "float32", "int8"
HALF = "float16 weights"
FLOAT16 = "float16"


class DisagreementError(ActivsparseError):
    """An engine's output differs from ONNX Runtime's, so its time means nothing."""


@dataclass(frozen=True)
class Row:
    """One model on one engine; the fields are those of the JSON file."""

    model: str
    engine: str
    version: str
    variant: str
    threads: int
    median_ms: float
    mad_ms: float
    min_ms: float
    max_abs_err: float
    visits_ms: list[float]
    """Median of its visit in every round."""
    p90_ms: float | None = None
    p99_ms: float | None = None
    load_ms: float | None = None
    """Until it could run, compiling and measuring algorithms included."""
    peak_bytes: int | None = None
    """Memory that loading and the first run took at most, beyond what the process held."""
    isa: str | None = None
    precision: str = FLOAT32
    """`int8` of a quantised model, whatever of it is left in float; `float16 weights` where our
    engine keeps weights so and computes in float32, `float16` where it computes so."""
    max_rel_err: float | None = None
    """The largest difference of an output over the largest value of it."""
    top1: float | None = None
    """Share of held-out images it classifies rightly, where somebody asked; of our engine."""


@dataclass(frozen=True)
class Comparison:
    """Everything `activsparse bench` found, ready for `json.dumps(asdict(...))`."""

    machine: dict[str, Any]
    rows: list[Row]
    best_dense: dict[str, Any]
    ratios: list[dict[str, Any]]
    warnings: list[str] = field(default_factory=list)

    def log_busy(self) -> None:
        """Log that the machine was busy, if it was, once the figures are where they belong."""
        for text in self.warnings:
            if text.startswith(BUSY):
                _log.warning("%s", text)

    def __str__(self) -> str:
        """A line for each model and engine, ratios where our engine ran."""
        names = short_names([row.model for row in self.rows])
        ratios = {(ratio["model"], ratio["precision"]): ratio for ratio in self.ratios}
        lines = []
        for row in self.rows:
            line = f"{names[row.model]} ({row.precision}) in {row.engine}: {row.median_ms:.3f} ms"
            ratio = ratios[row.model, row.precision] if row.engine == OWN_ENGINE else {}
            itself = (row.variant, row.precision) == ("dense", ratio.get("own_dense_precision"))
            if ratio.get("vs_own_dense") is not None and not itself:
                own = ratio["own_dense_precision"]
                line += f", {ratio['vs_own_dense']:.2f} times as fast as dense ({own})"
            if ratio and self.best_dense["engine"] != OWN_ENGINE:
                times, best = ratio["vs_best_dense"], self.best_dense["engine"]
                line += f", {times:.2f} times as fast as {best} runs the dense one "
                line += f"({self.best_dense['precision']})"
            lines.append(line)
        return "\n".join(lines)

    __repr__ = __str__  # without the time of every round


@dataclass(frozen=True)
class _Contender:
    path: Path
    variant: str
    engine: Engine
    errors: tuple[float, float]
    call: Callable[[], object]
    load_ms: float
    peak_bytes: int | None
    precision: str

    @property
    def key(self) -> str:
        return f"{self.engine.name} {self.precision} {self.path}"


def compare(
    dense: Path,
    sparse: Sequence[Path],
    engines: Sequence[str],
    *,
    threads: int,
    repeat: int,
    seed: int = 0,
    input_size: tuple[int, int] | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    batch: int | None = None,
    peers_on_sparse: bool = True,
    session: Mapping[str, Any] | None = None,
    warn_if_busy: bool = False,
    advance: Callable[[int], None] = lambda samples: None,
    left_out: Callable[[str, Exception], None] | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> Comparison:
    """Check every model on every engine against ONNX Runtime, then time them all, interleaved.

    Args:
        dense: the dense ONNX model.
        sparse: masked ONNX models to set against it.
        engines: names from `bench.engines.ENGINES`.
        threads: threads every engine may use.
        repeat: timed runs per model and engine.
        seed: of the standard-normal inputs.
        input_size: (H, W) of models that leave them open.
        input_shapes: whole shapes of inputs that are left open, by name.
        batch: of models that leave it open; else 1.
        peers_on_sparse: whether the other engines run the masked models too; it costs them more
            time than the dense one does.
        session: further arguments of our engine's `Session`. With `weights` or `precision`
            "float16" it runs float32 models twice, once in float32 throughout.
        warn_if_busy: whether to look, for half a second, if other programs are at work.
        advance: told how many timed runs have just finished.
        left_out: told of another engine that cannot run a model, or gives other numbers, which is
            then timed without it; by default that is an error.
        clock_ns: the clock, nanoseconds; the wall's by default.

    Raises:
        DisagreementError: an engine's output is wrong.
        ActivsparseError: unusable model, unknown engine or missing package.
    """
    variants = [(dense, "dense"), *((path, "sparse") for path in sparse)]
    _refuse_twice([require_file(path) for path, _ in variants])
    sizes = InputSizes(input_shapes or {}, input_size, batch)
    names = list(dict.fromkeys(engines))
    own = names if peers_on_sparse else [name for name in names if name == OWN_ENGINE]
    warnings: list[str] = []
    contenders = [
        contender
        for path, variant in variants
        for contender in _load(
            require_file(path),
            variant,
            own if variant == "sparse" else names,
            threads,
            seed,
            sizes,
            session or {},
            warnings,
            left_out,
        )
    ]
    if not any(contender.variant == "dense" for contender in contenders):
        raise ActivsparseError(f"{dense}: no engine takes it ({'; '.join(warnings)})")
    warnings += [text for path in sparse if (text := difference(dense, path))]
    for text in warnings:
        _log.warning("%s", text)
    if warn_if_busy and (busy := busy_warning()):
        warnings.append(busy)
    pace = Pace()
    timings = time_interleaved(
        {contender.key: contender.call for contender in contenders},
        repeat,
        advance=advance,
        clock_ns=clock_ns,
        pace=pace,
    )
    if warn_if_busy and pace.disturbed:
        warnings.append(f"{BUSY} (others' load slowed {pace.disturbed} visits); {LESS_CERTAIN}")
    rows = [_row(contender, timings[contender.key], threads) for contender in contenders]
    best_dense, ratios = summarize(rows)
    return Comparison(describe_machine(), rows, best_dense, ratios, warnings)


def _refuse_twice(paths: Sequence[Path]) -> None:
    for i, path in enumerate(paths):
        for other in paths[:i]:
            if path.samefile(other):
                raise ActivsparseError(
                    f"{path}: is the same file as {other}; name every model once"
                )


def _load(
    path: Path,
    variant: str,
    engines: Sequence[str],
    threads: int,
    seed: int,
    sizes: InputSizes,
    session: Mapping[str, Any],
    warnings: list[str],
    left_out: Callable[[str, Exception], None] | None,
) -> list[_Contender]:
    from activsparse.bench.engines.onnxruntime import OnnxRuntime, static_input_shapes

    if is_plan(path):
        raise ActivsparseError(
            f"{path}: only this engine runs compiled plans; name the ONNX model, "
            "or time the plan alone with: activsparse explain"
        )
    given = shapes_at(path, sizes) if sizes else None
    shapes = static_input_shapes(path, given)
    precision = INT8 if is_quantised(path) else FLOAT32
    # Unsaturated, whatever the processor: a quantised model as it is written.
    reference = OnnxRuntime(path, threads, shapes, exact=precision == INT8)
    rng = np.random.default_rng(seed)
    kinds = zip(shapes, reference.input_types(), strict=True)
    inputs = [random_values(rng, *kind) for kind in kinds]
    expected = reference.run(inputs)
    if not all(isinstance(y, np.ndarray) for y in expected):
        raise ActivsparseError(
            f"{path}: has an output that is no tensor, which alone can be compared; export the "
            "model with tensors as outputs"
        )
    contenders = []
    for name, kept in _kept_weights(engines, precision, session):
        options = dict(session) if name == OWN_ENGINE else {}
        if kept == FLOAT32:
            options.pop("weights", None)
            options.pop("precision", None)
        if given and name == OWN_ENGINE:
            options["named_shapes"] = given
        shares = {INT8: INT8_AGREEMENT, HALF: HALF_AGREEMENT, FLOAT16: HALF_AGREEMENT}
        share = shares.get(kept, AGREEMENT)
        if any(y.dtype == np.float16 for y in expected):  # which others round to in every layer
            share = max(share, HALF_AGREEMENT)
        try:
            contenders.append(
                _contender(name, path, variant, threads, inputs, expected, options, share, kept)
            )
        except Exception as error:  # what another engine raises has no narrower base
            if left_out is not None and name != OWN_ENGINE:
                left_out(name, error)
            elif precision != FLOAT32 and _cannot_run(error):
                # Few engines take every quantised form; the others are timed.
                warnings.append(f"{name} is left out: {error}")
            else:
                raise
    return contenders


def _kept_weights(
    engines: Sequence[str], precision: str, session: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Engines, and the precision of each: our own twice where a float model may be in float16.

    A quantised model is one row, in whatever its float layers and their weights are.
    """
    half = {"precision": FLOAT16, "weights": HALF}
    labels = [label for option, label in half.items() if session.get(option) == "float16"]
    twice = precision == FLOAT32 and bool(labels)
    pairs = []
    for name in engines:
        pairs.append((name, precision))
        if twice and name == OWN_ENGINE:
            pairs.append((name, labels[0]))
    return pairs


def _cannot_run(error: Exception) -> bool:
    return isinstance(error, ActivsparseError) and not isinstance(error, DisagreementError)


def _contender(
    name: str,
    path: Path,
    variant: str,
    threads: int,
    inputs: Sequence[Array],
    expected: Sequence[Array],
    options: Mapping[str, Any],
    share: float,
    precision: str,
) -> _Contender:
    """A model in an engine that gives what ONNX Runtime does."""
    make = engine_class(name)
    shapes = [x.shape for x in inputs]
    with peak_memory() as peak:
        start = time.perf_counter()
        engine = make(path, threads, shapes, **options)
        load_ms = 1e3 * (time.perf_counter() - start)
        outputs = engine.run(inputs)
    errors = largest_differences(outputs, expected, f"{path}: engine {name}", share)
    call = partial(engine.run, inputs)
    return _Contender(path, variant, engine, errors, call, load_ms, peak.bytes, precision)


def largest_differences(
    actual: Sequence[Array], expected: Sequence[Array], where: str, share: float = AGREEMENT
) -> tuple[float, float]:
    """The largest difference over all outputs, absolute and over an output's largest value.

    Raises:
        DisagreementError: it is more than `share` of an output's largest value, the shapes differ,
            or a value is not finite where the reference is.
    """
    if [a.shape for a in actual] != [e.shape for e in expected]:
        raise DisagreementError(
            f"{where}: output shapes {[a.shape for a in actual]} differ from ONNX Runtime's "
            f"{[e.shape for e in expected]}; it is not timed"
        )
    absolute = relative = 0.0
    for a, e in zip(actual, expected, strict=True):
        if e.dtype.kind != "f":  # of choices and roundings, a few may fall otherwise
            _require_equal(a, e, where, share)
            continue
        a, e = (np.asarray(x, np.float64) for x in (a, e))  # bytes and truth values, too
        difference = float(np.max(np.abs(a - e), initial=0.0))
        reference = float(np.max(np.abs(e), initial=0.0))
        allowed = max(share * reference, _LEAST)
        if not difference <= allowed:
            raise DisagreementError(
                f"{where}: output differs from ONNX Runtime's by {difference:.3g}, more than "
                f"{allowed:.3g}; it is not timed"
            )
        absolute = max(absolute, difference)
        relative = max(relative, difference / (reference or 1.0))
    return absolute, relative


def _require_equal(actual: Array, expected: Array, where: str, share: float) -> None:
    others = int(np.sum(actual != expected))
    if others > share * expected.size:
        raise DisagreementError(
            f"{where}: {others} of {expected.size} whole numbers differ from ONNX Runtime's; it is "
            "not timed"
        )


def _row(contender: _Contender, timing: Timing, threads: int) -> Row:
    return Row(
        model=str(contender.path),
        engine=contender.engine.name,
        version=contender.engine.version(),
        variant=contender.variant,
        threads=threads,
        median_ms=timing.median_ms,
        mad_ms=timing.mad_ms,
        min_ms=timing.min_ms,
        max_abs_err=contender.errors[0],
        visits_ms=[round(float(ms), 6) for ms in timing.visits_ms],
        p90_ms=timing.percentile_ms(90),
        p99_ms=timing.percentile_ms(99),
        load_ms=contender.load_ms,
        peak_bytes=contender.peak_bytes,
        isa=contender.engine.isa,
        precision=contender.precision,
        max_rel_err=contender.errors[1],
    )


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return for each path the file name, with as many folders before it as tell them apart."""
    names: dict[str, str] = {}
    for model in models:
        parts = Path(model).parts
        for count in range(1, len(parts) + 1):
            names[model] = str(Path(*parts[-count:]))
            if all(
                Path(other).parts[-count:] != parts[-count:] for other in models if other != model
            ):
                break
    return names


def summarize(rows: Sequence[Row]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The fastest dense row, and how many times faster our engine ran each model.

    The yardstick is the fastest *other* engine on the dense model; our own dense time takes its
    place only where no other engine was asked for.

    Returns:
        (best dense row, ratios), a ratio above 1 meaning that ours is faster; see `timing.Ratio`,
        whose spread is given beside each, and the precisions of what is compared.
    """
    dense = [row for row in rows if row.variant == "dense"]
    others = [row for row in dense if row.engine != OWN_ENGINE]
    best = min(others or dense, key=lambda row: row.median_ms)
    own = [row for row in rows if row.engine == OWN_ENGINE]
    own_dense = next((row for row in own if row.variant == "dense"), None)
    ratios = []
    for row in own:
        to_best = Ratio.of_rounds(best.visits_ms, row.visits_ms)
        to_own = Ratio.of_rounds(own_dense.visits_ms, row.visits_ms) if own_dense else None
        ratios.append(
            {
                "model": row.model,
                "vs_best_dense": to_best.median,
                "vs_best_dense_mad": to_best.mad,
                "vs_own_dense": to_own.median if to_own else None,
                "vs_own_dense_mad": to_own.mad if to_own else None,
                "precision": row.precision,
                "best_dense_precision": best.precision,
                "own_dense_precision": own_dense.precision if own_dense else None,
            }
        )
    return asdict(best), ratios
