"""ConvTranspose as ordinary convolutions.

Output position q takes part in the products of tap k at input position (q + pad - k * dilation) /
stride, where that is whole. So the positions of equal remainder q mod stride, a *phase*, see the
same taps, and are a convolution of stride 1 by these, turned round; the phases are written between
one another (`interleave`). Each has all the algorithms an ordinary convolution has. Phases of equal
geometry (all, where kernels do not overlap) are one convolution with their channels side by side.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.convolution import layer_name
from activsparse.engine.passes.convert.source import Source

__all__ = ["conv_transpose"]

_MOST_PHASES = 32  # along an axis


@dataclass(frozen=True)
class _Axis:
    """One phase along one axis.

    Attributes:
        first: the first output position.
        size: how many there are.
        taps: of the kernel, in the order in which the convolution meets them.
        dilation: of the convolution.
        pads: before and behind the input; negative ones leave out some of it.
    """

    first: int
    size: int
    taps: tuple[int, ...]
    dilation: int
    pads: tuple[int, int]


def conv_transpose(source: Source) -> list[Node]:
    """ConvTranspose with constant weights of shape (I, O / group, KH, KW)."""
    weight = source.weights(1, "weight")
    if weight.ndim != 4:
        source.fail(f"its weight has shape {weight.shape}", "only 2-d convolutions are supported")
    n, channels, *sizes = source.image_shape()
    group = int(source.attribute("group", 1))
    if group < 1 or len(weight) != channels or channels % group:
        source.wrong(
            f"its weight has shape {weight.shape} for {channels} channels in {group} groups",
            "export the model again",
        )
    outputs = weight.shape[1] * group
    bias = source.weights(2, "bias") if source.has(2) else np.zeros(outputs, np.float32)
    if bias.shape != (outputs,):
        source.wrong(f"its bias has shape {bias.shape} for {outputs} outputs", "use one per output")
    strides = list(source.attribute("strides", (1, 1)))
    dilations = list(source.attribute("dilations", (1, 1)))
    if len(strides) != 2 or len(dilations) != 2 or min(*strides, *dilations) < 1:
        source.wrong(f"its strides are {strides}, its dilations {dilations}", "export it again")
    if max(strides) > _MOST_PHASES:
        source.fail(f"its strides are {strides}", f"at most {_MOST_PHASES} are supported")
    axes = []
    for axis in (0, 1):
        pad = _pad(
            source, axis, weight.shape[2 + axis], sizes[axis], strides[axis], dilations[axis]
        )
        geometry = (weight.shape[2 + axis], strides[axis], dilations[axis], pad)
        out = source.output_shape[2 + axis]
        axes.append([_phase(first, sizes[axis], out, *geometry) for first in range(strides[axis])])
    per_group = weight.reshape(group, channels // group, -1, *weight.shape[2:])
    turned = per_group.transpose(0, 2, 1, 3, 4).reshape(outputs, -1, *weight.shape[2:])

    chain, x = Chain(source), source.activation()
    phases = [pair for pair in itertools.product(axes[0], axes[1]) if pair[0].size and pair[1].size]
    parts = _phases(chain, x, phases, turned, bias, group)
    starts = tuple((rows.first, columns.first) for rows, columns in phases)
    if strides == [1, 1]:
        return chain.done(parts[0])
    shape = (n, outputs, *source.output_shape[2:])
    whole = chain.add("interleave", *parts, shape=shape, starts=starts, steps=tuple(strides))
    return chain.done(whole)


def _pad(source: Source, axis: int, kernel: int, size: int, stride: int, dilation: int) -> int:
    """What is cut off before the first output, by the attributes of the operator."""
    mode = source.attribute("auto_pad", "NOTSET")
    whole = stride * (size - 1) + (kernel - 1) * dilation + 1
    extra = list(source.attribute("output_padding", (0, 0)))
    if mode in ("SAME_UPPER", "SAME_LOWER") or source.attribute("output_shape"):
        total: int = max(whole + extra[axis] - source.output_shape[2 + axis], 0)
        return total // 2 if mode == "SAME_UPPER" else total - total // 2
    if mode == "VALID":
        return 0
    return int(list(source.attribute("pads", (0, 0, 0, 0)))[axis])


def _phase(
    first: int, size: int, out: int, kernel: int, stride: int, dilation: int, pad: int
) -> _Axis:
    count = max(-(-(out - first) // stride), 0)
    # Input positions of the first output, ascending as the taps descend; without those taps that
    # lie beside the input for every output.
    places = [
        (k, (first + pad - k * dilation) // stride)
        for k in reversed(range(kernel))
        if (first + pad - k * dilation) % stride == 0
    ]
    places = [(k, place) for k, place in places if -count < place < size]
    if not places:
        return _Axis(first, count, (), 1, (0, 0))
    taps, at = zip(*places, strict=True)
    step = at[1] - at[0] if len(at) > 1 else 1
    behind = count - 1 + at[-1] - (size - 1)
    return _Axis(first, count, taps, step, (-at[0], behind))


def _phases(
    chain: Chain,
    x: str,
    phases: list[tuple[_Axis, _Axis]],
    weight: Array,
    bias: Array,
    group: int,
) -> list[str]:
    """The values of the phases, in their order."""
    outputs = len(weight)
    geometries = {
        pair: tuple((axis.size, len(axis.taps), axis.dilation, axis.pads) for axis in pair)
        for pair in phases
    }
    values: dict[tuple[_Axis, _Axis], str] = {}
    for geometry in dict.fromkeys(geometries.values()):
        alike = [pair for pair in phases if geometries[pair] == geometry]
        rows, columns = alike[0]
        shape = (chain.shape(x)[0], outputs, rows.size, columns.size)
        if not rows.taps or not columns.taps:  # no input reaches them
            values.update(dict.fromkeys(alike, chain.constant(bias.reshape(1, -1, 1, 1), shape)))
            continue
        together = [alike] if group == 1 else [[pair] for pair in alike]
        for pairs in together:
            kernels = [weight[:, :, pair[0].taps][:, :, :, pair[1].taps] for pair in pairs]
            y = _convolution(
                chain, x, pairs, np.concatenate(kernels), np.tile(bias, len(pairs)), group
            )
            for i, pair in enumerate(pairs):
                values[pair] = y if len(pairs) == 1 else chain.slice(y, 1, i * outputs, outputs)
    return [values[pair] for pair in phases]


def _convolution(
    chain: Chain,
    x: str,
    pairs: list[tuple[_Axis, _Axis]],
    weight: Array,
    bias: Array,
    group: int,
) -> str:
    rows, columns = pairs[0]
    for axis, phase in ((2, rows), (3, columns)):
        before, behind = (max(-pad, 0) for pad in phase.pads)
        if before or behind:
            x = chain.slice(x, axis, before, chain.shape(x)[axis] - before - behind)
    return chain.add(
        "conv",
        x,
        shape=(chain.shape(x)[0], len(weight), rows.size, columns.size),
        arrays={"weight": np.ascontiguousarray(weight), "bias": bias},
        stride_h=1,
        stride_w=1,
        dilation_h=rows.dilation,
        dilation_w=columns.dilation,
        pad_top=max(rows.pads[0], 0),
        pad_left=max(columns.pads[0], 0),
        pad_bottom=max(rows.pads[1], 0),
        pad_right=max(columns.pads[1], 0),
        group=group,
        name=layer_name(chain.source),
    )
