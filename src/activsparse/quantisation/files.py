"""From a model's file or a run folder, and a source of samples, to a quantised network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from activsparse.engine.border import as_array
from activsparse.engine.input_size import shapes_at
from activsparse.engine.plan_file import is_plan
from activsparse.errors import ActivsparseError, Option
from activsparse.export.graph import tensor_types
from activsparse.export.model_file import read_model
from activsparse.files import file_path
from activsparse.input_sizes import InputSizes
from activsparse.quantisation.options import QuantizeOptions
from activsparse.quantisation.quantize import Advance, Quantised, quantise
from activsparse.quantisation.samples import Preprocessing, read_samples, samples_of

if TYPE_CHECKING:
    from activsparse.train.recipes.config import Config

__all__ = ["default_out", "quantise_file"]


def quantise_file(
    path: str | os.PathLike[str],
    data: Any = None,
    *,
    options: QuantizeOptions | None = None,
    preprocessing: Preprocessing | None = None,
    sizes: InputSizes | None = None,
    checkpoint: str = "best",
    trust: bool | Config = False,
    advance: Advance = lambda what, done, total: None,
) -> Quantised:
    """Quantise a network in a file or a run folder; `quantise` with what it needs.

    Args:
        path: an ONNX file, or a folder of `activsparse train`.
        data: a folder of images, an .npz file, an array or a mapping of arrays: see `read_samples`.
            A run folder brings its own, and takes no other.
        options: see there.
        preprocessing: of a folder of images.
        sizes: of inputs that the file leaves open.
        checkpoint: of a run folder.
        trust: whether a run folder may call code that it names, see `load_run`.
        advance: told of progress.

    Raises:
        ActivsparseError: see `quantise`, `read_samples` and `load_run`; data missing, or too much.
    """
    options = options or QuantizeOptions()
    source = file_path(path)
    if source.is_dir():
        if data is not None and (source / "config.yaml").is_file():
            raise ActivsparseError(
                f"{source}: a run folder is quantised with the images it was trained on; leave ",
                Option("data"),
                " out, or export it and name the ONNX file",
            )
        from activsparse.quantisation.run_folder import network_of, samples_of_run

        model, run = network_of(source, checkpoint=checkpoint, trust=trust)
        samples = samples_of_run(run, model.graph.input[0].name, options.images, options.held_out)
        return quantise(model, samples, options, name=str(source), advance=advance)
    if data is None:
        raise ActivsparseError(
            f"{source}: samples are needed to calibrate with; give a folder of images or an .npz "
            "file as ",
            Option("data"),
        )
    if is_plan(source):
        raise ActivsparseError(
            f"{source}: is a compiled plan; name the ONNX model it was made from"
        )
    model = read_model(source)
    shapes = shapes_at(source, sizes or InputSizes())
    images, held_out = options.images, options.held_out
    if isinstance(data, Mapping) or hasattr(data, "__array__"):
        given = data if isinstance(data, Mapping) else {"data": data}
        arrays = {tensor: _array(values, tensor) for tensor, values in given.items()}
        samples = samples_of(arrays, shapes, images=images, held_out=held_out)
    elif not isinstance(data, str | os.PathLike):
        kind = type(data).__name__
        raise ActivsparseError(
            Option("data"),
            f": a {kind} is none of a folder of images, an .npz file, an array or tensor (M, ...), "
            "or a dict of them by input; of a list of samples np.stack makes one",
        )
    else:
        samples = read_samples(
            data,
            shapes,
            preprocessing or Preprocessing(),
            images=images,
            held_out=held_out,
            classes=_classes(model, str(source)),
        )
    return quantise(model, samples, options, name=str(source), advance=advance)


def _array(values: Any, tensor: str) -> npt.NDArray[Any]:
    try:
        return as_array(values)
    except (ValueError, TypeError) as error:
        raise ActivsparseError(
            f"data: '{tensor}' is no array ({error}); give numbers or a tensor of them"
        ) from error


def _classes(model: Any, name: str) -> int | None:
    """How many classes the model tells apart, if one of its outputs is (N, classes)."""
    types = tensor_types(model, name)
    for value in model.graph.output:
        sizes = types.get(value.name, (0, ()))[1]
        if len(sizes) == 2 and sizes[1] is not None and sizes[1] > 1:
            return sizes[1]
    return None


def default_out(path: str | os.PathLike[str]) -> Path:
    """Where the result goes if nothing else is said: beside the model, or into the run folder."""
    source = file_path(path)
    return source / "int8.onnx" if source.is_dir() else source.with_suffix(".int8.onnx")
