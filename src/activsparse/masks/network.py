"""The one analysis of a network: its convolutions, what each is there for, whose zeros it reads.

The two halves hand over the network as a list of operations (`masks.operations`), as it runs in
torch or as it stands in an ONNX file; all else is decided here, so that both mask alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from activsparse.masks.contract import Graph, contract
from activsparse.masks.heads import Heads
from activsparse.masks.operations import Kind, Operation, Sizes, Value
from activsparse.masks.parallel import merge_sums
from activsparse.masks.phases import assign_phases

__all__ = ["Convolution", "find_convolutions"]

# What a map passes on its way into a projection, and into a layer that goes on with a stem.
_OF_ELEMENTS = (Kind.NORM, Kind.ZERO, Kind.POINT)
_ALONG = (*_OF_ELEMENTS, Kind.POOL, Kind.RESIZE)


@dataclass(frozen=True)
class Convolution:
    """A convolution in its network.

    Attributes:
        operation: as it was handed over, reading what stands for its input in the contracted
            network; of parallel branches, the largest kernel's, giving their sum.
        parts: the other convolutions in that sum, see `masks.parallel`.
        norm: the batch norm that alone reads it, or None.
        source: number of the convolution whose normalised output, through nothing but functions
            that keep zero, is its input: a mask there leaves zeros here. None where there is none.
        phase: of its pattern, see `assign_phases`.
        added: whether its output, normalised, goes into a residual addition and nowhere else,
            through nothing but functions that keep zero: the end of a branch, whose holes the
            shortcut fills. What a block starts from may be added as well, as its shortcut; a hole
            there is one in all that follows.
        reader: number of the convolution that alone reads its output, through nothing but functions
            of each element that leave the map's size as it is; None where there is none.
        role: `stem`, `shortcut`, `head` or `layer`:

            - a `stem` has no convolution before it or, where that one strides, follows it at its
              size: the further convolutions of a deep stem (ResNet-D, Inception), up to what makes
              the map smaller or branches. Pointwise and depthwise convolutions belong to the blocks
              that follow (MobileNet).
            - a `shortcut` is the 1x1 projection that a residual addition adds to convolutions which
              start from the same tensor, pooled or not.
            - a `head` is a convolution whose positions are the network's answer, see `heads`.
    """

    operation: Operation
    norm: Operation | None
    source: int | None
    phase: int
    added: bool
    reader: int | None
    role: str
    parts: tuple[Operation, ...] = ()


def find_convolutions(
    operations: Iterable[Operation],
    outputs: Iterable[Hashable],
    sizes: Mapping[Value, Sizes],
    masked_at: Callable[[Value], bool] = lambda _: False,
) -> list[Convolution]:
    """All convolutions of a network, in the order of execution; parallel branches count as one.

    Args:
        operations: in the order of execution.
        outputs: the values the network returns; where there is none, all that nobody reads.
        sizes: of values, as far as they are known.
        masked_at: whether a mask can be put on a sum of parallel branches; others stay apart.
    """
    merged = merge_sums(contract(operations, outputs, sizes), masked_at)
    graph = merged.graph
    found = [op for op in graph.operations if op.kind is Kind.CONVOLUTION]
    norms = [_norm(graph, operation) for operation in found]
    # Whose convolution's output, normalised, a value is.
    made = {
        (operation if norm is None else norm).output: i
        for i, (operation, norm) in enumerate(zip(found, norms, strict=True))
    }
    sources = [_source(graph, operation.inputs[0], made) for operation in found]
    numbers = {operation.output: i for i, operation in enumerate(found)}
    additions, has_convolution = _history(graph)
    residual = any(additions.values())
    blocks = [
        additions.get(operation.inputs[0], 0) if residual else i
        for i, operation in enumerate(found)
    ]
    phases = assign_phases(
        blocks,
        sources,
        [operation.shape is not None and operation.shape.pointwise for operation in found],
        _sums(graph, made),
    )
    stems = _Stems(graph, has_convolution)
    is_stem = [stems.is_stem(operation) for operation in found]
    heads = Heads(graph)
    shortcuts = _Shortcuts(graph)
    roles, plain = [], False
    for i, operation in enumerate(found):
        output = (norms[i] or operation).output
        shape = operation.shape
        role = "layer"
        if is_stem[i]:
            role = "stem"
        elif shape is None or shape.positions == 1:
            pass  # a single position is a vector, no map
        elif shape.kernel == (1, 1) and shortcuts.is_shortcut(operation, output):
            role = "shortcut"
        elif heads.may_be_head(operation):
            role = "head"
        else:
            plain = True
        roles.append(role)
    convolutions = []
    for i, operation in enumerate(found):
        output, role = (norms[i] or operation).output, roles[i]
        if role == "head" and not plain and not heads.is_head(operation):
            role = "layer"
        added = _ends_branch(graph, output)
        reader = _reader(graph, operation)
        convolutions.append(
            Convolution(
                operation,
                norms[i],
                sources[i],
                phases[i],
                added,
                None if reader is None else numbers[reader.output],
                role,
                merged.parts.get(operation.output, ()),
            )
        )
    return convolutions


def _norm(graph: Graph, convolution: Operation) -> Operation | None:
    reader = graph.only_reader(convolution.output)
    return reader if reader is not None and reader.kind is Kind.NORM else None


def _ends_branch(graph: Graph, value: Value) -> bool:
    reader = graph.only_reader(value)
    while reader is not None and reader.kind is Kind.ZERO:
        # Padding would move the positions.
        if graph.sizes.get(reader.output) != graph.sizes.get(value):
            return False
        reader = graph.only_reader(reader.output)
    return reader is not None and graph.is_residual(reader)


def _reader(graph: Graph, convolution: Operation) -> Operation | None:
    """The convolution that alone reads the output of another one, position by position."""
    size = graph.sizes.get(convolution.output)
    reader = graph.only_reader(convolution.output)
    while reader is not None and reader.kind in _OF_ELEMENTS:
        reader = graph.only_reader(reader.output)
    if reader is None or reader.kind is not Kind.CONVOLUTION or size is None:
        return None
    # Padding in between would move the positions.
    return reader if graph.sizes.get(reader.inputs[0]) == size else None


def _source(graph: Graph, value: Value, made: Mapping[Value, int]) -> int | None:
    while value not in made:
        producer = graph.producers.get(value)
        if producer is None or producer.kind is not Kind.ZERO:
            return None
        value = producer.inputs[0]
    return made[value]


def _sums(graph: Graph, made: Mapping[Value, int]) -> Iterator[tuple[int, int]]:
    """The convolutions whose outputs residual additions add, zeros kept."""
    for operation in graph.operations:
        if graph.is_residual(operation):
            left, *others = (_source(graph, value, made) for value in operation.inputs)
            yield from ((left, o) for o in others if left is not None and o is not None)


def _history(graph: Graph) -> tuple[dict[Value, int], dict[Value, bool]]:
    """For every value, how many residual additions and whether a convolution lie before it."""
    additions: dict[Value, int] = {}
    has_convolution: dict[Value, bool] = {}
    for operation in graph.operations:
        count = max((additions.get(value, 0) for value in operation.inputs), default=0)
        additions[operation.output] = count + graph.is_residual(operation)
        has_convolution[operation.output] = operation.kind is Kind.CONVOLUTION or any(
            has_convolution.get(value, False) for value in operation.inputs
        )
    return additions, has_convolution


def _back(graph: Graph, value: Value, kinds: tuple[Kind, ...]) -> Iterator[Value]:
    """The value and what operations of these kinds made it of."""
    yield value
    while (producer := graph.producers.get(value)) is not None and producer.kind in kinds:
        value = producer.inputs[0]
        yield value


class _Stems:
    """Tells stems; to be asked about the convolutions in the order of execution."""

    def __init__(self, graph: Graph, has_convolution: Mapping[Value, bool]) -> None:
        self._graph = graph
        self._has_convolution = has_convolution
        # Outputs of the convolutions of stems that stride.
        self._deep: set[Value] = set()

    def is_stem(self, convolution: Operation) -> bool:
        shape = convolution.shape
        reads_image = not self._has_convolution.get(convolution.inputs[0], False)
        strides = shape is not None and max(shape.stride) > 1
        ordinary = shape is not None and shape.group == 1 and max(shape.kernel) > 1
        goes_on = ordinary and not strides and self._follows(convolution) in self._deep
        if goes_on or (reads_image and strides):
            self._deep.add(convolution.output)
        return reads_image or goes_on

    def _follows(self, convolution: Operation) -> Value | None:
        """The output of the convolution that this one alone reads."""
        value = None
        for value in _back(self._graph, convolution.inputs[0], _OF_ELEMENTS):
            if self._graph.only_reader(value) is None:
                return None
        return value


class _Shortcuts:
    """Tells the projections of residual shortcuts."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._place = {operation.output: i for i, operation in enumerate(graph.operations)}

    def is_shortcut(self, convolution: Operation, output: Value) -> bool:
        """Whether a 1x1 convolution, whose normalised output is `output`, is one."""
        addition = self._graph.only_reader(output)
        if addition is None or not self._graph.is_residual(addition):
            return False
        starts = set(_back(self._graph, convolution.inputs[0], _ALONG))
        others = [value for value in addition.inputs if value != output]
        return any(self._lead_to(starts, other) for other in others)

    def _lead_to(self, starts: set[Value], end: Value) -> bool:
        """Whether convolutions lie on a way from one of `starts` to `end`."""
        first = min(self._place.get(value, -1) for value in starts)
        waiting, seen = [(end, False)], set()
        while waiting:
            value, convolved = waiting.pop()
            if convolved and value in starts:
                return True
            if (value, convolved) in seen or self._place.get(value, -1) < first:
                continue
            seen.add((value, convolved))
            producer = self._graph.producers.get(value)
            if producer is not None:
                here = convolved or producer.kind is Kind.CONVOLUTION
                waiting.extend((before, here) for before in producer.inputs)
        return False
