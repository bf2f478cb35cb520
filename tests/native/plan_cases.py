"""Compiled plans with recorded inputs and outputs, for plan_cases.c to run on any machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from activsparse.engine.plan import Plan
from activsparse.engine.plan_file import write_plan

FloatArray = npt.NDArray[np.float32]


class Cases:
    """A folder of cases; see plan_cases.c."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        plan: Plan,
        inputs: Sequence[FloatArray],
        outputs: Sequence[FloatArray],
        allowed: Sequence[npt.ArrayLike],
    ) -> None:
        """Record a case.

        Args:
            name: without blanks; must be new.
            plan: may be for another machine.
            inputs: of the plan, in its order and shapes.
            outputs: what is expected.
            allowed: absolute errors, broadcast to the outputs.
        """
        assert name not in self.names
        self.names.append(name)
        write_plan(plan, self.folder / f"{name}.plan")
        bounds = [np.broadcast_to(a, y.shape) for a, y in zip(allowed, outputs, strict=True)]
        for end, arrays in (("in", inputs), ("out", [*outputs, *bounds])):
            flat = [np.asarray(array, np.float32).ravel() for array in arrays]
            np.concatenate(flat).tofile(self.folder / f"{name}.{end}")
        (self.folder / "cases.txt").write_text("".join(f"{name}\n" for name in self.names))
