"""A mask plan: the exact mask of every layer of one network, which nobody changes afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import Mask
from activsparse.masks.exact import DenseMask, ExactMask, LatticeMask, TilesMask
from activsparse.masks.mean import Savings
from activsparse.masks.pattern import sparsity_of
from activsparse.masks.shape import ConvShape

__all__ = ["FILLS", "MaskPlan", "PlannedLayer"]

FILLS = ("zero", "nearest")


@dataclass(frozen=True)
class PlannedLayer:
    """One convolution of the plan.

    Attributes:
        conv: the layer the mask was chosen for.
        exact: its mask.
        fill: what a skipped position holds, `zero` or `nearest`.
        ms: estimated time, None where nobody estimated it.
        loss: measured increase of the loss, None where nobody measured it.
    """

    conv: ConvShape
    exact: ExactMask
    fill: str = "zero"
    ms: float | None = None
    loss: float | None = None

    @property
    def dense(self) -> bool:
        """Whether all positions are computed."""
        return isinstance(self.exact, DenseMask)


@dataclass(frozen=True)
class MaskPlan:
    """The masks of a network.

    Attributes:
        input_size: (H, W) of the network's input; masks belong to one size.
        layers: by name of the convolution, those that stay dense by choice among them. All other
            layers of the network are dense.
        site: where masks act, `norm` or `conv`.
        notes: what the plan was made for and what it reached; numbers and words for reports only.
    """

    input_size: tuple[int, int]
    layers: Mapping[str, PlannedLayer]
    site: str = "norm"
    notes: Mapping[str, float | int | str] = field(default_factory=dict)

    def masks(self) -> dict[str, Mask]:
        """Bool (OH, OW) of every layer that is not dense, True = computed.

        Raises:
            ActivsparseError: a mask keeps nothing.
        """
        found = {}
        for name, layer in self.masked().items():
            found[name] = layer.exact.mask(layer.conv.output, self.input_size)
            if not found[name].any():
                raise ActivsparseError(
                    f"layer {name}: {layer.exact} keeps no position; choose a lower sparsity"
                )
        return found

    def masked(self) -> dict[str, PlannedLayer]:
        """The layers that are not dense."""
        return {name: layer for name, layer in self.layers.items() if not layer.dense}

    def sparsities(self) -> dict[str, float]:
        """Share of positions skipped, of every layer that is not dense."""
        return {name: sparsity_of(mask) for name, mask in self.masks().items()}

    @property
    def sparsity(self) -> float:
        """Of all its masked layers, see `Savings`."""
        return Savings.of(
            (share, self.layers[name].conv.macs) for name, share in self.sparsities().items()
        ).sparsity

    def check(
        self, convs: Mapping[str, ConvShape], input_size: tuple[int, int] | None = None
    ) -> None:
        """See that the plan is one of this network, and masks something of it.

        Args:
            convs: the network's convolutions that can be masked, by name.
            input_size: (H, W) of its input, None where it is not known.

        Raises:
            ActivsparseError: the plan is of another network or input size, or all dense.
        """
        if input_size is not None and tuple(input_size) != tuple(self.input_size):
            here, there = ("x".join(map(str, size)) for size in (input_size, self.input_size))
            raise ActivsparseError(
                f"mask plan: is for an input of {there}, the network's is {here}; "
                "make a plan at this size, or change the input's"
            )
        for name, layer in self.layers.items():
            if name not in convs:
                raise ActivsparseError(
                    f"mask plan: layer {name} is none of the network that can be masked; "
                    "use the plan of this network"
                )
            if convs[name] != layer.conv:
                raise ActivsparseError(
                    f"mask plan: layer {name} is {describe(layer.conv)} there, "
                    f"{describe(convs[name])} in the network; use the plan of this network"
                )
        if not self.masked():
            raise ActivsparseError(
                "mask plan: every layer is dense, there is nothing to mask; use its input size "
                "without masks"
            )

    def of_network(self, convs: Mapping[str, ConvShape]) -> MaskPlan:
        """The same masks for a network of other channels."""
        layers = {
            name: replace(layer, conv=convs[name]) if name in convs else layer
            for name, layer in self.layers.items()
        }
        return replace(self, layers=layers)

    def shifted(self, shifts: Mapping[int, int]) -> MaskPlan:
        """The plan with the phases of its regular patterns shifted, each phase by its own number.

        Args:
            shifts: by phase; those not in it stay.
        """
        layers = {}
        for name, layer in self.layers.items():
            exact = layer.exact
            if isinstance(exact, TilesMask | LatticeMask):
                exact = replace(exact, phase=exact.phase + shifts.get(exact.phase, 0))
            layers[name] = replace(layer, exact=exact)
        return replace(self, layers=layers)


def describe(conv: ConvShape) -> str:
    """A convolution in a few words."""
    kernel, stride, output = (
        "x".join(map(str, pair)) for pair in (conv.kernel, conv.stride, conv.output)
    )
    group = f" in {conv.group} groups" if conv.group > 1 else ""
    return f"{kernel}/{stride} {conv.in_channels} -> {conv.out_channels}{group} on {output}"
