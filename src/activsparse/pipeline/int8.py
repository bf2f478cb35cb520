"""Both networks in int8, calibrated on training images; masks stay as they are."""

from __future__ import annotations

from activsparse.export.model_file import write_model
from activsparse.pipeline.progress import Measuring
from activsparse.pipeline.work import Work
from activsparse.quantisation.files import quantise_file
from activsparse.quantisation.options import QuantizeOptions

__all__ = ["make_int8"]

_COMPARED = 32
"""Held-out images that tell whether quantising went well; accuracy is counted later, on all."""


def make_int8(work: Work) -> None:
    """Write `dense.int8.onnx` and `masked.int8.onnx`.

    Raises:
        ActivsparseError: see `quantise_file`.
    """
    effort = work.options.effort
    options = QuantizeOptions(
        images=effort.calibration,
        held_out=_COMPARED,
        per_layer=False,
        threads=work.options.threads,
        fallback=work.options.fallback,
    )
    for name in ("dense", "masked"):
        with Measuring(f"quantising the {name} network", work.console) as progress:
            found = quantise_file(
                work.path(name),
                options=options,
                trust=work.config,
                advance=lambda what, done, total: progress.advance(done, total, what),
            )
        write_model(found.model, work.networks[f"{name} int8"])
