"""Pytest plugin: the tests of operators, run on an instruction set that an emulator provides.

With `-p emulated --emulated-isa=neon --emulator='qemu-aarch64-static ... operator_server'` that
set is the only one `_native.available_isas` reports. Operators are packed for it here, and run by
operator_server.cpp in one emulated process; the reference runs here.
"""

from __future__ import annotations

import shlex
import struct
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from activsparse import ActivsparseError, _native

_run_here = _native.run_operator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--emulated-isa", default="neon")
    parser.addoption("--emulator", default="")


def pytest_configure(config: pytest.Config) -> None:
    words = shlex.split(config.getoption("--emulator"))
    if words:
        isa = config.getoption("--emulated-isa")
        _native.available_isas = lambda: [isa]
        _native.run_operator = Server(words).run


class Server:
    """An emulated process that runs operators."""

    def __init__(self, words: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe)

    def run(
        self,
        packed: Any,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
    ) -> None:
        """What `_native.run_operator` does."""
        if packed.algorithm == "reference" or packed.isa == "scalar":
            here = _native.unpack(
                packed.kind,
                packed.algorithm,
                "scalar",
                packed.data,
                packed.inputs,
                packed.outputs,
            )
            return _run_here(here, inputs, outputs)
        names = (packed.kind, packed.algorithm, packed.isa)
        parts = [counted(name.encode()) for name in names] + [counted(packed.data.tobytes())]
        for arrays in (inputs, outputs):
            parts.append(struct.pack("<I", len(arrays)))
            parts += [counted(a.tobytes()) for a in arrays]
        to, answers = self.process.stdin, self.process.stdout
        assert to is not None
        assert answers is not None
        to.write(b"".join(parts))
        to.flush()
        failure = answers.read(*struct.unpack("<I", answers.read(4))).decode()
        if failure:
            raise ActivsparseError(failure)
        for array in outputs:
            array[...] = np.frombuffer(answers.read(array.nbytes), array.dtype).reshape(array.shape)
        return None


def counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data
