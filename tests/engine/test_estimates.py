"""What estimates choose by: against the formula written again, and where constants come from."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from activsparse import ActivsparseError, _native
from activsparse.masks.time_table import shipped_tables

COSTS = Path(__file__).parents[2] / "native/choose/costs.inc"
ISAS = ("avx512", "avx2", "neon", "scalar")


def conv(rng, *, masked: bool, group: bool = False) -> _native.Spec:
    """A random convolution."""
    inputs, outputs = (int(c) for c in rng.integers(1, 200, 2))
    if group:
        inputs = outputs = 16 * int(rng.integers(1, 12))
    groups = inputs if group else 1
    kernel, size = int(rng.choice([1, 3, 5])), int(rng.integers(6, 30))
    weight = rng.standard_normal((outputs, inputs // groups, kernel, kernel), np.float32)
    arrays = {"weight": weight, "bias": np.zeros(outputs, np.float32)}
    if masked:
        arrays["mask"] = (rng.random((size, size)) > 0.4).astype(np.uint8)
        arrays["mask"][0, 0] = 1
    pads = {f"pad_{side}": kernel // 2 for side in ("top", "left", "bottom", "right")}
    descs = [
        _native.TensorDesc(1, size, size, c, -(-c // 16) * 16, padded=True)
        for c in (inputs, outputs)
    ]
    return _native.Spec("conv", {"group": groups, **pads}, arrays, descs[:1], descs[1:])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_an_estimate_is_products_or_weights_whichever_take_longer(isa, masked, seed):
    spec = conv(np.random.default_rng(seed), masked=masked)
    _, per_byte, not_hidden, transforms = _native.costs(isa)
    names = _native.able(spec, isa)
    for name, cost in zip(names, _native.estimates(spec, isa, names), strict=True):
        macs, weight_bytes, channels, waits = _native.work(spec, name, isa)
        assert (channels > 0) == name.startswith("winograd"), seed
        products = macs * (1 + transforms * channels) + waits * not_hidden * per_byte * weight_bytes
        assert cost == pytest.approx(max(products, per_byte * weight_bytes)), (name, seed)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("seed", range(4))
def test_the_least_estimate_is_taken_where_nothing_is_made_for_it(isa, seed):
    spec = conv(np.random.default_rng(seed), masked=True)
    names = _native.able(spec, isa)
    costs = dict(zip(names, _native.estimates(spec, isa, names), strict=True))
    best = "pointwise" if "pointwise" in names else min(names, key=lambda name: costs[name])
    assert _native.choose(spec, isa) == best, seed


@pytest.mark.parametrize("isa", ISAS)
def test_depthwise_has_algorithms_of_its_own(isa):
    for seed in range(4):
        spec = conv(np.random.default_rng(seed), masked=bool(seed % 2), group=True)
        assert _native.choose(spec, isa).startswith("depthwise"), seed


@pytest.mark.parametrize("seed", range(4))
def test_work_is_that_of_the_whole_convolution(seed):
    """A slim copy stands for it: with few channels nothing is scaled, with many in proportion."""
    rng = np.random.default_rng(seed)
    spec = conv(rng, masked=True)
    macs = {name: _native.pack(spec, name, "avx2").macs for name in ("direct",)}
    told, _, _, waits = _native.work(spec, "direct", "avx2")
    assert told == pytest.approx(macs["direct"] * (1.0 if waits else 1.15), rel=0.15), seed


def test_a_copy_keeps_masks_and_nothing_else():
    spec = conv(np.random.default_rng(0), masked=True)
    whole, slim = spec.slim(["mask"]), spec.slim([])
    kept = [_native.pack(s, "direct", "avx2").macs for s in (whole, slim)]
    assert 0 < kept[0] < kept[1]
    desc = _native.TensorDesc(1, 4, 4, 16, 16)
    add = _native.Spec("add", {}, {}, [desc, desc], [desc])
    with pytest.raises(ActivsparseError, match="slim copies are of convolutions"):
        add.slim([])


def test_blocks_and_estimates_have_to_fit():
    names = ["direct", "winograd2"]
    with pytest.raises(ActivsparseError, match="1 estimates"):
        _native.fastest("conv", names, [1.0], "direct", lambda name: [1.0])
    with pytest.raises(ActivsparseError, match="is empty"):
        _native.fastest("conv", names, [], "direct", lambda name: [])
    with pytest.raises(ActivsparseError, match="none of the candidates"):
        _native.fastest("conv", names, [], "winograd4", lambda name: [1.0])
    with pytest.raises(ZeroDivisionError):
        _native.fastest("conv", names, [], "direct", lambda name: [1 / 0])


LINE = re.compile(r'^COSTS\("(.*)", k(\w+), [\d.]+, [\d.]+, [\d.]+\)(?:  // (.*))?$', re.MULTILINE)


def test_constants_of_a_processor_name_the_times_they_were_fitted_to():
    lines = LINE.findall(COSTS.read_text("utf-8"))
    assert len(lines) == COSTS.read_text("utf-8").count("\nCOSTS(")
    tables = resources.files("activsparse.masks").joinpath("tables")
    for cpu, isa, table in lines:
        if not cpu:
            continue
        found = shipped_tables()[table.removesuffix(".json")]
        assert tables.joinpath(table).is_file()
        assert cpu in found.machine
        assert isa.lower() == found.isa
    # The last line of an instruction set holds for all processors.
    assert {isa.lower() for cpu, isa, _ in lines if not cpu} == set(ISAS)
    assert all(_native.costs(isa)[0] == "" for isa in ISAS)
