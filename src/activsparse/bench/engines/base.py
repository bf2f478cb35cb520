"""What every engine under test can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

__all__ = ["Array", "Engine"]

Array = npt.NDArray[Any]


class Engine(ABC):
    """One model, loaded and ready to run with a fixed number of threads."""

    name: ClassVar[str]
    isa: str | None = None
    """Instruction set, where an engine tells."""

    @abstractmethod
    def __init__(self, path: Path, threads: int, input_shapes: Sequence[tuple[int, ...]]) -> None:
        """Load an ONNX file.

        Args:
            path: the ONNX file.
            threads: worker threads, the calling one included.
            input_shapes: shape of every graph input, in graph order.

        Raises:
            ActivsparseError: the engine cannot take this model.
        """

    @staticmethod
    @abstractmethod
    def version() -> str:
        """Version of the engine's package."""

    @abstractmethod
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run once; inputs and outputs in graph order, of the types and layouts of the file.

        Raises:
            ActivsparseError: the engine takes no inputs of these types.
        """
