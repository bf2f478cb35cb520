"""The sizes a user gives for inputs that a model leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from activsparse.errors import ActivsparseError, Option

__all__ = ["AnyRank", "Dims", "InputSizes", "example_shape", "image_axes"]

Shape = tuple[int, ...]
Dims = tuple[int | None, ...]
"""Sizes of an input, None where the model leaves one open."""

AnyRank = Dims | None
"""The same, None where the model does not even say how many there are."""

# Numbers of channels by which the layout of an image is told where nothing else tells it.
_CHANNELS = (1, 3, 4)
_IMAGE = (1, 3, 224, 224)


@dataclass(frozen=True)
class InputSizes:
    """Sizes for a model's open inputs.

    Attributes:
        input_shapes: whole shapes by name; they go before the others.
        input_size: (H, W) of every image: every input of shape (N, C, H, W), or (N, H, W, C) where
            the model fixes the last size and not the second.
        batch: size of the first dimension wherever it is open.
    """

    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    input_size: tuple[int, int] | None = None
    batch: int | None = None

    def __bool__(self) -> bool:
        """Whether any size is given."""
        return bool(self.input_shapes) or self.input_size is not None or self.batch is not None

    def resolve(self, inputs: Mapping[str, AnyRank], file: object) -> dict[str, Dims]:
        """Return the sizes of all inputs with those given put in.

        Args:
            inputs: name to sizes, of every input of the model.
            file: the model, for messages.

        Raises:
            ActivsparseError: there is no such input, or a size that is given is another one in the
                model, or not one of it; or the model has an input of any rank and no shape is
                given.
        """
        found = {name: tuple(dims) for name, dims in inputs.items() if dims is not None}
        for name, shape in self.input_shapes.items():
            if name not in inputs:
                raise ActivsparseError(
                    f"{file}: there is no input '{name}'; the inputs are: {', '.join(inputs)}"
                )
            found[name] = _whole(f"{file}: input '{name}'", inputs[name], tuple(shape))
        for name in inputs:
            if name not in found:
                raise ActivsparseError(
                    f"{file}: input '{name}' has no shape in the file; give it, for example ",
                    Option("input_shapes", {name: _IMAGE}),
                )
        rest = [name for name in found if name not in self.input_shapes]
        if self.input_size is not None:
            images = [name for name in rest if len(found[name]) == 4]
            if rest and not images:
                raise ActivsparseError(
                    f"{file}: has no input of an image; leave ", Option("input_size"), " out"
                )
            for name in images:
                found[name] = _image(f"{file}: input '{name}'", name, found[name], self.input_size)
        if self.batch is not None:
            self._put_batch({name: found[name] for name in rest}, found, file)
        return found

    def filled(self, inputs: Mapping[str, AnyRank], file: object) -> InputSizes:
        """Return these sizes, and those of a common image for whatever inputs stay open.

        Args:
            inputs: name to sizes, of every input of the model.
            file: the model, for messages.

        Raises:
            ActivsparseError: see `resolve`.
        """
        shapes = {name: _IMAGE for name, dims in inputs.items() if dims is None}
        known = replace(self, input_shapes={**shapes, **self.input_shapes})
        opened = {
            name: example_shape(dims)
            for name, dims in known.resolve(inputs, file).items()
            if None in dims[1:]
        }
        return replace(known, input_shapes={**known.input_shapes, **opened})

    def _put_batch(self, rest: dict[str, Dims], found: dict[str, Dims], file: object) -> None:
        opened = [name for name, dims in rest.items() if dims and dims[0] is None]
        if rest and not opened and self.batch not in {dims[0] for dims in rest.values() if dims}:
            raise ActivsparseError(
                f"{file}: fixes the number of images, to another one than ",
                Option("batch", self.batch),
                "; leave it out, or export the model with an open batch",
            )
        for name in opened:
            found[name] = (self.batch, *found[name][1:])


def _whole(where: str, dims: AnyRank, shape: Shape) -> Dims:
    if dims is None:
        return shape
    fits = len(shape) == len(dims) and all(
        dim in (None, size) for size, dim in zip(shape, dims, strict=True)
    )
    if not fits:
        raise ActivsparseError(
            f"{where}: shape {_text(shape)} does not fit the model's {_text(dims)}; "
            "give sizes only where the model leaves them open"
        )
    return shape


def _image(where: str, name: str, dims: Dims, size: tuple[int, int]) -> Dims:
    axes = image_axes(dims)
    if axes is None:
        raise ActivsparseError(
            f"{where} leaves its channels open too; give its whole shape, for example ",
            Option("input_shapes", {name: (dims[0] or 1, 3, *size)}),
        )
    sizes = list(dims)
    for axis, wanted in zip(axes, size, strict=True):
        if dims[axis] not in (None, wanted):
            raise ActivsparseError(
                f"{where} is fixed to {dims[axis]}, not {wanted}; leave ",
                Option("input_size"),
                " out or export the model at that size",
            )
        sizes[axis] = wanted
    return tuple(sizes)


def image_axes(dims: Sequence[int | None]) -> tuple[int, int] | None:
    """Return the axes of height and width: those that are open, beside a fixed number of channels.

    Args:
        dims: four sizes, None where one is open. With nothing open the last axis holds channels
            where its size is usual for them, and the second's is not.

    Returns:
        (2, 3), (1, 2), or None where the channels are open as well.
    """
    opened = {axis for axis in (1, 2, 3) if dims[axis] is None}
    if len(opened) == 3 or opened >= {1, 3}:
        return None
    if 3 in opened:
        return 2, 3
    if 1 in opened:
        return 1, 2
    last = dims[3] in _CHANNELS and dims[1] not in _CHANNELS
    return (1, 2) if last else (2, 3)


def example_shape(dims: Sequence[int | None]) -> Shape:
    """Return sizes to suggest where a model leaves them open: those of a common image."""
    usual = (1, *[224] * (len(dims) - 1))
    if len(dims) == 4:
        usual = (1, 224, 224, 3) if image_axes(dims) == (1, 2) else _IMAGE
    return tuple(dim or size for dim, size in zip(dims, usual, strict=False))


def _text(dims: Dims) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in dims)
