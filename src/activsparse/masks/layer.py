"""What masks depend on of a network's convolutions, wherever these were found."""

from __future__ import annotations

from typing import Protocol

from activsparse.masks.shape import ConvShape

__all__ = ["Layer"]


class Layer(Protocol):
    """A convolution of a network."""

    @property
    def name(self) -> str:
        """Of the convolution, unique in its network."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """All names that globs are matched with, `name` among them."""

    @property
    def enclosing(self) -> tuple[str, ...]:
        """Class names of the convolution and the modules around it, innermost first."""

    @property
    def shape(self) -> ConvShape | None:
        """Kernel, stride, groups, channels and output size; None where `problem` says why."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be masked, or None."""

    @property
    def phase(self) -> int:
        """Of its pattern, see `assign_phases`."""

    @property
    def stem(self) -> bool:
        """Whether it is of the network's stem."""

    @property
    def shortcut(self) -> bool:
        """Whether it is the 1x1 projection of a residual shortcut."""

    @property
    def head(self) -> bool:
        """Whether it is a 1x1 convolution whose positions are the network's answer."""

    @property
    def added(self) -> bool:
        """Whether it ends a residual branch, whose shortcut fills holes: see `masks.network`."""

    @property
    def reader(self) -> str | None:
        """Name of the convolution that alone reads its output, position by position, or None."""

    @property
    def normed(self) -> bool:
        """Whether a batch norm alone reads it."""

    @property
    def source(self) -> str | None:
        """Name of the convolution whose mask leaves zeros in its input; None where there is none.

        Its normalised output is this one's input, through nothing but activations that keep zero.
        """
