"""What becomes of a model that nobody has tried yet: does it run, is it right, how fast is it?"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from activsparse.bench.compare import OWN_ENGINE, compare
from activsparse.engine.input_size import shapes_at
from activsparse.engine.session import Session
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.errors import ActivsparseError
from activsparse.input_sizes import InputSizes

__all__ = ["Trial", "time_model", "try_model"]

_log = logging.getLogger(__name__)

HOLDS = "holds"
NOTHING = "nothing to mask"


@dataclass(frozen=True)
class Trial:
    """What was found of a model.

    Attributes:
        model: what it was named.
        dense: `holds`, or what stops or is wrong with it as it is.
        masked: the same with masks, or `nothing to mask`; empty where they were not tried.
        layers: how many are masked.
        relative_error: the largest of both, as a share of the largest magnitude.
        dense_ms, masked_ms: median times in this engine, None where nothing was timed.
        peer, peer_ms: the fastest other engine, on the model as it is.
    """

    model: str
    dense: str
    masked: str = ""
    layers: int = 0
    relative_error: float = 0.0
    dense_ms: float | None = None
    masked_ms: float | None = None
    peer: str = ""
    peer_ms: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it runs and every output is right, with masks where there are some."""
        return self.dense == HOLDS and self.masked in (HOLDS, NOTHING)


def try_model(
    model: str,
    path: Path,
    masked: Callable[[Path, Path], int],
    *,
    seed: int = 0,
    engines: Sequence[str] = (),
    repeat: int = 30,
    session: Mapping[str, Any] | None = None,
    sizes: InputSizes | None = None,
    told: Callable[[ActivsparseError], str] = str,
) -> Trial:
    """Verify a model as it is and with masks, and time both.

    Args:
        model: what to call it.
        path: its ONNX file.
        masked: (model, file to write) -> how many layers of the file have masks; where there is
            nothing to mask 0, and no file.
        seed: of the inputs.
        engines: to time, this one among them; none times nothing.
        repeat: timed runs.
        session: further arguments of `Session`.
        sizes: of inputs that are left open.
        told: an error as its reader knows the options it names.
    """
    sizes = sizes or InputSizes()
    options = {"tune": bool(engines), **(session or {})}
    try:
        error = _difference(path, seed, sizes, options)
    except ActivsparseError as stopped:
        return Trial(model, f"stops: {told(stopped)}")
    if isinstance(error, str):
        return Trial(model, error)
    with tempfile.TemporaryDirectory() as folder:
        sparse = Path(folder) / "masked.onnx"
        try:
            layers = masked(path, sparse)
        except ActivsparseError as refused:
            return Trial(model, HOLDS, f"cannot be masked: {told(refused)}", 0, error)
        trial = Trial(model, HOLDS, NOTHING, 0, error)
        if layers:
            try:
                other = _difference(sparse, seed, sizes, options)
            except ActivsparseError as stopped:
                return Trial(model, HOLDS, f"stops: {told(stopped)}", layers, error)
            if isinstance(other, str):
                return Trial(model, HOLDS, other, layers, error)
            trial = Trial(model, HOLDS, HOLDS, layers, max(error, other))
        if not engines:
            return trial
        files = (path, sparse if layers else None)
        return time_model(
            trial, *files, engines, repeat=repeat, seed=seed, session=options, sizes=sizes
        )


def time_model(
    trial: Trial,
    dense: Path,
    masked: Path | None,
    engines: Sequence[str],
    *,
    repeat: int,
    seed: int = 0,
    session: Mapping[str, Any] | None = None,
    sizes: InputSizes | None = None,
) -> Trial:
    """Add times to what was found of a model; engines that cannot run it are left out.

    Args:
        trial: what was found.
        dense: the model as it is.
        masked: the same with masks, if there are any.
        engines: to time, this one among them.
        repeat: timed runs.
        seed: of the inputs.
        session: further arguments of `Session`.
        sizes: of inputs that are left open.
    """
    found = compare(
        dense,
        [masked] if masked else [],
        engines,
        threads=1,
        repeat=repeat,
        seed=seed,
        peers_on_sparse=False,
        session=session,
        left_out=_leave_out,
        **vars(sizes or InputSizes()),
    )
    own = {row.variant: row.median_ms for row in found.rows if row.engine == OWN_ENGINE}
    trial = replace(trial, dense_ms=own["dense"], masked_ms=own.get("sparse"))
    best = found.best_dense
    if best["engine"] == OWN_ENGINE:  # no other one runs it
        return trial
    return replace(trial, peer=best["engine"], peer_ms=best["median_ms"])


def _leave_out(engine: str, error: Exception) -> None:
    _log.info("%s is left out: %s", engine, error)


def _difference(
    path: Path, seed: int, sizes: InputSizes, options: Mapping[str, Any]
) -> float | str:
    """The largest relative error, or one line on what is wrong."""
    shapes = shapes_at(path, sizes) if sizes else None
    rows = compare_with_onnxruntime(path, Session(path, input_shapes=shapes, **options), seed)
    for row in rows:
        if not row.holds:
            why = row.problem or f"error {row.max_abs_err:.3g}, bound {row.bound:.3g}"
            return f"WRONG: output {row.name!r}, {why}"
    return max((row.max_rel_err for row in rows), default=0.0)
