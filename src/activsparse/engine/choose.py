"""Which algorithm runs an operator.

The choice is a function of the native spec and the instruction set, so that one machine can ask for
every other's. This one is a fixed order of preference; anything callable in the same way
(measurements with a cache) can take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from activsparse import _native
from activsparse.errors import ActivsparseError

__all__ = ["Choice", "Chooser", "by_preference", "forced"]

# Best first. Algorithms not named here come after those that are, the naive reference is last.
_PREFERENCE = ("stem", "pointwise", "depthwise", "winograd4", "direct")
_LAST = "reference"


@dataclass(frozen=True)
class Choice:
    """The algorithm taken, and why each of the others was not."""

    algorithm: str
    others: tuple[tuple[str, str], ...] = ()


Chooser = Callable[[str, _native.Spec, str], Choice]
"""(operator kind, spec, instruction set) -> Choice."""


def by_preference(kind: str, spec: _native.Spec, isa: str) -> Choice:
    """Take the first algorithm in order of preference that can run the operator.

    Raises:
        ActivsparseError: none can; the message says why not, algorithm by algorithm.
    """
    rows = sorted(spec.algorithms(isa), key=lambda row: _rank(row[0]))
    able = [name for name, reason in rows if not reason]
    if not able:
        raise ActivsparseError(f"no algorithm runs this {kind}: {_reasons(rows)}")
    taken = able[0]
    others = [(name, reason or f"{taken} is preferred") for name, reason in rows if name != taken]
    return Choice(taken, tuple(others))


def forced(algorithm: str) -> Chooser:
    """Return a chooser that takes `algorithm` for convolutions; other kinds follow the preference.

    `forced("reference")` takes the naive reference wherever a kind has one.
    """

    def choose(kind: str, spec: _native.Spec, isa: str) -> Choice:
        reasons = dict(spec.algorithms(isa))
        if algorithm in reasons and not reasons[algorithm]:
            return Choice(algorithm)
        if kind == "conv":
            cause = reasons.get(algorithm, "there is no such algorithm")
            known = ", ".join(sorted(reasons))
            raise ActivsparseError(
                f"algorithm '{algorithm}' cannot run it: {cause}; choose another of: {known}"
            )
        return by_preference(kind, spec, isa)

    return choose


def _rank(algorithm: str) -> int:
    if algorithm == _LAST:
        return len(_PREFERENCE) + 1
    return _PREFERENCE.index(algorithm) if algorithm in _PREFERENCE else len(_PREFERENCE)


def _reasons(rows: list[tuple[str, str]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in rows) or "this build has none"
