"""What every engine under test can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Engine"]

Array = npt.NDArray[np.float32]


class Engine(ABC):
    """One model, loaded and ready to run with a fixed number of threads; float32 throughout."""

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
        """Run once; float32 inputs and outputs in graph order, laid out as the graph says."""
