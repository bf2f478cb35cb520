"""The whole way in Python, for a training loop of one's own: masks, export, checks, times.

Everything here is a name of `activsparse` itself, resolved on first use:

    sparsifier = activsparse.sparsify(model, example_input, target_speedup=1.5, batches=some)
    ...                                                  # train, with sparsifier.step(loss)
    activsparse.export(model, example_input, "masked.onnx", dense="dense.onnx")
    activsparse.verify("masked.onnx")
    print(activsparse.benchmark("dense.onnx", "masked.onnx"))
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError, Option
from activsparse.values import check_count, check_number, refuse

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
    example_input: Tensor | tuple[Any, ...],
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
        example_input: (N, C, H, W) float32, or without `target_speedup` a tuple of the model's
            arguments with such a one among them. Masks belong to its size.
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
    from activsparse.train import Sparsifier

    if target_speedup is None:
        _require_tensors(example_input)
        for name, value in (("batches", batches), ("loss", loss)):
            if value is not None:
                raise ActivsparseError(
                    Option(name), " is what masks are chosen by for a speed-up; give ",
                    Option("target_speedup"), f", or leave {name} out"
                )  # fmt: skip
        return Sparsifier(model, example_input, sparsity, **options)
    if sparsity is not None:
        raise ActivsparseError(
            Option("sparsity"), " and ", Option("target_speedup"), " both choose masks; give one"
        )
    from activsparse.engine.options import MOST_THREADS

    example_input = _required_tensor(example_input)
    check_number("target_speedup", target_speedup, 1.5)
    check_count("threads", threads, MOST_THREADS)
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
    measured = loss or cross_entropy
    with evaluating(model), tempfile.TemporaryDirectory() as folder:
        _require_losses(model, given, measured)
        dense = Path(folder) / "dense.onnx"
        export_onnx(model, example_input[:1], dense)
        found, _ = find_masks(
            model,
            example_input[:1],
            given,
            measured,
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
        ActivsparseError: see `activsparse.export.onnx.convert`; a path that cannot be written, or
            both are one. No file is left then.
    """
    _require_network(model)
    from activsparse.export.model_file import save_model
    from activsparse.export.onnx import convert, without_masks
    from activsparse.files import atomic_path, file_path, writing

    targets = [file_path(path)]
    if dense is not None:
        targets.append(file_path(dense, "dense"))
        if os.path.realpath(targets[0]) == os.path.realpath(targets[1]):
            raise ActivsparseError(
                f"{path}: is to hold the masked network; name another file as ", Option("dense")
            )
    with ExitStack() as stack:
        # Opened first, so that a path that cannot be written is noticed before the work.
        files = [stack.enter_context(atomic_path(target)) for target in targets]
        exported = convert(model, example_input, **options)
        models = (exported.model, without_masks(exported.model))
        for target, file, proto in zip(targets, files, models, strict=False):
            with writing(target):
                save_model(proto, file, target)
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
    from activsparse.engine.options import checked_shapes
    from activsparse.export.model_file import save_model
    from activsparse.files import atomic_path, file_path, writing
    from activsparse.input_sizes import InputSizes
    from activsparse.overwrite import refuse_overwrite
    from activsparse.quantisation.files import quantise_file
    from activsparse.quantisation.options import QuantizeOptions
    from activsparse.quantisation.samples import Preprocessing

    out = None if out is None else file_path(out, "out")
    given = {"mean": mean, "std": std}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    refuse_overwrite([file_path(path)], [out])
    quantising, preprocessing = QuantizeOptions(**options), Preprocessing(**chosen, fit=fit)
    with nullcontext() if out is None else atomic_path(out) as temporary:
        result = quantise_file(
            path,
            data,
            options=quantising,
            preprocessing=preprocessing,
            sizes=InputSizes(checked_shapes(input_shapes)),
            checkpoint=checkpoint,
            trust=trust,
        )
        if out is not None and temporary is not None:
            with writing(out):
                save_model(result.model, temporary, out)
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
    from activsparse.files import file_path

    check_count("seed", seed, least=0)
    file = file_path(path)
    return require_agreement(file, Session(file, **options), seed)


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
    from activsparse.engine.options import MOST_THREADS, checked_shapes
    from activsparse.files import file_path

    check_count("threads", threads, MOST_THREADS)
    check_count("repeat", repeat, 1_000_000)
    check_count("seed", options.get("seed", 0), least=0)
    if isinstance(engines, str):
        engines = [name.strip() for name in engines.split(",")]
    if not isinstance(engines, Iterable) or not (names := tuple(engines)):
        refuse("engines", engines, "names no engine; give for example ['activsparse', 'ncnn']")
    options["input_shapes"] = checked_shapes(options.get("input_shapes"))
    if not isinstance(options.get("session") or {}, Mapping):
        refuse("session", options["session"], "give a dict of options of Session")
    files = [file_path(path, "masked") for path in masked]
    return compare(
        file_path(dense, "dense"), files, names, threads=threads, repeat=repeat, **options
    )


