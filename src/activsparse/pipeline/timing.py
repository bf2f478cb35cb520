"""Dense and masked in this engine and the others at hand, in one interleaved run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from activsparse.bench.compare import OWN_ENGINE, Comparison, Row, compare
from activsparse.bench.engines import ENGINES, is_installed
from activsparse.input_sizes import InputSizes
from activsparse.pipeline.progress import Measuring

if TYPE_CHECKING:
    from activsparse.pipeline.work import Work

__all__ = ["engines_at_hand", "make_timing", "read_timing", "time_files"]

_log = logging.getLogger(__name__)


def engines_at_hand() -> tuple[str, ...]:
    """The engines that read ONNX files and are installed, this one first."""
    return tuple(name for name, x in ENGINES.items() if x.reads_onnx and is_installed(name))


def make_timing(work: Work) -> None:
    """Write `bench.json`.

    Raises:
        ActivsparseError: see `compare`.
    """
    engines = work.options.engines
    dense, *others = work.networks.values()
    comparison = time_files(
        dense,
        others,
        engines_at_hand() if engines is None else (OWN_ENGINE, *engines),
        threads=work.options.threads,
        repeat=work.options.effort.repeat,
        console=work.console,
        fallback=work.options.fallback,
    )
    work.write("bench.json", json.dumps(asdict(comparison), indent=1) + "\n")


def time_files(
    dense: Path,
    masked: Sequence[Path],
    engines: Sequence[str],
    *,
    threads: int,
    repeat: int,
    console: Console | None,
    sizes: InputSizes | None = None,
    fallback: str | None = None,
) -> Comparison:
    """Time the files as `activsparse bench` does, with a warning where the machine is busy.

    Other engines that cannot run them, or give other numbers, are left out.
    """
    given = {} if sizes is None else vars(sizes)
    names = list(dict.fromkeys(engines))
    total, done = repeat * len(names) * (1 + len(masked)), 0
    left: list[str] = []
    with Measuring("timed runs", console) as progress:

        def advance(samples: int) -> None:
            nonlocal done
            done += samples
            progress.advance(done, total)

        def leave_out(engine: str, error: Exception) -> None:
            nonlocal total
            total -= repeat
            left.append(f"{engine} is left out: {error}")
            _log.warning("%s", left[-1])

        comparison = compare(
            dense,
            masked,
            names,
            threads=threads,
            repeat=repeat,
            session={"tune": True, "fallback": fallback},
            warn_if_busy=True,
            advance=advance,
            left_out=leave_out,
            **given,
        )
    comparison.log_busy()
    comparison.warnings.extend(left)
    return comparison


def read_timing(path: Path) -> Comparison:
    """What `make_timing` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    found["rows"] = [Row(**row) for row in found["rows"]]
    return Comparison(**found)
