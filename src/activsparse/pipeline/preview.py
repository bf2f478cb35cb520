"""Without data: what masks would gain here, as fast as trained ones, only not as accurate."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from activsparse.bench.compare import OWN_ENGINE
from activsparse.export.mask import mask_model
from activsparse.export.model_file import read_model, write_model
from activsparse.input_sizes import InputSizes
from activsparse.masks import Savings
from activsparse.masks.options import UNTRAINED
from activsparse.pipeline.timing import time_files

__all__ = ["SPARSITIES", "Gain", "preview", "preview_network"]

SPARSITIES = (0.3, 0.5)


@dataclass(frozen=True)
class Gain:
    """One network on one engine.

    Attributes:
        requested: sparsity asked for; 0 of the dense network.
        savings: what its masks leave out.
        engine: name and median.
        median_ms: of a run.
        speedup: over the dense network in this engine.
    """

    requested: float
    savings: Savings
    engine: str
    median_ms: float
    speedup: float


def preview(
    model: Path,
    *,
    engines: Sequence[str],
    threads: int = 1,
    repeat: int = 30,
    sizes: InputSizes | None = None,
    fallback: str | None = None,
    console: Console | None = None,
) -> list[Gain]:
    """Time a dense ONNX model against itself with masks that nobody trained.

    Args:
        model: ONNX file.
        engines: to time the dense model on, beside this one.
        threads: of the engines.
        repeat: timed runs of each.
        sizes: of inputs that the file leaves open.
        fallback: as of `Session`.
        console: for a progress bar.

    Raises:
        ActivsparseError: see `mask_model` and `compare`.
    """
    dense = read_model(model)
    given = vars(sizes) if sizes else {}
    masked = {str(model): (0.0, Savings())}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for sparsity in SPARSITIES:
            network, report = mask_model(
                dense, options=UNTRAINED.but(sparsity=sparsity), name=str(model), **given
            )
            files.append(Path(folder) / f"masked-{sparsity:g}.onnx")
            write_model(network, files[-1])
            masked[str(files[-1])] = (sparsity, report.savings)
        found = time_files(
            model,
            files,
            (OWN_ENGINE, *engines),
            threads=threads,
            repeat=repeat,
            console=console,
            sizes=sizes,
            fallback=fallback,
        )
    own = next(r for r in found.rows if (r.engine, r.variant) == (OWN_ENGINE, "dense"))
    return [
        Gain(*masked[row.model], row.engine, row.median_ms, own.median_ms / row.median_ms)
        for row in found.rows
        if row.engine == OWN_ENGINE or row.variant == "dense"
    ]


def preview_network(
    name: str, weights: str | None, image_size: tuple[int, int], **how: object
) -> list[Gain]:
    """The same of a network by name, as it is for 1000 classes and RGB images; see `preview`.

    Raises:
        ActivsparseError: no such network, or it cannot be exported.
    """
    from activsparse.export.onnx import export_onnx
    from activsparse.models import build_model
    from activsparse.train.run.folder import example_input

    model = build_model(name, 1000, weights)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dense.onnx"
        export_onnx(model.eval(), example_input((3, *image_size)), file)
        return preview(file, **how)  # type: ignore[arg-type]
