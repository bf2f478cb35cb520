"""The C interface, from C99 programs linked with the static library."""

from __future__ import annotations

from pathlib import Path

import pytest
from c_programs import build, build_cpp, needs_c, run

import activsparse
from activsparse import _native
from activsparse.engine.compile import compile_model
from activsparse.engine.plan_file import write_plan

pytestmark = needs_c
ISAS = _native.available_isas()


def test_a_masked_convolution(tmp_path: Path) -> None:
    ran = run(build(tmp_path / "program", "tests/native/capi_conv.c"))
    assert ran.stdout == f"ok {activsparse.__version__}\n", ran.stdout + ran.stderr
    assert ran.returncode == 0


def test_loading_describing_and_refusing_plans(sparse, tmp_path: Path) -> None:
    plan = compile_model(sparse, isa=ISAS[-1], threads=2)
    write_plan(plan, tmp_path / "model.plan")
    program = build(tmp_path / "program", "tests/native/capi_plan.c")
    ran = run(program, tmp_path / "model.plan", ISAS[-1])
    assert ran.stdout == "ok\n", ran.stdout + ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize("program", ["no_allocation", "plan_forger", "spec_thrower"])
def test_hostile_plans_and_specs(program: str, tmp_path: Path) -> None:
    """The C++ programs of that name; `make sanitize` runs them with more trials, sanitized."""
    built = build_cpp(tmp_path / program, f"tests/native/{program}.cpp")
    ran = run(built, *(["200"] if program != "no_allocation" else []))
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
