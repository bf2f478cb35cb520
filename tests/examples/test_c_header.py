"""The plain C loop over masks.h against the plan of the same network."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.tolerance import network_bound, sums_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "c_header"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_loop_computes_what_the_plan_does(tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLE / "make_network.py"))["main"](tmp_path)
    flags = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2", "-I", tmp_path)
    program = tmp_path / "inference"
    subprocess.run(["gcc", *flags, EXAMPLE / "inference.c", "-o", program], check=True)
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32), np.float32)
    x.tofile(tmp_path / "image.raw")
    printed = subprocess.run(
        [program, tmp_path / "image.raw"], capture_output=True, text=True, check=True
    ).stdout
    session = Session(tmp_path / "network.plan")
    expected = session.run(x).ravel()
    assert any(row.eligible for row in session.explain())
    error = np.abs(np.array(printed.split(), np.float64) - expected).max()
    assert error <= network_bound(sums_of(session.explain()), expected)
