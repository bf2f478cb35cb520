"""Which algorithm runs an operator, by measurement on this machine.

Every algorithm that can run an operator and is not hopeless by estimate is packed and timed on its
own, weights as cold as they will be within the network. The cost model breaks ties, so that noise
does not shuffle algorithms that are equally fast. How is decided by native/choose/measure.h.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

from activsparse import _native
from activsparse.engine.choice_cache import ChoiceCache, cache_folder
from activsparse.engine.choose import Choice, Chooser, Request, able, by_cost, forced
from activsparse.engine.options import AUTO, check_options
from activsparse.errors import ActivsparseError, Option

__all__ = ["Measured", "Timer", "choosing"]

# An algorithm estimated at this many times the least is not timed.
_HOPELESS = 2.0

# Compiling under "auto" measures no longer than this: a crowded machine can make it last. What is
# left is estimated, and measured the next time.
_AUTO_SECONDS = 5.0

# The instruction set whose times nobody cares about.
_SLOW_ISA = "scalar"

# Arrays of which not only the shape but the content decides how much is to be done.
_CONTENT = ("mask", "source", "input_mask")

_log = logging.getLogger(__name__)


class Timer(Protocol):
    """What `_native.OperatorTimer` does."""

    def blocks(
        self, spec: _native.Spec, isa: str, evict_bytes: int
    ) -> Callable[[str], list[float]]:
        """What returns the milliseconds of each of a block's runs of an algorithm."""


@contextmanager
def choosing(
    algorithm: str | None, tune: bool | str, winograd: bool, isa: str, threads: int
) -> Iterator[Chooser]:
    """Yield what chooses algorithms for `Session`'s options; afterwards keep what it measured.

    Raises:
        ActivsparseError: an option is of the wrong type or range, or two exclude each other.
    """
    check_options(threads=threads, isa=isa, algorithm=algorithm, tune=tune, winograd=winograd)
    tune, winograd = AUTO if tune == AUTO else bool(tune), bool(winograd)
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
        spec = request.spec()
        algorithm, times = _native.fastest(
            request.node.op,
            names,
            _native.estimates(spec, isa, names, here=True),
            _native.choose(spec, isa, self._winograd, here=True),
            self._timer.blocks(spec, isa, evict_bytes),
            _HOPELESS,
        )
        return Choice(algorithm, tuple(zip(names, times, strict=True)))


def _evict_bytes(request: Request) -> int:
    """How much is read between two uses of the operator's weights, as a power of two."""
    others = request.network_bytes - request.node.arrays["weight"].nbytes
    return _native.evicted_between(max(others, 0))


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
