"""torch networks, sparsified or not, to .tflite files, through litert-torch."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from activsparse.errors import ActivsparseError
from activsparse.export.bake import bake
from activsparse.export.check import Check, compare_with
from activsparse.files import atomic_path
from activsparse.train.sparsify.hooks import held_masks

__all__ = ["export_tflite"]


def export_tflite(
    model: nn.Module,
    example_input: Tensor,
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
) -> Check | None:
    """Export `model` to a .tflite file that takes images in (N, H, W, C).

    litert-torch translates torch's own program, norms and activations folded; a mask becomes a
    multiplication by a constant, which the delegate turns into skipped work.

    Args:
        model: any module that takes one image tensor; exported in evaluation mode, unchanged.
        example_input: (N, C, H, W).
        path: the file to write.
        verify: compare with torch on this and random inputs, see `check.compare`.

    Returns:
        How far LiteRT and torch are apart; None where nothing was compared.

    Raises:
        ActivsparseError: litert-torch is not installed or cannot translate the network, a masked
            layer was replaced, a mask is an average of several, the outputs differ by more than
            rounding explains, or `path` cannot be written.
    """
    frozen = bake(model)
    held_masks(frozen)  # refuses lost and averaged ones
    example = example_input.detach().cpu()
    with atomic_path(path) as temporary:
        _convert(frozen, example, temporary)
        check = compare_with(frozen, _runner(temporary), (example,)) if verify else None
        if check is not None and not check.passed:
            raise ActivsparseError(
                f"{os.fspath(path)}: LiteRT differs from torch by {check.error:.3g}, more than "
                f"rounding explains ({check.bound:.3g}); export to ONNX and use "
                "`activsparse convert`"
            )
    return check


def _convert(model: nn.Module, example: Tensor, path: Path) -> None:
    try:
        import litert_torch
    except ImportError as error:
        raise ActivsparseError(
            "exporting to .tflite needs litert-torch, which is not installed; "
            "pip install 'activsparse[tflite]', or export to ONNX and use `activsparse convert`"
        ) from error
    last = litert_torch.to_channel_last_io(model, args=[0])
    try:
        with _quiet():
            program = litert_torch.convert(last.eval(), (example.permute(0, 2, 3, 1).contiguous(),))
            program.export(str(path))
    except Exception as error:  # litert-torch's exceptions share no narrower base
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise ActivsparseError(
            f"litert-torch cannot convert {type(model).__name__} ({cause}); "
            "export to ONNX and use `activsparse convert`"
        ) from error


def _runner(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (described,) = interpreter.get_input_details()

    def run(tensors: Sequence[Tensor]) -> list[Any]:
        image = np.ascontiguousarray(tensors[0].permute(0, 2, 3, 1).numpy())
        interpreter.set_tensor(described["index"], image)
        interpreter.invoke()
        return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's warnings, log lines and progress to ourselves."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
