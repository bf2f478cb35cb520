"""Every kernel of the table, also those no operator picks, against sums in double precision."""

from __future__ import annotations

from pathlib import Path

from c_programs import LIBRARY, build_cpp, needs_c, run

from activsparse import _native


@needs_c
def test_every_kernel(tmp_path: Path) -> None:
    assert LIBRARY is not None
    ran = run(build_cpp(tmp_path / "kernel_check", "tests/native/kernel_check.cpp"))
    assert ran.returncode == 0, ran.stdout[-3000:]
    print(ran.stdout.splitlines()[-1])
    for isa in _native.available_isas():
        assert f"{isa} gemm 1x1" in ran.stdout
