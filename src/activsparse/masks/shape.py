"""What masks depend on of a convolution."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConvShape"]


@dataclass(frozen=True)
class ConvShape:
    """A convolution without its numbers; pairs are (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    group: int
    in_channels: int
    out_channels: int
    output: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def macs_per_position(self) -> int:
        """Multiply-adds of one output position, all channels."""
        kernel = self.kernel[0] * self.kernel[1]
        return kernel * (self.in_channels // self.group) * self.out_channels

    @property
    def positions(self) -> int:
        """Output positions of one image."""
        return self.output[0] * self.output[1]

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, without a mask."""
        return self.positions * self.macs_per_position

    @property
    def pointwise(self) -> bool:
        """Whether each output position sees one input position, the one at its place."""
        return self.kernel == (1, 1) and self.stride == (1, 1)

    @property
    def winograd(self) -> bool:
        """Whether Winograd with tiles of 4x4 or 2x2 outputs can be worth trying."""
        return (
            self.kernel == (3, 3)
            and self.stride in ((1, 1), (2, 2))
            and self.dilation == (1, 1)
            and self.group == 1
            and min(self.in_channels, self.out_channels) >= 16
        )
