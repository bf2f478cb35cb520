"""Which convolutions are a network's head: 1x1 ones whose positions are the answer.

Every position a detector's or segmenter's head computes is a prediction; none can be left out. A
classifier has no such layer, since its last maps are averaged, or multiplied by a matrix.
"""

from __future__ import annotations

from activsparse.masks.contract import Graph
from activsparse.masks.operations import Kind, Operation, Sizes, Value

__all__ = ["Heads"]

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
        """Whether a 1x1 convolution's positions reach the results unmixed."""
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
