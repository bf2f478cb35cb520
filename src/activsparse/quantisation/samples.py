"""Samples to calibrate with and to compare on: from a folder of images or an .npz file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError, Option
from activsparse.files import file_path
from activsparse.pictures import IMAGENET_MEAN, IMAGENET_STD, open_picture
from activsparse.quantisation.calibrate import Feed
from activsparse.values import check_number, refuse

__all__ = ["Preprocessing", "Samples", "read_samples", "samples_of"]

Shapes = Mapping[str, tuple[int, ...]]
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_LABELS = "labels"
_FITS = ("crop", "stretch")


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to a network's input.

    Attributes:
        mean: subtracted from values in [0, 1], one or one per channel.
        std: what they are then divided by.
        fit: `crop`, the middle of the image with the short side an eighth larger than the input,
            as `activsparse train` sees images of folders; `stretch`, all of it.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.fit not in _FITS:
            raise ActivsparseError(Option("fit", self.fit), f" is none of {', '.join(_FITS)}")
        for name in ("mean", "std"):
            given = getattr(self, name)
            values = (given,) if isinstance(given, Real) else given
            if not isinstance(values, Iterable) or isinstance(values, str):
                refuse(name, given, f"give a number for each channel, such as {IMAGENET_MEAN}")
            object.__setattr__(self, name, tuple(values))
            for value in getattr(self, name):
                check_number(name, value, 0.5)
        if not all(value > 0 for value in self.std):
            raise ActivsparseError(Option("std"), " must be above 0")

    def read(self, path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
        """Return an image as (C, H, W) float32, C being 1 or 3.

        Raises:
            ActivsparseError: it cannot be read.
        """
        from PIL.Image import Resampling

        channels, height, width = shape
        picture = open_picture(path, "L" if channels == 1 else "RGB")
        if self.fit == "stretch":
            picture = picture.resize((width, height), Resampling.BILINEAR)
        else:
            scale = max(height, width) * 8 / 7 / min(picture.size)
            sizes = [
                max(round(size * scale), least)
                for size, least in zip(picture.size, (width, height), strict=True)
            ]
            picture = picture.resize((sizes[0], sizes[1]), Resampling.BILINEAR)
            left, top = round((sizes[0] - width) / 2), round((sizes[1] - height) / 2)
            picture = picture.crop((left, top, left + width, top + height))
        pixels = np.asarray(picture, np.float32).reshape(height, width, channels) / 255
        values = (pixels - self._per_channel(self.mean, channels)) / self._per_channel(
            self.std, channels
        )
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)

    def _per_channel(self, values: tuple[float, ...], channels: int) -> npt.NDArray[np.float32]:
        if len(values) in (1, channels):
            return np.array(values, np.float32)
        if channels == 1:
            return np.array([np.mean(values)], np.float32)
        raise ActivsparseError(
            f"{len(values)} means or deviations for {channels} channels; give 1 or {channels} as ",
            Option("mean"),
            " and ",
            Option("std"),
        )


@dataclass(frozen=True)
class Samples:
    """Inputs of a network.

    Attributes:
        calibration: whose values decide ranges.
        held_out: others, to compare on.
        labels: of the held-out ones, or None.
        told: what they are, for the user.
    """

    calibration: Sequence[Feed]
    held_out: Sequence[Feed]
    labels: npt.NDArray[np.int64] | None = None
    told: str = field(default="")


def read_samples(
    source: str | os.PathLike[str],
    shapes: Shapes,
    preprocessing: Preprocessing,
    *,
    images: int,
    held_out: int,
    classes: int | None,
) -> Samples:
    """Read samples, the same ones in every call.

    Args:
        source: a folder of images; `train` and `test` (or `val`) in it are taken for what they are
            called. Or an .npz file with an array (M, ...) for each input by name, of one input by
            any name, and `labels` (M,) if there are any.
        shapes: of the model's inputs, by name.
        preprocessing: of images.
        images: at most so many to calibrate with.
        held_out: at most so many others.
        classes: the model's, if it says so: a folder of as many sub-folders has labels, their
            numbers in alphabetical order.

    Raises:
        ActivsparseError: no such file or folder, none or too few samples in it, or of wrong shapes.
    """
    path = file_path(source, "data")
    if path.is_dir():
        return _from_folder(path, shapes, preprocessing, images, held_out, classes)
    if not path.exists():
        raise ActivsparseError(f"{path}: no such file or folder; check the path")
    return _from_npz(path, shapes, images, held_out)


def _from_folder(
    folder: Path,
    shapes: Shapes,
    preprocessing: Preprocessing,
    images: int,
    held_out: int,
    classes: int | None,
) -> Samples:
    if len(shapes) != 1:
        raise ActivsparseError(
            f"{folder}: images are for one input, and the model has {len(shapes)} "
            f"({', '.join(shapes)}); give an .npz file with an array for each"
        )
    ((name, shape),) = shapes.items()
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise ActivsparseError(
            f"{folder}: input '{name}' of shape {_text(shape)} is no image of 1 or 3 channels; "
            "give an .npz file"
        )
    first, second = folder, None
    if (folder / "train").is_dir():
        first = folder / "train"
        second = next((folder / n for n in ("test", "val") if (folder / n).is_dir()), None)
    files = _images_in(first)
    others = _images_in(second) if second else []
    chosen, rest = _parts(len(files), images, held_out if not second else 0, str(first))
    calibration = [files[i] for i in chosen]
    if second:
        order = np.random.default_rng(0).permutation(len(others))[:held_out]
        tests = [others[i] for i in sorted(order)]
    else:
        tests = [files[i] for i in rest]
    numbers = _labels(second or first, tests, classes)

    def feeds(paths: list[Path]) -> Sequence[Feed]:
        return _Lazy(
            len(paths) // shape[0],
            lambda i: {
                name: np.stack(
                    [
                        preprocessing.read(path, (shape[1], shape[2], shape[3]))
                        for path in paths[i * shape[0] : (i + 1) * shape[0]]
                    ]
                )
            },
        )

    told = f"{len(calibration)} images of {first}, compared on {len(tests)} others"
    told += " with labels" if numbers is not None else ""
    return Samples(feeds(calibration), feeds(tests), numbers, told)


class _Lazy(Sequence[Feed]):
    """Samples read when they are asked for: thousands of images do not fit into memory."""

    def __init__(self, count: int, read: Callable[[int], Feed], start: int = 0) -> None:
        self._count, self._read, self._start = count, read, start

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            if step != 1:
                raise ValueError("samples are read in order")
            return _Lazy(max(stop - start, 0), self._read, self._start + start)
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._read(self._start + index)


def _images_in(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS and p.is_file())
    if not found:
        raise ActivsparseError(
            f"{folder}: holds no images ({', '.join(e[1:] for e in _ENDINGS)}); name a folder that "
            "does, or an .npz file"
        )
    return found


def _parts(count: int, images: int, held_out: int, where: str) -> tuple[list[int], list[int]]:
    """Which samples calibrate and which are held out: a fifth at least, where they are few."""
    order = np.random.default_rng(0).permutation(count).tolist()
    if not held_out:
        return sorted(order[:images]), []
    if count < 2:
        raise ActivsparseError(
            f"{where}: too few samples: one to calibrate with and one to compare on are the least "
            "(each as many as the model's batch); add some"
        )
    rest = min(held_out, max(count - images, -(-count // 5)))
    return sorted(order[rest : rest + images]), sorted(order[:rest])


def _labels(folder: Path, paths: list[Path], classes: int | None) -> npt.NDArray[np.int64] | None:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir())
    if classes is None or len(names) != classes:
        return None
    found = [path.relative_to(folder).parts[0] for path in paths]
    if not set(found) <= set(names):
        return None
    return np.array([names.index(name) for name in found], np.int64)


def _from_npz(path: Path, shapes: Shapes, images: int, held_out: int) -> Samples:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("a single array, as numpy.save writes it")
        with loaded as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(
            f"{path}: no whole .npz file of numbers ({cause}); write one with numpy.savez, an "
            "array for each input"
        ) from error
    return samples_of(arrays, shapes, images=images, held_out=held_out, name=str(path))


def samples_of(
    arrays: Mapping[str, npt.NDArray[Any]],
    shapes: Shapes,
    *,
    images: int,
    held_out: int,
    name: str = "data",
) -> Samples:
    """Samples in memory: see `read_samples`.

    Args:
        arrays: (M, ...) float32 for each input, and `labels` (M,) if there are any.
        shapes: of the model's inputs, by name.
        images: at most so many to calibrate with.
        held_out: at most so many others.
        name: of what the arrays are, for messages.

    Raises:
        ActivsparseError: arrays that do not fit the inputs or each other, or are too few.
    """
    arrays = dict(arrays)
    labels = arrays.pop(_LABELS, None)
    if len(shapes) == 1 and len(arrays) == 1:
        arrays = {next(iter(shapes)): next(iter(arrays.values()))}
    for tensor, shape in shapes.items():
        if tensor not in arrays:
            raise ActivsparseError(
                f"{name}: has no array '{tensor}', but {', '.join(arrays) or 'none'}; name them as "
                "the model's inputs"
            )
        _check(arrays[tensor], tensor, shape, name)
    counts = {len(arrays[tensor]) for tensor in shapes}
    if len(counts) > 1:
        raise ActivsparseError(f"{name}: its arrays hold different numbers of samples; cut them")
    (count,) = counts
    if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
        raise ActivsparseError(
            f"{name}: '{_LABELS}' is {labels.dtype} of shape {_text(labels.shape)}; write a whole "
            f"number for each of the {count} samples, or leave it out"
        )
    batch = next(iter(shapes.values()))[0]
    chosen, rest = _parts(count // batch, -(-images // batch), -(-held_out // batch), name)

    def feeds(indices: list[int]) -> list[Feed]:
        return [
            {k: arrays[k][i * batch : (i + 1) * batch].astype(np.float32) for k in shapes}
            for i in indices
        ]

    numbers = None
    if labels is not None:
        numbers = np.concatenate([labels[i * batch : (i + 1) * batch] for i in rest])
    told = f"{len(chosen) * batch} samples of {name}, compared on {len(rest) * batch} others"
    told += " with labels" if labels is not None else ""
    return Samples(feeds(chosen), feeds(rest), numbers, told)


def _check(array: npt.NDArray[Any], tensor: str, shape: tuple[int, ...], name: str) -> None:
    """Whether an array holds samples of an input."""
    if array.dtype.kind != "f":
        raise ActivsparseError(
            f"{name}: '{tensor}' is {array.dtype}, not float32; write values as the network sees "
            "them, normalised"
        )
    if array.shape[1:] != shape[1:] or not array.size:
        raise ActivsparseError(
            f"{name}: '{tensor}' is of shape {_text(array.shape)}, and the input takes samples of "
            f"{_text(shape[1:])}; write ({', '.join(['M', *map(str, shape[1:])])})"
        )
    if not np.isfinite(array).all():
        raise ActivsparseError(f"{name}: '{tensor}' holds values that are not finite; mend them")


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "()"
