"""The aarch64 build, cross-compiled and run under qemu: every operator, and the C interface."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from aarch64 import BUILD, EMULATORS, built, needs_aarch64
from test_symbols import needs_nm, shared_with_kernels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_aarch64]
TESTS = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    built()


@pytest.mark.parametrize("kernels", EMULATORS)
def test_packing_and_running_there(kernels: str) -> None:
    ran = subprocess.run([*EMULATORS[kernels], BUILD / "capi_conv"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("ok "), ran.stdout


@pytest.mark.parametrize("kernels", EMULATORS)
def test_every_kernel(kernels: str) -> None:
    words = [*EMULATORS[kernels], BUILD / "kernel_check"]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:]
    print(ran.stdout.splitlines()[-1])
    assert "neon gemm 16x1" in ran.stdout
    assert {f"{kernels} product_u8 6x4", "neon product_u8 6x4"} <= set(ran.stdout.splitlines())
    # Float16 is of the newer one alone, as dot products are.
    assert ("neon product_f16 8x3" in ran.stdout) == (kernels == "neon-dotprod")
    assert ("neon depthwise_f16 8" in ran.stdout) == (kernels == "neon-dotprod")


@needs_nm
def test_kernels_of_one_processor_stay_its_own() -> None:
    assert shared_with_kernels([BUILD / "CMakeFiles" / "activsparse_objects.dir"]) == ""


@pytest.mark.parametrize("kernels", EMULATORS)
@pytest.mark.parametrize(
    ("file", "tests"),
    [
        ("test_conv.py", "random_convolutions or masks or blocks or zero"),
        ("test_winograd.py", "random or fill or blocks_of_tiles or scaled"),
        ("test_winograd_stem.py", "random or masks or scaled or kept"),
        ("test_conv_max_pool.py", "random"),
        ("test_half_weights.py", "not mean and not refused"),
        ("test_inverted_residual.py", "one_by_one or masks"),
        ("test_nan.py", "not first_convolutions"),
        ("test_operators.py", "not threads and not reference and not specs"),
    ],
)
def test_operators_packed_here(file: str, tests: str, kernels: str) -> None:
    run_there(file, tests, EMULATORS[kernels])


@pytest.mark.parametrize("kernels", EMULATORS)
def test_operators_on_bytes_packed_here(kernels: str) -> None:
    run_there("test_bytes.py", "neon-all", EMULATORS[kernels])


def test_operators_on_float16_packed_here() -> None:
    run_there("test_float16.py", "neon", EMULATORS["neon-dotprod"])


def run_there(file: str, tests: str, words: list[str]) -> None:
    """The tests of that file, with operators packed on this machine and run under qemu."""
    emulator = shlex.join([*words, str(BUILD / "operator_server")])
    words = ["-p", "emulated", f"--emulator={emulator}", "-q", "-x", "-k", tests]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider", TESTS / file],
        env={**os.environ, "PYTHONPATH": path},
        cwd=TESTS.parents[1],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
