"""Which algorithm runs an operator, by measurement on this machine.

Every algorithm that can run an operator and is not hopeless by estimate is packed and timed on its
own, weights as cold as they will be within the network. The cost model breaks ties, so that noise
does not shuffle algorithms that are equally fast.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

from activsparse import _native
from activsparse.engine.choice_cache import ChoiceCache, cache_folder
from activsparse.engine.choose import Choice, Chooser, Request, able, by_cost, estimate, forced
from activsparse.engine.options import AUTO, check_options
from activsparse.errors import ActivsparseError, Option

__all__ = ["Measured", "Timer", "choosing"]

# An algorithm estimated at this many times the least is not timed: where estimates were fitted
# (benchmarks/fit_costs.py), none of the fastest ones was at more than 1.3 times.
_HOPELESS = 2.0

# Times come in blocks, the algorithms one after the other within each. The least of the blocks'
# medians counts: a block that other programs disturbed is as good as not taken, and a single lucky
# run decides nothing.
_BLOCKS = 3
_BLOCK = 3

# After a block, algorithms this many times as slow as the best are not timed again.
_BEATEN = 1.4

# No further blocks once runs have taken so long in total: long runs average noise by themselves.
_ENOUGH_MS = 100.0

# Compiling under "auto" measures no longer than this: a crowded machine can make it last. What is
# left is estimated, and measured the next time.
_AUTO_SECONDS = 5.0

# The estimated choice stays unless another is faster by more than the noise: how far both of them
# differ from block to block, within these bounds. So near-equal algorithms do not take turns.
_TIE = 0.03
_MOST_NOISE = 0.1

# Packed weights up to this size are kept from block to block.
_HELD_BYTES = 4 << 20

# Nothing is gained by reading more than this to push weights out of caches.
_MOST_EVICTED = 64 << 20

# The instruction set whose times nobody cares about.
_SLOW_ISA = "scalar"

# Arrays of which not only the shape but the content decides how much is to be done.
_CONTENT = ("mask", "source", "input_mask")

_log = logging.getLogger(__name__)


class Timer(Protocol):
    """What `_native.OperatorTimer` does."""

    def time(
        self, operators: Sequence[_native.PackedOperator], repeat: int, evict_bytes: int
    ) -> list[list[float]]:
        """Milliseconds of each run of each operator."""


@contextmanager
def choosing(
    algorithm: str | None, tune: bool | str, winograd: bool, isa: str, threads: int
) -> Iterator[Chooser]:
    """Yield what chooses algorithms for `Session`'s options; afterwards keep what it measured.

    Raises:
        ActivsparseError: an option is of the wrong type or range, or two exclude each other.
    """
    check_options(threads=threads, isa=isa, algorithm=algorithm, tune=tune, winograd=winograd)
    tune = AUTO if tune == AUTO else bool(tune)
    runs_here = isa in _native.available_isas()
    if algorithm is not None:
        if algorithm.startswith("winograd") and not winograd:
            raise ActivsparseError(
                Option("algorithm", algorithm),
                " and ",
                Option("winograd", False),
                "; drop one of them",
            )
        yield forced(algorithm)
    elif not runs_here and tune is True:
        raise ActivsparseError(
            Option("tune", True), f": this machine does not have '{isa}'; measure on one that has"
        )
    elif not runs_here:
        yield partial(by_cost, winograd=winograd)
    elif tune is True or (tune == AUTO and isa != _SLOW_ISA and cache_folder() is not None):
        seconds = _AUTO_SECONDS if tune == AUTO else math.inf
        made: list[tuple[ChoiceCache, Measured]] = []

        @cache
        def measured(threads: int) -> Measured:
            known = ChoiceCache.of_machine(isa, threads)
            timer = _native.OperatorTimer(threads)
            made.append((known, Measured(timer, known, winograd, seconds)))
            return made[-1][1]

        try:
            yield lambda request, isa: measured(request.threads)(request, isa)
        finally:  # what was measured before an error, or Ctrl-C, is not measured again
            for known, _ in made:
                known.save()
            late = sum(chooser.estimated for _, chooser in made)
            if late:
                _log.info("%d layers are estimated: no time was left to measure them", late)
    else:
        yield partial(by_cost, winograd=winograd)


class Measured:
    """A chooser that takes the fastest algorithm.

    Attributes:
        estimated: operators that there was no time left to measure.
    """

    def __init__(
        self,
        timer: Timer,
        cache: ChoiceCache,
        winograd: bool = True,
        seconds: float = math.inf,
    ) -> None:
        """Prepare to measure.

        Args:
            timer: measures with as many threads as the operators will run on.
            cache: what is known already; new choices are put there.
            winograd: whether Winograd's algorithms are allowed.
            seconds: after so long no more measurements begin; estimates choose the rest.
        """
        self._timer = timer
        self._cache = cache
        self._winograd = winograd
        self._seconds = seconds
        self.estimated = 0

    def __call__(self, request: Request, isa: str) -> Choice:
        """Return the fastest algorithm; where only one can run the operator, that one.

        Raises:
            ActivsparseError: no algorithm can run the operator.
        """
        names = able(request, isa, self._winograd)
        if len(names) == 1 or request.node.op != "conv":
            return by_cost(request, isa, self._winograd)
        evict_bytes = _evict_bytes(request)
        key = _key(request, names, evict_bytes)
        known = self._cache.get(key)
        if known is not None and known.algorithm in names:
            return known
        if self._seconds <= 0:
            self.estimated += 1
            return by_cost(request, isa, self._winograd)
        begin = time.perf_counter()
        choice = self._measure(request, isa, names, evict_bytes)
        self._seconds -= time.perf_counter() - begin
        self._cache.put(key, choice)
        _log.debug("%s: %s", request.node.title, choice)
        return choice

    def _measure(
        self, request: Request, isa: str, names: Sequence[str], evict_bytes: int
    ) -> Choice:
        favourite = by_cost(request, isa, self._winograd).algorithm
        costs = estimate(request, isa, names)
        limit = _HOPELESS * min(costs.values())
        running = [name for name in names if name == favourite or costs[name] <= limit]
        spec = request.spec()
        held: dict[str, _native.PackedOperator] = {}
        medians: dict[str, list[float]] = {name: [] for name in running}
        lowest: dict[str, float] = {}
        spent_ms = 0.0
        for _ in range(_BLOCKS if len(running) > 1 else 1):
            for name in running:
                # Large weights are packed again for each block: one algorithm's at a time.
                packed = held.get(name) or _native.pack(spec, name, isa)
                block = self._timer.time([packed], _BLOCK, evict_bytes)[0]
                if packed.nbytes <= _HELD_BYTES:
                    held[name] = packed
                del packed
                medians[name].append(statistics.median(block))
                lowest[name] = min(*block, lowest.get(name, math.inf))
                spent_ms += sum(block)
            # By the least time of all: one disturbed run must not drop the best algorithm.
            limit = _BEATEN * min(min(medians[name]) for name in running)
            running = [name for name in running if lowest[name] <= limit]
            held = {name: held[name] for name in running if name in held}
            if len(running) == 1 or spent_ms > _ENOUGH_MS:
                break
        least = {name: min(times) for name, times in medians.items() if times}
        fastest = min(least, key=lambda name: least[name])
        noise = max(_TIE, min(_MOST_NOISE, _spread(medians[favourite]), _spread(medians[fastest])))
        if least[favourite] <= (1 + noise) * least[fastest]:
            fastest = favourite
        return Choice(fastest, tuple((name, least.get(name)) for name in names))


def _spread(medians: Sequence[float]) -> float:
    """How far an algorithm's blocks differ, as a share of the least."""
    return max(medians) / min(medians) - 1


def _evict_bytes(request: Request) -> int:
    """How much is read between two uses of the operator's weights, as a power of two."""
    others = request.network_bytes - request.node.arrays["weight"].nbytes
    if others <= 0:
        return 0
    cpu = _native.cpu_info()
    enough = max(int(cpu["l3"]), 4 * int(cpu["l2"])) or _MOST_EVICTED
    return min(1 << (others - 1).bit_length(), enough, _MOST_EVICTED)


def _key(request: Request, names: Sequence[str], evict_bytes: int) -> str:
    """Digest of all that decides how long the operator's algorithms take on one machine."""
    node = request.node
    tensors = [
        (t.n, t.h, t.w, t.c, t.stride, t.nchw, t.padded)
        for t in (*request.inputs, *request.outputs)
    ]
    arrays: dict[str, Any] = {
        name: [
            list(array.shape),
            str(array.dtype),
            hashlib.blake2b(array.tobytes()).hexdigest() if name in _CONTENT else "",
        ]
        for name, array in node.arrays.items()
    }
    content = [node.op, dict(node.attributes), tensors, arrays, list(names), evict_bytes]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