def _require_network(model: object) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise ActivsparseError(
            f"model: a {type(model).__name__} is no network of torch; give an nn.Module ("
            "activsparse mask takes ONNX files)"
        )


def _required_tensor(example_input: object) -> Tensor:
    from torch import Tensor

    if not isinstance(example_input, Tensor):
        kind = type(example_input).__name__
        raise ActivsparseError(
            f"example_input: is a {kind}, not a tensor; give one of torch, (N, C, H, W) float32 (a "
            "network of several arguments takes a tuple of them, without a speed-up to reach)"
        )
    return example_input


def _require_tensors(example_input: object) -> None:
    """Several arguments go as a tuple, as to torch's exporter."""
    from torch import Tensor

    if not isinstance(example_input, tuple):
        _required_tensor(example_input)
    elif not any(isinstance(x, Tensor) for x in example_input):
        raise ActivsparseError(
            "example_input: is a tuple without a tensor; give the network's arguments, those of "
            "torch (N, C, H, W) float32 among them"
        )


def _checked_batches(batches: Any, example_input: Tensor) -> list[tuple[Tensor, Any]]:
    """The batches, which are gone through many times; a loader or generator gives them once."""
    from torch import Tensor

    try:
        # A tensor can be gone through, too, but holds no batches.
        given = [] if isinstance(batches, Tensor) else list(batches or ())
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
        shape = None
        if pair and all(isinstance(part, Tensor) for part in batch):
            shape = tuple(batch[0].shape)
        if shape is None or shape[1:] != size or not shape[0]:
            found = "no such pair" if shape is None else f"images {shape}"
            raise ActivsparseError(
                Option("batches"),
                f": number {at} has {found}; give pairs (images, targets) of tensors, images "
                f"(N, {', '.join(map(str, size))}) as ",
                Option("example_input"),
            )
    return given


def _require_losses(
    model: nn.Module, batches: Sequence[tuple[Tensor, Any]], loss: Callable[[Any, Any], Any]
) -> None:
    """Whether the network has a finite loss on each batch: what follows compares such losses.

    Raises:
        ActivsparseError: it does not run on one, or the loss is no function of two that gives a
            finite number.
    """
    import torch

    if not callable(loss):
        refuse("loss", loss, "give a function of outputs and targets, their mean loss")
    with torch.no_grad():
        for at, (images, targets) in enumerate(batches):
            try:
                outputs = model(images)
            except Exception as error:  # a network may be anybody's code
                raise ActivsparseError(
                    Option("batches"),
                    f": {type(model).__name__} does not run on number {at} ({error}); give images "
                    "of the type and device of its weights",
                ) from error
            try:
                value = float(loss(outputs, targets))
            except Exception as error:  # and so may a loss
                raise ActivsparseError(
                    Option("loss"),
                    f": gives no number for batch {at}, targets {tuple(targets.shape)} "
                    f"{targets.dtype} ({type(error).__name__}: {error}); give a function of "
                    "outputs and targets, their mean loss, and targets that it takes",
                ) from error
            if not math.isfinite(value):
                raise ActivsparseError(
                    Option("loss"),
                    f": is {value} on batch {at}, without any mask; check images, targets and "
                    "the network's weights",
                )
