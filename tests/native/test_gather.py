"""Operators whose data move into one block compute what they did before."""

from __future__ import annotations

import numpy as np

from activsparse import _native


def test_gathered_operators_are_the_same() -> None:
    rng = np.random.default_rng(7)
    operators, cases = [], []
    for channels in (16, 48, 64, 160):
        desc = _native.TensorDesc(1, 9, 9, channels, channels, padded=True)
        weight = rng.standard_normal((channels, channels, 3, 3), np.float32)
        pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
        spec = _native.Spec("conv", {"group": 1, **pads}, {"weight": weight}, [desc], [desc])
        packed = _native.pack(spec, "direct", "scalar")
        x = rng.standard_normal((9, 9, channels), np.float32)
        operators.append(packed)
        cases.append((packed, x, bytes(packed.data), _run(packed, x)))

    _native.gather([*operators, operators[0]])  # a step may come twice
    _native.gather(operators)  # and another executor may want the same ones

    addresses = [packed.data.ctypes.data for packed in operators]
    assert addresses == sorted(addresses)
    assert all(address % 64 == 0 for address in addresses)
    assert addresses[-1] - addresses[0] < sum(packed.nbytes + 64 for packed in operators)
    for packed, x, data, expected in cases:
        assert bytes(packed.data) == data
        np.testing.assert_array_equal(_run(packed, x), expected)


def _run(packed: _native.PackedOperator, x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _native.run_operator(packed, [x], [y])
    return y
