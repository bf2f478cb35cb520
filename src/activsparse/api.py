"""The whole way in Python, for a training loop of one's own: masks, export, checks, times.

Everything here is a name of `activsparse` itself, resolved on first use:

    sparsifier = activsparse.sparsify(model, example_input, target_speedup=1.5, batches=some)
    ...                                                  # train, with sparsifier.step(loss)
    activsparse.export(model, example_input, "masked.onnx", dense="dense.onnx")
    activsparse.verify("masked.onnx")
    print(activsparse.benchmark("dense.onnx", "masked.onnx"))
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError, Option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from activsparse.bench.compare import Comparison
    from activsparse.engine.verify import OutputErrors
    from activsparse.export.onnx import Exported
    from activsparse.quantisation.quantize import Quantised
    from activsparse.train import Sparsifier

__all__ = ["benchmark", "export", "quantize", "sparsify", "verify"]

FilePath = str | os.PathLike[str]


def sparsify(
    model: nn.Module,
    example_input: Tensor,
    sparsity: float | None = None,
    *,
    target_speedup: float | None = None,
    batches: Sequence[tuple[Tensor, Tensor]] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    quick: bool = False,
    threads: int = 1,
    **options: Any,
) -> Sparsifier:
    """Put masks into a network: as many as are asked for, or those of least loss for a speed-up.

    Args:
        model: any module with Conv2d layers, in place; for `target_speedup` a trained one.
        example_input: (N, C, H, W) float32. Masks belong to its size.
        sparsity: share of output positions not computed in every masked layer.
        target_speedup: in its place: how many times as fast the whole network is to be in this
            engine on this machine. Losses are measured on `batches`, times in the engine.
        batches: pairs of images and targets, of that size and on the model's device.
        loss: mean loss of (outputs, targets); cross-entropy by default.
        quick: measure less, in minutes.
        threads: of the engine that is timed.
        options: of `activsparse.train.Sparsifier` (`total_steps`, `begin`, `end`), and those of
            `activsparse.masks.MaskOptions`.

    Returns:
        Its Sparsifier, to be stepped after the optimiser.

    Raises:
        ActivsparseError: see `Sparsifier`; a target that no masks reach; no batches for one.
    """
    _require_network(model)
    _require_tensor(example_input)
    from activsparse.train import Sparsifier

    if target_speedup is None:
        return Sparsifier(model, example_input, sparsity, **options)
    if sparsity is not None:
        raise ActivsparseError(
            Option("sparsity"), " and ", Option("target_speedup"), " both choose masks; give one"
        )
    if type(target_speedup) not in (int, float):
        raise ActivsparseError(
            Option("target_speedup", target_speedup), " is no number; choose for example 1.5"
        )
    _require_threads(threads)
    given = _checked_batches(batches, example_input)
    from dataclasses import fields

    from torch.nn.functional import cross_entropy

    from activsparse.export.onnx import export_onnx
    from activsparse.masks import MaskOptions
    from activsparse.pipeline.options import FULL, QUICK
    from activsparse.pipeline.plan import find_masks
    from activsparse.train.sparsify.modes import evaluating

    names = {field.name for field in fields(MaskOptions)}
    chosen = MaskOptions().but(**{k: v for k, v in options.items() if k in names})
    rest = {k: v for k, v in options.items() if k not in names}
    with evaluating(model), tempfile.TemporaryDirectory() as folder:
        dense = Path(folder) / "dense.onnx"
        export_onnx(model, example_input[:1], dense)
        found, _ = find_masks(
            model,
            example_input[:1],
            given,
            loss or cross_entropy,
            target_speedup,
            dense=dense,
            effort=QUICK if quick else FULL,
            options=chosen,
            threads=threads,
        )
    # The masks of a plan are final; there is nothing to ramp.
    return Sparsifier(model, example_input, plan=found.plan, **{"begin": 0.0, "end": 0.0, **rest})


def export(
    model: nn.Module,
    example_input: Any,
    path: FilePath,
    *,
    dense: FilePath | None = None,
    **options: Any,
) -> Exported:
    """Write a network as an ONNX file of standard operators, and its twin without masks.

    Args:
        model: sparsified or not, see `activsparse.export.onnx.convert`.
        example_input: (N, C, H, W), or a tuple of the model's arguments.
        path: file to write.
        dense: also write the same weights without masks.
        options: see `activsparse.export.onnx.convert`.

    Raises:
        ActivsparseError: see `activsparse.export.onnx.convert`.
    """
    _require_network(model)
    from activsparse.export.model_file import write_model
    from activsparse.export.onnx import export_onnx, without_masks

    exported = export_onnx(model, example_input, path, **options)
    if dense is not None:
        write_model(without_masks(exported.model), dense)
    return exported


def quantize(
    path: FilePath,
    data: Any = None,
    out: FilePath | None = None,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fit: str = "crop",
    checkpoint: str = "best",
    trust: bool = False,
    **options: Any,
) -> Quantised:
    """Make an int8 network of a float32 one, masks and all.

    Args:
        path: an ONNX file, or a folder of `activsparse train`.
        data: samples: a folder of images, an .npz file, an array or tensor (M, ...) float32, or a
            mapping of them by input, and `labels` (M,) if there are any. A run folder brings its
            own.
        out: ONNX file to write, in QDQ form; None writes none.
        input_shapes: whole shapes of inputs that the file leaves open; an open batch is 1.
        mean: of image files, subtracted from values in [0, 1]; ImageNet's by default.
        std: what they are then divided by.
        fit: `crop` or `stretch`, see `quantisation.samples.Preprocessing`.
        checkpoint: of a run folder.
        trust: whether a run folder may call code that it names.
        options: of `quantisation.options.QuantizeOptions`.

    Returns:
        The model, what it loses on samples held out, and what each layer costs alone.

    Raises:
        ActivsparseError: see `quantisation.files.quantise_file`; `out` cannot be written.
    """
    from activsparse.export.model_file import write_model
    from activsparse.files import file_path
    from activsparse.input_sizes import InputSizes
    from activsparse.overwrite import refuse_overwrite
    from activsparse.quantisation.files import quantise_file
    from activsparse.quantisation.options import QuantizeOptions
    from activsparse.quantisation.samples import Preprocessing

    file_path(path)
    if out is not None:
        try:
            out = file_path(out)
        except ActivsparseError as error:
            raise ActivsparseError(Option("out"), ": ", error) from error
    given = {"mean": mean, "std": std}
    chosen = {name: tuple(values) for name, values in given.items() if values is not None}
    refuse_overwrite([path], [out])
    if "keep_float" in options:
        globs = options["keep_float"]
        options["keep_float"] = (globs,) if isinstance(globs, str) else tuple(globs)
    result = quantise_file(
        path,
        data,
        options=QuantizeOptions(**options),
        preprocessing=Preprocessing(**chosen, fit=fit),
        sizes=InputSizes(input_shapes or {}),
        checkpoint=checkpoint,
        trust=trust,
    )
    if out is not None:
        write_model(result.model, out)
    return result


def verify(path: FilePath, *, seed: int = 0, **options: Any) -> OutputErrors:
    """Compare this engine with ONNX Runtime on random inputs, normal and odd ones.

    Args:
        path: ONNX file.
        seed: of the inputs.
        options: of `Session`.

    Returns:
        The error and bound of every output and kind of input; all hold. Printed, a line for each.

    Raises:
        ActivsparseError: an output differs by more than rounding explains; see also `Session`.
    """
    from activsparse.engine.session import Session
    from activsparse.engine.verify import require_agreement

    return require_agreement(path, Session(path, **options), seed)


def benchmark(
    dense: FilePath,
    *masked: FilePath,
    engines: Sequence[str] = ("activsparse", "onnxruntime"),
    threads: int = 1,
    repeat: int = 50,
    **options: Any,
) -> Comparison:
    """Time ONNX files on several engines, interleaved, their outputs checked first.

    Args:
        dense: the dense model.
        masked: masked ones to set against it.
        engines: see `activsparse bench --help`.
        threads: of every engine.
        repeat: timed runs of each.
        options: see `activsparse.bench.compare.compare`.

    Returns:
        All figures; printed, a line for each.

    Raises:
        ActivsparseError: see `activsparse.bench.compare.compare`.
    """
    from activsparse.bench.compare import compare
    from activsparse.files import file_path

    _require_threads(threads)
    _require_count("repeat", repeat, 1_000_000)
    names = (engines,) if isinstance(engines, str) else tuple(engines)
    files = [file_path(path) for path in masked]
    return compare(file_path(dense), files, names, threads=threads, repeat=repeat, **options)


def _require_network(model: object) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ActivsparseError(
            f"model: a {type(model).__name__} is no network of torch; give an nn.Module ("
            "activsparse mask takes ONNX files)"
        )


def _require_tensor(example_input: object) -> None:
    from torch import Tensor

    if not isinstance(example_input, Tensor):
        kind = type(example_input).__name__
        raise ActivsparseError(
            f"example_input: is a {kind}, not a tensor; give one of torch, (N, C, H, W) float32"
        )


def _require_threads(threads: object) -> None:
    from activsparse.engine.options import MOST_THREADS

    _require_count("threads", threads, MOST_THREADS)


def _require_count(name: str, number: object, most: int) -> None:
    if type(number) is not int or not 1 <= number <= most:
        raise ActivsparseError(
            Option(name, number), f" is not a whole number from 1 to {most}; choose one"
        )


def _checked_batches(batches: Any, example_input: Tensor) -> list[tuple[Tensor, Any]]:
    """The batches, which are gone through many times; a loader or generator gives them once."""
    from torch import Tensor

    try:
        given = list(batches or ())
    except TypeError:
        given = []
    if not given:
        raise ActivsparseError(
            Option("target_speedup"),
            " measures losses under masks; give some batches of images and targets in ",
            Option("batches"),
        )
    size = tuple(example_input.shape[1:])
    for at, batch in enumerate(given):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        images = batch[0] if pair else None
        if not isinstance(images, Tensor) or tuple(images.shape[1:]) != size:
            found = (
                f"images {tuple(images.shape)}" if isinstance(images, Tensor) else "no such pair"
            )
            raise ActivsparseError(
                Option("batches"),
                f": number {at} has {found}; give pairs (images, targets) of tensors, images "
                f"(N, {', '.join(map(str, size))}) as ",
                Option("example_input"),
            )
    return given
