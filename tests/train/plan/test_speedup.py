"""Sparsities for a speed-up from measured rows: as good as all combinations tried."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small_networks import example, make_net

from activsparse import ActivsparseError
from activsparse.masks.latency import dense_ms, layer_ms
from activsparse.train.plan.sensitivity import Sensitivity
from activsparse.train.sparsify.layers import find_layers
from activsparse.train.speedup import sparsities_for_speedup

SPARSITIES = (0.25, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_least_loss_within_the_time(seed):
    rng = np.random.default_rng(seed)
    layers = find_layers(make_net(), example())
    measured = layers[1:6]
    found = [
        Sensitivity(layer.name, s, s, 1.0, float(rng.uniform(0, 1) * s), None)
        for layer in measured
        for s in SPARSITIES
    ]
    loss = {(row.layer, row.achieved): row.loss_increase for row in found}
    whole = sum(dense_ms(layer.shape) for layer in layers)

    def ms(layer, s):
        return layer_ms(layer.shape, "lattice", s) if s else dense_ms(layer.shape)

    rest = whole - sum(dense_ms(layer.shape) for layer in measured)
    tried = [
        (
            rest + sum(ms(layer, s) for layer, s in zip(measured, each, strict=True)),
            sum(loss.get((layer.name, s), 0.0) for layer, s in zip(measured, each, strict=True)),
        )
        for each in itertools.product((0.0, *SPARSITIES), repeat=len(measured))
    ]
    fastest = whole / min(time for time, _ in tried)
    target = 1 + (fastest - 1) * 0.7
    chosen = sparsities_for_speedup(layers, found, target, "lattice")
    got = sum(loss.get((name, s), 0.0) for name, s in chosen.items())
    spent = rest + sum(ms(layer, chosen[layer.name]) for layer in measured)
    assert spent <= whole / target * (1 + 1e-9), seed
    assert got == pytest.approx(min(lost for time, lost in tried if time <= whole / target)), seed
    with pytest.raises(ActivsparseError, match=r"reach an estimated .* at most"):
        sparsities_for_speedup(layers, found, fastest * 1.1, "lattice")
    with pytest.raises(ActivsparseError, match="must be above 1"):
        sparsities_for_speedup(layers, found, 1.0)
