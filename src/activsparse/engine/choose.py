"""Which algorithm runs an operator, by rules and estimates.

`by_cost` is a function of the operator and the instruction set alone, so that one machine can ask
for every other's. Anything callable in the same way can take its place, as `measure.Measured` does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np

from activsparse import _native
from activsparse.engine.graph import Array, Node
from activsparse.errors import ActivsparseError

__all__ = [
    "MACS_PER_BYTE",
    "Choice",
    "Chooser",
    "Request",
    "able",
    "by_cost",
    "estimate",
    "forced",
    "work",
]

# Made for one kind of operator and never beaten there; best first.
_SPECIAL = ("pointwise", "grouped", "depthwise_block", "depthwise_columns", "depthwise")

# Blocks of these kernels leave skipped positions out, or lose little by them. Those of any other
# compute whole windows: 7x7 on 768 channels of a 32x32 map takes 0.86 ms dense and 0.93 with a
# lattice of 0.3 or 0.5, in `depthwise` 1.01, 0.80 and 0.69; on 80 channels of 28x28 with one of 0.3
# 0.056 against 0.068 (AVX-512, Sapphire Rapids).
_OWN_BLOCKS = ((3, 3), (5, 5))
_MOST_IN_BLOCKS = 0.35  # of the positions skipped

_REFERENCE = "reference"
_WINOGRAD = "winograd"
_WINOGRAD_STEM = "winograd_stem"  # its input channels are those of the strided pixels

# How many multiply-adds take as long as fetching a byte of weights, the share of that which
# `direct` does not hide behind its own, and what Winograd's transforms add to its products, per
# input and per output channel. benchmarks/fit_costs.py fits them to what benchmarks/auto_table.py
# times: the layers of ResNet18, ResNet50 and VGG16 but the 1x1 ones, at four sparsities. These are
# for two server cores at once, a Zen 4 (AVX-512 in two halves) and a Zen 5 (whole): estimates off
# by 12 and 11 %, layers chosen by them 0.2 and 1.3 % slower than the best. By itself the Zen 4
# would have 2.4, 0.2 and 10, the Zen 5 3.2, 0.5 and 16 (off by 11 and 10 %, 0.2 % slower both).
# avx2 was fitted to ResNet18 on the Zen 4; the others are not, but in proportion to their vectors.
MACS_PER_BYTE = {"avx512": 2.7, "avx2": 1.9, "neon": 0.9, "scalar": 0.2}
_NOT_HIDDEN = 0.4
_TRANSFORMS = 12.0

# How long `direct` takes over a multiply-add of a 1x1 convolution where `pointwise` takes one:
# under masks 1.1 to 1.3 in ResNet50 on the Zen 5. With a mask at the input it has fewer to do.
_DIRECT_1X1 = 1.15

# Output channels `direct` computes at once, however few a group has.
_DIRECT_CHANNELS = 16

# What reading and writing a tap's sums adds to its products in `active_taps`, per input channel:
# measured as 6.5, 3 and 1 % with 64, 128 and 256 channels.
_SUMS = 4.0

# Channels of the slim copies costs are read from.
_SLIM = 64


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

    def slim(self, keep: Collection[str] = ("mask", "source", "input_mask")) -> Request:
        """Return a convolution's copy with at most 64 channels and no residual.

        Positions are skipped in all channels at once: what share of the work an algorithm skips
        can be seen on the copy, which is packed in no time.

        Args:
            keep: names of the arrays to keep beside the weight.
        """
        node, x, y = self.node, self.inputs[0], self.outputs[0]
        weight, group = node.arrays["weight"], int(node.attributes["group"])
        if group == 1:
            slim_in, slim_out = min(x.c, _SLIM), min(y.c, _SLIM)
            weight = weight[:slim_out, :slim_in]
        else:
            group = slim_in = slim_out = min(group, _SLIM)
            weight = weight[:slim_out, :1]
        arrays: dict[str, Array] = {"weight": np.ascontiguousarray(weight)}
        arrays |= {name: node.arrays[name] for name in keep if name in node.arrays}
        descs = [
            _native.TensorDesc(t.n, t.h, t.w, c, c if t.nchw else _SLIM, t.nchw, not t.nchw)
            for t, c in ((x, slim_in), (y, slim_out))
        ]
        slim = replace(node.with_attributes(group=group), arrays=arrays)
        return Request(slim, descs[:1], descs[1:])


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
    reasons = dict(request.spec().algorithms(isa))
    allowed = {n: why for n, why in reasons.items() if winograd or not n.startswith(_WINOGRAD)}
    names = [name for name, reason in allowed.items() if not reason and name != _REFERENCE]
    if names:
        return names
    if reasons.get(_REFERENCE) == "":
        return [_REFERENCE]
    text = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise ActivsparseError(f"no algorithm runs it: {text or 'this build has none'}")


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
    names = able(request, isa, winograd)
    special = [name for name in _SPECIAL if name in names and not _loses(name, request)]
    if "input_mask" in request.node.arrays and special == ["pointwise"]:
        special = []  # what it computes of zeros, `direct` leaves out
    if special or len(names) == 1 or request.node.op != "conv":
        best = (special or names)[0]
    else:
        costs = estimate(request, isa, names)
        best = min(names, key=lambda name: costs[name])
    return Choice(best, tuple((name, None) for name in names))


def _loses(name: str, request: Request) -> bool:
    """Whether an algorithm computes so many skipped positions that another one is faster."""
    arrays = request.node.arrays
    if name != "depthwise_block" or "mask" not in arrays:
        return False
    return arrays["weight"].shape[2:] not in _OWN_BLOCKS and (
        np.mean(arrays["mask"] == 0) > _MOST_IN_BLOCKS
    )


def estimate(request: Request, isa: str, algorithms: Iterable[str]) -> dict[str, float]:
    """Estimate the time of a convolution in each algorithm, in units of one multiply-add."""
    slim = request.slim()
    return {name: _cost(request, slim, name, isa) for name in algorithms}


def _cost(request: Request, slim: Request, algorithm: str, isa: str) -> float:
    macs, weight_bytes = work(request, slim, algorithm, isa)
    fetching = MACS_PER_BYTE[isa] * weight_bytes
    if algorithm == "direct":
        if request.node.arrays["weight"].shape[2:] == (1, 1):
            macs *= _DIRECT_1X1
        else:
            macs += _NOT_HIDDEN * fetching
    return max(macs, fetching)


def work(request: Request, slim: Request, algorithm: str, isa: str) -> tuple[float, float]:
    """Multiply-adds of an algorithm, with what goes beside them, and bytes of weights.

    Args:
        request: a convolution.
        slim: its slim copy, which is packed to see what is skipped.
        algorithm: one of its algorithms; infinite where it cannot run the slim copy.
        isa: instruction set.
    """
    spec = slim.spec()
    if dict(spec.algorithms(isa))[algorithm]:
        return float("inf"), float("inf")
    packed = _native.pack(spec, algorithm, isa)
    macs = packed.macs
    if algorithm.startswith(_WINOGRAD):
        channels = request.inputs[0].c
        if algorithm == _WINOGRAD_STEM:
            channels *= int(request.node.attributes["stride_h"]) ** 2
        macs *= 1 + _TRANSFORMS * (1 / channels + 1 / request.outputs[0].c)
    group = int(request.node.attributes["group"])
    if algorithm == "direct" and group > 1:
        channels = request.outputs[0].c // group
        macs *= -(-channels // _DIRECT_CHANNELS) * _DIRECT_CHANNELS / channels
    if algorithm == "active_taps":
        macs *= 1 + _SUMS / request.inputs[0].c
    scale = request.node.arrays["weight"].size / slim.node.arrays["weight"].size
    return scale * macs, scale * (packed.nbytes - packed.index_bytes)


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
