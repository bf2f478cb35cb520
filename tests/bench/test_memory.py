"""Peak memory against arrays of a known size."""

from __future__ import annotations

import numpy as np
import pytest

from activsparse.bench import memory
from activsparse.bench.memory import peak_memory

MIB = 2**20


def test_what_is_freed_again_counts():
    with peak_memory() as peak:
        held = np.ones(64 * MIB, np.uint8)
        del held
    if peak.bytes is None:
        pytest.skip("this system does not tell peak memory")
    assert 60 * MIB < peak.bytes < 120 * MIB
    with peak_memory() as peak:
        pass
    assert peak.bytes < 8 * MIB


def test_a_system_that_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    with peak_memory() as peak:
        pass
    assert peak.bytes is None
