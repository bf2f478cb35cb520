"""ONNX models to plans, for this machine or another one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from activsparse import _native
from activsparse.engine.graph import NodeError
from activsparse.engine.halve import check_precision
from activsparse.engine.measure import choosing
from activsparse.engine.options import AUTO, PRECISIONS, WEIGHTS, check_options
from activsparse.engine.plan import Plan, compile_plan
from activsparse.engine.plan_file import is_plan, write_plan
from activsparse.errors import ActivsparseError, memory_suffices
from activsparse.onnx_file import name_of

if TYPE_CHECKING:
    import onnx

__all__ = ["ISA_VARIABLE", "NATIVE", "TARGETS", "compile_file", "compile_model", "target_isa"]

ISA_VARIABLE = "ACTIVSPARSE_ISA"
NATIVE = "native"
TARGETS = {"x86-64": "scalar", "x86-64-v3": "avx2", "x86-64-v4": "avx512", "aarch64": "neon"}
"""Names of the machines a plan can be for, and the instruction set it then uses."""


def target_isa(target: str) -> str:
    """Return the instruction set of plans for a target.

    Args:
        target: "native", a key of `TARGETS`, or an instruction set.

    Raises:
        ActivsparseError: there is no such target, or the variable ACTIVSPARSE_ISA names an
            instruction set this machine does not have.
    """
    if target == NATIVE:
        isa = os.environ.get(ISA_VARIABLE) or _native.available_isas()[-1]
        _native.check_isa(isa)
        return isa
    isa = TARGETS.get(target, target)
    if isa not in TARGETS.values():
        names = ", ".join((NATIVE, *TARGETS))
        raise ActivsparseError(f"target '{target}': there is none; choose one of {names}")
    return isa


def compile_model(
    path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    isa: str,
    threads: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    algorithm: str | None = None,
    tune: bool | str = AUTO,
    winograd: bool = True,
    weights: str = WEIGHTS[0],
    precision: str = PRECISIONS[0],
) -> Plan:
    """Compile an ONNX file; the arguments are those of `Session`.

    The instruction set may be one this machine lacks: its plan can be saved, but not run here.

    Raises:
        ActivsparseError: as `Session` does; or measurements are asked for, of an instruction set
            that is not this machine's.
    """
    if is_plan(path):
        raise ActivsparseError(
            f"{name_of(path)}: is a compiled plan already; name the ONNX model it was made from"
        )
    check_options(weights=weights, precision=precision)
    check_precision(isa, precision)
    with (
        memory_suffices(name_of(path)),
        choosing(algorithm, tune, winograd, isa, threads) as choose,
    ):
        return compile_plan(
            path,
            isa,
            input_shapes,
            choose,
            algorithm is None,
            threads,
            weights,
            mix=winograd,
            precision=precision,
        )


def compile_file(
    path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    out: str | os.PathLike[str],
    *,
    target: str = NATIVE,
    threads: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    algorithm: str | None = None,
    tune: bool | str = AUTO,
    winograd: bool = True,
    fallback: str | None = None,
    weights: str = WEIGHTS[0],
    precision: str = PRECISIONS[0],
) -> Plan:
    """Compile an ONNX file into a plan file for any target.

    Args:
        path: the model, as for `Session`.
        out: the plan to write.
        target: see `target_isa`.
        threads: how many a session uses unless told otherwise.
        input_shapes: as for `Session`, as are the following.
        algorithm: one for all convolutions.
        tune: whether to measure; for instruction sets this machine lacks, estimates decide.
        winograd: allow Winograd convolutions.
        fallback: as for `Session`; a plan holds no part that another engine runs, so that a model
            that needs one is refused.
        weights: type that the weights of products are kept in.
        precision: type that float networks are computed in.

    Returns:
        What was written.

    Raises:
        ActivsparseError: the model cannot be compiled or the file not be written.
    """
    check_options(fallback=fallback)
    try:
        plan = compile_model(
            path,
            isa=target_isa(target),
            threads=threads,
            input_shapes=input_shapes,
            algorithm=algorithm,
            tune=tune,
            winograd=winograd,
            weights=weights,
            precision=precision,
        )
    except NodeError as error:
        if fallback is None:
            raise
        raise ActivsparseError(
            f"{name_of(path)}: {error.node.title} would run in ONNX Runtime, and a plan holds "
            "this engine's operators only; replace it in the model, or run the model itself"
        ) from error
    write_plan(plan, out)
    return plan
