"""What may be asked of a quantisation, checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from activsparse.engine.options import MOST_THREADS, check_options
from activsparse.errors import ActivsparseError, Option
from activsparse.masks.options import check_literal
from activsparse.values import check_count, check_number, refuse

__all__ = ["METHODS", "QUANTISERS", "QuantizeOptions"]

METHODS = ("minmax", "percentile", "entropy")
QUANTISERS = ("onnxruntime", "nncf")
_MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class QuantizeOptions:
    """How a network is quantised.

    Attributes:
        images: at most so many samples are looked at for the ranges of values.
        held_out: at most so many others tell what quantising costs.
        quantiser: `onnxruntime`, or `nncf`, which corrects biases too and has ranges of its own.
        method: what the range of a tensor is: `minmax`, all that was seen; `percentile`, all but
            the share beyond it at either end; `entropy`, that of the least divergence.
        percentile: the share, in percent, for that method.
        per_channel: whether each output channel of a weight has a scale of its own.
        keep_float: globs of names of layers that are not quantised.
        accuracy_drop: points of accuracy (of agreement where there are no labels) that may be lost;
            as many of the worst layers as that takes stay in float.
        per_layer: whether to measure what each layer costs.
        threads: of the engine that measures.
        fallback: as of `Session`, for what this engine does not know of the quantised network;
            without it ONNX Runtime runs all of such a one.
    """

    images: int = 300
    held_out: int = 1000
    quantiser: str = "onnxruntime"
    method: str = "minmax"
    percentile: float = 99.999
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    accuracy_drop: float | None = None
    per_layer: bool = True
    threads: int = 1
    fallback: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("images", self.images), ("held_out", self.held_out)):
            check_count(name, value, _MOST_IMAGES)
        check_count("threads", self.threads, MOST_THREADS)
        check_options(fallback=self.fallback)
        check_literal("quantiser", self.quantiser, QUANTISERS)
        check_literal("method", self.method, METHODS)
        globs = self.keep_float
        globs = (globs,) if isinstance(globs, str) else globs
        if not isinstance(globs, Iterable) or not all(isinstance(g, str) for g in globs):
            refuse("keep_float", globs, "give names of layers, such as ['layer1.*']")
        object.__setattr__(self, "keep_float", tuple(globs))
        check_number("percentile", self.percentile, 99.999)
        if not 50 < self.percentile <= 100:
            raise ActivsparseError(
                Option("percentile", self.percentile), " is no share; give more than 50, up to 100"
            )
        if self.accuracy_drop is not None:
            check_number("accuracy_drop", self.accuracy_drop, 0.5)
            if not 0 <= self.accuracy_drop <= 100:
                raise ActivsparseError(
                    Option("accuracy_drop", self.accuracy_drop), " is in points; give 0 to 100"
                )
