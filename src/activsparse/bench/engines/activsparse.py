"""Our own engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from activsparse import Session, __version__
from activsparse.bench.engines.base import Array, Engine

__all__ = ["Activsparse"]


class Activsparse(Engine):
    """`activsparse.Session` with the best instruction set of the machine (or `ACTIVSPARSE_ISA`)."""

    name = "activsparse"

    def __init__(
        self,
        path: Path,
        threads: int,
        input_shapes: Sequence[tuple[int, ...]],
        named_shapes: Mapping[str, tuple[int, ...]] | None = None,
        **options: Any,
    ) -> None:
        """See `Engine`.

        Args:
            path: the ONNX file.
            threads: worker threads, the calling one included.
            input_shapes: shape of every graph input, in graph order.
            named_shapes: shapes of inputs that the file leaves open, by name.
            options: further arguments of `Session`.
        """
        self.session = Session(path, threads=threads, input_shapes=named_shapes, **options)
        self.input_names = [name for name, _ in self.session.inputs]
        self.isa = self.session.isa

    @staticmethod
    def version() -> str:
        """Version of this package."""
        return __version__

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`."""
        result = self.session.run(dict(zip(self.input_names, inputs, strict=True)))
        return result if isinstance(result, list) else [result]
