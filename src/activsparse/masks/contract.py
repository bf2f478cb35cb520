"""One form of a network, however it is written.

torch and the exporters write the same network in several ways: a SiLU is one operation, or a
product with a sigmoid; a dropout is there or not; a split gives two values or is two slices. What
is said here about roles, sources and readers must not depend on it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from activsparse.masks.operations import Kind, Operation, Sizes, Value

__all__ = ["Graph", "contract"]

_POINTWISE = (Kind.ZERO, Kind.POINT)
_OF_ELEMENTS = (Kind.ADD, Kind.MULTIPLY, Kind.COMBINE)
_MOVING = (Kind.RESHAPE, Kind.SLICE)


class Graph:
    """A contracted network: each operation gives one value, and is read or a convolution.

    Attributes:
        operations: in the order of execution.
        outputs: the network's results.
        sizes: of the values, as far as they are known.
        producers: the operation that gives a value; inputs have none.
        readers: the operations that read a value, each once.
    """

    def __init__(
        self, operations: Sequence[Operation], outputs: set[Value], sizes: Mapping[Value, Sizes]
    ) -> None:
        self.operations = operations
        self.outputs = outputs
        self.sizes = sizes
        self.producers = {operation.output: operation for operation in operations}
        self.readers: dict[Value, list[Operation]] = {}
        for operation in operations:
            for value in dict.fromkeys(operation.inputs):
                self.readers.setdefault(value, []).append(operation)
        # Of parts of a map, and of their sums: that map.
        self._whole: dict[Value, Value] = {}
        for operation in operations:
            if operation.kind is Kind.SLICE or (
                operation.kind is Kind.ADD and self._adds_parts(operation)
            ):
                value = operation.inputs[0]
                self._whole[operation.output] = self._whole.get(value, value)

    def only_reader(self, value: Value) -> Operation | None:
        """The operation that alone reads `value`; None where several do, or it is a result."""
        readers = self.readers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def is_residual(self, operation: Operation) -> bool:
        """Whether it adds maps of one size that are no parts of one map.

        Sums of parts are a pooling written out, as torch does where an adaptive one grows a map.
        """
        sizes = [self.sizes.get(value) for value in operation.inputs]
        first = sizes[0] if sizes else None
        return (
            operation.kind is Kind.ADD
            and len(sizes) > 1
            and first is not None
            and len(first) == 4
            and all(size == first for size in sizes)
            and not self._adds_parts(operation)
        )

    def _adds_parts(self, operation: Operation) -> bool:
        wholes = {self._whole.get(value, value) for value in operation.inputs}
        return len(wholes) == 1 and wholes.isdisjoint(operation.inputs)


def contract(
    operations: Iterable[Operation], outputs: Iterable[Hashable], sizes: Mapping[Value, Sizes]
) -> Graph:
    """Bring a network into the form described above.

    Args:
        operations: in the order of execution.
        outputs: the values the network returns; where there is none, all that nobody reads.
        sizes: of values, as far as they are known.
    """
    contraction = _Contraction(sizes)
    for operation in operations:
        contraction.take(operation)
    results = {contraction.resolved(value) for value in outputs}
    found = contraction.operations
    return Graph(_live(found, results) if results else found, results, sizes)


class _Contraction:
    def __init__(self, sizes: Mapping[Value, Sizes]) -> None:
        self.sizes = sizes
        self.operations: list[Operation] = []
        self._stands_for: dict[Value, Value] = {}
        # Of what functions of each element gave: what they read, their place and kind.
        self._before: dict[Value, Value] = {}
        self._place: dict[Value, int] = {}
        self._kind: dict[Value, Kind] = {}
        self._root: dict[Value, Value] = {}

    def resolved(self, value: Value) -> Value:
        return self._stands_for.get(value, value)

    def take(self, operation: Operation) -> None:
        inputs = tuple(self.resolved(value) for value in operation.inputs)
        for output in operation.outputs:
            if inputs and self._is_same(operation.kind, inputs, output):
                self._stands_for[output] = inputs[0]
            else:
                self._add(replace(operation, inputs=inputs, outputs=(output,)))

    def _is_same(self, kind: Kind, inputs: tuple[Value, ...], output: Value) -> bool:
        if kind is Kind.SAME:
            return True
        size = self.sizes.get(output)
        return kind in _MOVING and size is not None and size == self.sizes.get(inputs[0])

    def _add(self, operation: Operation) -> None:
        if operation.kind in _OF_ELEMENTS:
            operation = self._joined(operation)
        if operation.kind in _POINTWISE:
            before, output = operation.inputs[0], operation.output
            self._before[output] = before
            self._place[output] = len(self.operations)
            self._kind[output] = operation.kind
            self._root[output] = self._root.get(before, before)
        self.operations.append(operation)

    def _joined(self, operation: Operation) -> Operation:
        """One function of each element in place of a sum or product of several of one value."""
        inputs = operation.inputs
        if len({self._root.get(value, value) for value in inputs}) > 1:
            return operation
        if len(inputs) == 1:
            kind = Kind.ZERO if operation.kind is Kind.MULTIPLY else Kind.POINT
            return replace(operation, kind=kind)
        common = self._common(inputs)
        zeros = [self._zero_with(value, common) for value in inputs]
        keeps = {Kind.ADD: all(zeros), Kind.MULTIPLY: any(zeros), Kind.COMBINE: False}
        kind = Kind.ZERO if keeps[operation.kind] else Kind.POINT
        return replace(operation, kind=kind, inputs=(common,))

    def _common(self, values: Iterable[Value]) -> Value:
        """The last value that all of `values` were made of, or are; they have one root."""
        left = set(values)
        while len(left) > 1:
            latest = max(left, key=lambda value: self._place.get(value, -1))
            left.remove(latest)
            left.add(self._before[latest])
        return left.pop()

    def _zero_with(self, value: Value, origin: Value) -> bool:
        """Whether `value`, a function of each element of `origin`, is zero where that is."""
        while value != origin:
            if self._kind[value] is not Kind.ZERO:
                return False
            value = self._before[value]
        return True


def _live(operations: Sequence[Operation], outputs: set[Value]) -> list[Operation]:
    """Those that a result or a convolution needs."""
    needed = set(outputs)
    live = []
    for operation in reversed(operations):
        if operation.kind is Kind.CONVOLUTION or operation.output in needed:
            needed.update(operation.inputs)
            live.append(operation)
    return live[::-1]
