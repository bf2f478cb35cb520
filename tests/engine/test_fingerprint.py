"""Every byte of a model's constants counts in its fingerprint."""

from __future__ import annotations

import numpy as np

from activsparse.engine.fingerprint import fingerprint


def test_a_change_of_any_byte_shows():
    rng = np.random.default_rng(0)
    for shape in ((1,), (70, 33), (512, 512, 3, 3)):
        values = rng.standard_normal(shape).astype(np.float32)
        before = fingerprint({"w": values})
        places = {0, values.nbytes - 1, *map(int, rng.integers(0, values.nbytes, 4))}
        for place in places:
            other = values.copy()
            other.reshape(-1).view(np.uint8)[place] ^= 1
            assert fingerprint({"w": other}) != before, (shape, place)
        assert fingerprint({"v": values}) != before


def test_the_layout_in_memory_does_not_count():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert fingerprint({"w": np.asfortranarray(values)}) == fingerprint({"w": values})
    empty = np.zeros((0, 3), np.float32)
    assert len(fingerprint({"w": empty, "i": np.int64(3), "other": np.float64(1)})) == 32
