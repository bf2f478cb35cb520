"""Residual branches, and masks that all layers of one share.

Where a shortcut is added to a branch, a position that the branch does not compute keeps what the
shortcut brings: the block does nothing there, which networks bear far better than a zero or a copy.
And what the last convolution of a branch does not read, the ones before it need not compute. If
whole rows are left out, hardly more rows are read than are kept, so every layer of the branch
shrinks, whatever algorithm runs it: a band of rows is a smaller map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from activsparse.masks.exact import BandMask
from activsparse.masks.layer import Layer
from activsparse.masks.shape import ConvShape

__all__ = ["alternate_band", "band_of_branch", "branches", "rows_read"]


def branches(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """The residual branches of a network: names of their convolutions in the order of execution.

    The last one's output is added to a shortcut; each of the others is read by its successor alone.
    Those on the way that cannot be masked end the branch.

    Args:
        layers: those that may be masked, in the order of execution.
    """
    before: dict[str, str | None] = {}
    for layer in layers:
        if layer.reader is not None:
            # A convolution has one input, so nobody else can lead there.
            before[layer.reader] = layer.name
    found = []
    for layer in layers:
        if not layer.added or layer.shortcut:
            continue
        branch = [layer.name]
        while (name := before.get(branch[-1])) is not None:
            branch.append(name)
        found.append(tuple(reversed(branch)))
    return found


def rows_read(reader: ConvShape, band: BandMask, height: int) -> BandMask:
    """The rows of its input that a convolution reads for a band of rows of its output.

    Args:
        reader: the convolution.
        band: rows that it computes.
        height: of its input.
    """
    (kernel, _), (stride, _), (dilation, _) = reader.kernel, reader.stride, reader.dilation
    reach = dilation * (kernel - 1)
    # How the padding is shared out between top and bottom is known only where it is even.
    padding = max(0, (reader.output[0] - 1) * stride + reach + 1 - height)
    even = stride == 1 and padding % 2 == 0
    top, bottom = (padding // 2, padding // 2) if even else (padding, 0)
    last = band.first + band.rows - 1
    first = min(max(0, band.first * stride - top), height - 1)
    end = max(first + 1, min(height, last * stride - bottom + reach + 1))
    return BandMask(first, end - first)


def alternate_band(height: int, sparsity: float, phase: int = 0) -> BandMask:
    """A band that leaves out this share of rows: the lower ones, or the upper in odd phases.

    So what one block leaves out the next one computes. At least one row is kept.
    """
    rows = max(1, height - round(sparsity * height))
    return BandMask(0 if phase % 2 == 0 else height - rows, rows)


def band_of_branch(
    branch: Sequence[str], shapes: Mapping[str, ConvShape], band: BandMask
) -> dict[str, BandMask]:
    """The bands of all layers of a branch whose last one keeps `band`.

    Args:
        branch: names of its layers, see `branches`.
        shapes: of these layers.
        band: of the last one.
    """
    found = {branch[-1]: band}
    for name, reader in zip(branch[-2::-1], branch[:0:-1], strict=True):
        band = rows_read(shapes[reader], band, shapes[name].output[0])
        found[name] = band
    return found
