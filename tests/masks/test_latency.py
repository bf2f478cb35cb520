import json
from importlib import resources

import numpy as np
import pytest

from activsparse.masks import ConvShape, lattice, tiles
from activsparse.masks.latency import dense_ms, layer_cost, layer_ms, mask_ms
from activsparse.masks.tiles import Kept
from activsparse.masks.time_table import DEFAULT


def conv(size=28, kernel=3, stride=1, group=1, channels=64):
    pair = (kernel, kernel), (stride, stride)
    return ConvShape(*pair, group, channels, channels, (size, size))


def table():
    text = (
        resources.files("activsparse.masks").joinpath(f"tables/{DEFAULT}.json").read_text("utf-8")
    )
    return json.loads(text)


def test_the_table_names_its_machine_and_has_sane_times():
    data = table()
    assert data["machine"]
    assert data["isa"]
    assert len(data["layers"]) > 50
    times = [ms for row in data["layers"] for t in row["times"].values() for _, ms in t]
    assert min(times) > 0


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [7, 14, 61, 224])
def test_skipping_more_never_costs_more(kernel, size):
    cost = layer_cost(conv(size, kernel, channels=48))
    times = [cost.ms(kept) for kept in np.linspace(1, 0.1, 10)]
    assert (np.diff(times) <= 1e-12).all()
    assert min(times) > 0


def test_tiles_save_winograd_products():
    cost = layer_cost(conv(14, channels=256))
    assert cost.ms(12 / 14, Kept(12, 14, 4)) < cost.ms(1.0)


def test_unknown_layers_scale_with_their_work():
    small, large = layer_cost(conv(30, 1, channels=100)), layer_cost(conv(60, 1, channels=100))
    assert 2 < large.ms(1.0) / small.ms(1.0) < 8
    assert not any(name.startswith("winograd") for name in layer_cost(conv(stride=3)).lines)
    assert "depthwise" in layer_cost(conv(group=64)).lines


@pytest.mark.parametrize("size", [7, 14, 28, 56])
@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles", "auto"])
def test_a_layer_under_a_pattern(size, pattern):
    layer = conv(size, channels=64 * 56 // size)
    dense = dense_ms(layer)
    times = [layer_ms(layer, pattern, sparsity) for sparsity in (0.0, 0.15, 0.3, 0.5)]
    assert times[0] <= dense
    assert max(times) <= dense + 1e-9
    for sparsity, ms in zip((0.0, 0.15, 0.3, 0.5), times, strict=True):
        with_zeros = [layer_ms(layer, pattern, sparsity, zeros) for zeros in (0.0, 0.3, 0.6)]
        assert with_zeros[0] == ms
        assert (np.diff(with_zeros) <= 1e-12).all()


def test_masks_are_seen_for_what_they_are():
    layer = conv(28, channels=128)
    gapped, scattered = tiles((28, 28), 0.3), lattice((28, 28), 0.3)
    assert mask_ms(layer, gapped) == layer_ms(layer, "tiles", 0.3) < mask_ms(layer, scattered)
    # Runs of two between gaps hold no tile of four.
    short = np.ones((28, 28), bool)
    short[::3] = False
    assert mask_ms(layer, short) == layer_cost(layer).ms(short.mean(), Kept(18, 28, 2))
    assert mask_ms(layer, short) > layer_cost(layer).ms(short.mean(), Kept(18, 28, 4))
