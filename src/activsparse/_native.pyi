"""The compiled half, native/bindings; see docs/architecture.md and docs/operators.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_FloatArray = npt.NDArray[np.float32]

PLAN_MAGIC: bytes
PLAN_FORMAT: int
ENGINE_BUILD: str

def available_isas() -> list[str]: ...
def check_isa(name: str) -> None: ...
def cpu_info() -> dict[str, Any]: ...

class TensorDesc:
    def __init__(
        self,
        n: int,
        h: int,
        w: int,
        c: int,
        stride: int,
        nchw: bool = False,
        padded: bool = False,
    ) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def h(self) -> int: ...
    @property
    def w(self) -> int: ...
    @property
    def c(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def nchw(self) -> bool: ...
    @property
    def padded(self) -> bool: ...
    @property
    def extent(self) -> int: ...

class Spec:
    def __init__(
        self,
        kind: str,
        attributes: Mapping[str, Any],
        arrays: Mapping[str, _Array],
        inputs: Sequence[TensorDesc],
        outputs: Sequence[TensorDesc],
    ) -> None: ...
    def algorithms(self, isa: str) -> list[tuple[str, str]]: ...

class PackedOperator:
    @property
    def kind(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def isa(self) -> str: ...
    @property
    def inputs(self) -> list[TensorDesc]: ...
    @property
    def outputs(self) -> list[TensorDesc]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def kernel(self) -> str: ...
    @property
    def macs(self) -> float: ...
    @property
    def index_bytes(self) -> int: ...
    @property
    def data(self) -> npt.NDArray[np.uint8]: ...

def pack(spec: Spec, algorithm: str, isa: str) -> PackedOperator: ...
def unpack(
    kind: str,
    algorithm: str,
    isa: str,
    data: npt.NDArray[np.uint8],
    inputs: Sequence[TensorDesc],
    outputs: Sequence[TensorDesc],
) -> PackedOperator: ...
def run_operator(
    packed: PackedOperator, inputs: Sequence[_FloatArray], outputs: Sequence[_FloatArray]
) -> None: ...
def tile_cover(
    mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8], size: int, stride: int = 1
) -> list[tuple[int, int, int, int, int]]: ...
def time_operator(
    packed: PackedOperator, repeat: int, threads: int = 1, evict_bytes: int = 0
) -> list[float]: ...

class OperatorTimer:
    def __init__(self, threads: int = 1) -> None: ...
    def time(
        self, operators: Sequence[PackedOperator], repeat: int, evict_bytes: int = 0
    ) -> list[list[float]]: ...

class Executor:
    def __init__(
        self,
        tensors: Sequence[tuple[TensorDesc, int]],
        steps: Sequence[tuple[PackedOperator, list[int], list[int]]],
        inputs: Sequence[int],
        outputs: Sequence[int],
        arena_floats: int,
        threads: int,
    ) -> None: ...
    def run(self, inputs: Sequence[_FloatArray], outputs: Sequence[_FloatArray]) -> None: ...
    def profile(
        self, inputs: Sequence[_FloatArray], outputs: Sequence[_FloatArray], repeat: int = 20
    ) -> list[float]: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...

_Value = tuple[str, tuple[int, ...], int]

class PlanFile:
    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def inputs(self) -> list[_Value]: ...
    @property
    def outputs(self) -> list[_Value]: ...
    @property
    def tensors(self) -> list[tuple[TensorDesc, int]]: ...
    @property
    def arena_floats(self) -> int: ...
    @property
    def metadata(self) -> bytes: ...
    def steps(self) -> list[tuple[PackedOperator, list[int], list[int]]]: ...

def open_plan(path: str) -> PlanFile: ...
def write_plan(
    file: int,
    isa: str,
    threads: int,
    inputs: Sequence[_Value],
    outputs: Sequence[_Value],
    tensors: Sequence[tuple[TensorDesc, int]],
    steps: Sequence[tuple[PackedOperator, list[int], list[int]]],
    arena_floats: int,
    metadata: bytes,
) -> None: ...
