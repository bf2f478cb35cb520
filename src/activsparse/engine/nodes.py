"""The nodes of a graph in the order of execution, and who writes and who reads each value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    from activsparse.engine.graph import Node

__all__ = ["Nodes"]


class Nodes(Sequence["Node"]):
    """Nodes in the order of execution, with an index that follows every change.

    A node is found by itself, not by one that equals it. To replace or look up one takes a time
    that does not grow with their number; only its place by number (`nodes[i]`) does.
    """

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        """Index them; each is in the graph once."""
        # A node's place is that of its slot, which holds what stands in for the node it was made
        # for: nothing, one or several.
        self._slots: list[list[Node]] = []
        self._slot: dict[int, int] = {}
        self._producers: dict[str, Node] = {}
        self._readers: dict[str, dict[int, Node]] = {}
        self._reads: Counter[str] = Counter()
        self.extend(nodes)

    def __iter__(self) -> Iterator[Node]:
        """Walk them; the graph may change meanwhile, and what is put in later places is met."""
        for slot in self._slots:
            for node in list(slot):
                if node in self:
                    yield node

    def __reversed__(self) -> Iterator[Node]:
        for slot in reversed(self._slots):
            yield from reversed(slot)

    def __len__(self) -> int:
        return len(self._slot)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        return list(self)[index]

    def __contains__(self, node: object) -> bool:
        return id(node) in self._slot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def append(self, node: Node) -> None:
        """Add one at the end."""
        self._slots.append([node])
        self._enter(node, len(self._slots) - 1)

    def extend(self, nodes: Iterable[Node]) -> None:
        """Add several at the end."""
        for node in nodes:
            self.append(node)

    def replace(self, old: Node, *new: Node) -> None:
        """Put nodes, or none, in the place of one."""
        number = self._slot.pop(id(old))
        for name in old.outputs:
            if self._producers.get(name) is old:
                del self._producers[name]
        for name in old.inputs:
            self._reads[name] -= 1
            self._readers[name].pop(id(old), None)
        slot = self._slots[number]
        place = next(i for i, node in enumerate(slot) if node is old)
        slot[place : place + 1] = new
        for node in new:
            self._enter(node, number)

    def producer(self, value: str) -> Node | None:
        """The node that writes `value`, or None."""
        return self._producers.get(value)

    def readers(self, value: str) -> list[Node]:
        """The nodes that read `value`, in the order of execution."""
        return sorted(self._readers.get(value, {}).values(), key=self.place)

    def reads(self, value: str) -> int:
        """How often nodes read `value`."""
        return self._reads[value]

    def place(self, node: Node) -> tuple[int, int]:
        """Something that grows in the order of execution."""
        number = self._slot[id(node)]
        return number, next(i for i, n in enumerate(self._slots[number]) if n is node)

    def _enter(self, node: Node, number: int) -> None:
        self._slot[id(node)] = number
        for name in node.outputs:
            self._producers.setdefault(name, node)
        for name in node.inputs:
            self._reads[name] += 1
            self._readers.setdefault(name, {})[id(node)] = node
