"""Which algorithm runs an operator, by rules and estimates, which are native/choose.

`by_cost` asks for any instruction set on any machine. Anything callable in the same way can take
its place, as `measure.Measured` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from activsparse import _native
from activsparse.engine.graph import Node
from activsparse.errors import ActivsparseError

__all__ = ["Choice", "Chooser", "Request", "able", "by_cost", "forced"]


@dataclass(frozen=True)
class Request:
    """An operator that needs an algorithm: an engine node and the tensors it reads and writes.

    Attributes:
        node: an engine node.
        inputs: tensors it reads.
        outputs: tensors it writes.
        network_bytes: weights of the whole network; the more, the less of this operator's is left
            in caches when its turn comes again.
        threads: how many it will run on, so that its work is cut into as many equal shares.
    """

    node: Node
    inputs: list[_native.TensorDesc]
    outputs: list[_native.TensorDesc]
    network_bytes: int = 0
    threads: int = 1

    def spec(self) -> _native.Spec:
        """Return what `_native.pack` takes."""
        node = self.node
        spec = _native.Spec(
            node.op, dict(node.attributes), dict(node.arrays), self.inputs, self.outputs
        )
        spec.threads = self.threads
        return spec

    def of_one(self, images: int) -> Request:
        """Return the same for one of so many images, where each tensor holds that many.

        What is chosen for it does not depend on how a batch is divided.
        """
        descs = [*self.inputs, *self.outputs]
        if images == 1 or any(t.n % images for t in descs):
            return self
        one = [
            _native.TensorDesc(t.n // images, t.h, t.w, t.c, t.stride, t.nchw, t.padded, t.dtype)
            for t in descs
        ]
        return replace(self, inputs=one[: len(self.inputs)], outputs=one[len(self.inputs) :])


@dataclass(frozen=True)
class Choice:
    """The algorithm taken, and what it was taken from.

    Attributes:
        algorithm: the one to run.
        candidates: (algorithm, milliseconds) of all that could run, None where nothing was
            measured.
    """

    algorithm: str
    candidates: tuple[tuple[str, float | None], ...]


Chooser = Callable[[Request, str], Choice]
"""(operator, instruction set) -> choice."""


def able(request: Request, isa: str, winograd: bool = True) -> list[str]:
    """Return the algorithms that can run an operator; the reference only where it is alone.

    Args:
        request: the operator.
        isa: instruction set.
        winograd: whether Winograd's, which round more, are allowed.

    Raises:
        ActivsparseError: there is none; the message says why, one by one.
    """
    return _native.able(request.spec(), isa, winograd)


def by_cost(request: Request, isa: str, winograd: bool = True) -> Choice:
    """Take the algorithm that should be fastest.

    One made for the operator wins if there is one, but for `pointwise` under a mask at the input.
    Otherwise the time is estimated as the larger of what the multiply-adds and what the weights,
    fetched once from memory, take: Winograd saves the former and multiplies the latter.

    Args:
        request: the operator.
        isa: instruction set.
        winograd: whether Winograd's algorithms are allowed.

    Raises:
        ActivsparseError: no algorithm can run the operator.
    """
    spec = request.spec()
    names = _native.able(spec, isa, winograd)
    return Choice(_native.choose(spec, isa, winograd), tuple((name, None) for name in names))


def forced(algorithm: str) -> Chooser:
    """Return a chooser that takes `algorithm` for convolutions and wherever else it exists."""

    def choose(request: Request, isa: str) -> Choice:
        reasons = dict(request.spec().algorithms(isa))
        if reasons.get(algorithm) == "":
            return Choice(algorithm, ((algorithm, None),))
        if request.node.op == "conv":
            cause = reasons.get(algorithm, "there is no such algorithm")
            known = ", ".join(sorted(reasons))
            raise ActivsparseError(
                f"algorithm '{algorithm}' cannot run it: {cause}; choose another of: {known}"
            )
        return by_cost(request, isa)

    return choose
