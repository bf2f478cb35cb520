"""Which convolutions are a network's head: those whose positions are the answer.

Every position a detector's or segmenter's head computes is a prediction, every one a network for
super-resolution computes at its end a pixel; none can be left out. A classifier has no such layer,
since its last maps are averaged, or multiplied by a matrix. Where a network returns features, a
backbone's last blocks are layers as all others, so that not every convolution at the end is a head:
those of 1x1 are; of larger ones those that become a picture, of at most four channels, or a list
of predictions, or that nothing but what makes an answer of them follows, a sigmoid, softmax,
interpolation, choice: features have a norm, an activation or a sum there. Larger ones are layers,
too, where a network has no others.
"""

from __future__ import annotations

from activsparse.masks.contract import Graph
from activsparse.masks.operations import Kind, Operation, Sizes, Value

__all__ = ["Heads"]

_PICTURE = 4
"""Channels of an image at most: red, green, blue, and how opaque it is."""

_JOINS = (Kind.ADD, Kind.MULTIPLY, Kind.COMBINE)

# A value, and the size its map had before it was reshaped or transposed, if it is.
_State = tuple[Value, Sizes | None]


class Heads:
    """Tells whether what a convolution computes is mixed with other positions before the end.

    A convolution behind a reshape or transposition (that of YOLOv8's head turns bins into
    distances) works on predictions, not on a map, and mixes nothing. What is brought back into the
    size it had is a map again, as behind the norm of a transposed one, or a shuffle of channels.
    """

    def __init__(self, graph: Graph) -> None:
        """Of a contracted network."""
        self._graph = graph
        self._unmixed: set[_State] = set()

    def is_head(self, convolution: Operation) -> bool:
        """Whether its positions are the answer, whatever else the network has: 1x1, a picture."""
        shape = convolution.shape
        return self._is_unmixed(convolution) and (
            (shape is not None and shape.kernel == (1, 1)) or self._gives_pictures(convolution)
        )

    def may_be_head(self, convolution: Operation) -> bool:
        """Whether it is one, or a larger one that no features' norm, activation or sum follows."""
        return self.is_head(convolution) or (
            self._is_unmixed(convolution) and self._gives_answers(convolution)
        )

    def _gives_answers(self, convolution: Operation) -> bool:
        """Whether no result that it reaches is a map of features.

        What becomes a list, (N, predictions, numbers), or a map with its channels apart, may have
        an activation before that, as distances have that must not be negative. So may what goes
        through a sigmoid, or another function that no activation of features ends with.
        """
        plain, bent, answered = range(3)
        waiting, seen = [(convolution.output, plain)], set()
        while waiting:
            value, state = waiting.pop()
            if (value, state) in seen:
                continue
            seen.add((value, state))
            readers = self._graph.readers.get(value, [])
            if state == bent and not readers:
                return False
            for reader in readers:
                several = len(reader.inputs) > 1
                if reader.kind is Kind.NORM or (reader.kind in _JOINS and several):
                    return False
                size = self._graph.sizes.get(reader.output)
                if reader.kind in (Kind.RESHAPE, Kind.PERMUTE) and size and len(size) in (3, 5):
                    continue
                after = state
                if reader.kind is Kind.POINT:
                    after = answered
                elif reader.kind is Kind.ZERO and state == plain:
                    after = bent
                waiting.append((reader.output, after))
        return True

    def _gives_pictures(self, convolution: Operation) -> bool:
        """Whether every result that it reaches has the channels of an image."""
        waiting, seen = [convolution.output], set()
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            readers = self._graph.readers.get(value, [])
            size = self._graph.sizes.get(value)
            if not readers and not (size and len(size) == 4 and size[1] and size[1] <= _PICTURE):
                return False
            waiting += [reader.output for reader in readers]
        return True

    def _is_unmixed(self, convolution: Operation) -> bool:
        waiting: list[_State] = [(convolution.output, None)]
        seen: set[_State] = set()
        while waiting:
            state = waiting.pop()
            if state in seen or state in self._unmixed:
                continue
            seen.add(state)
            for reader in self._graph.readers.get(state[0], []):
                if reader.kind is Kind.POOL:
                    return False
                if reader.kind is Kind.CONVOLUTION and state[1] is None:
                    return False
                waiting.append(self._after(state, reader))
        self._unmixed |= seen
        return True

    def _after(self, state: _State, reader: Operation) -> _State:
        value, before = state
        size = self._graph.sizes.get(reader.output)
        flat = size is not None and len(size) != 4
        if reader.kind in (Kind.RESHAPE, Kind.PERMUTE) or flat:
            if before is None:
                return reader.output, self._graph.sizes.get(value, ())
            if size == before:
                return reader.output, None
        return reader.output, before
