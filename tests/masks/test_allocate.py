import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.masks import ConvShape, allocate, lattice, layouts, random_score, sparsity_of
from activsparse.masks.allocate import LAYER_BOUNDS, MEAN_TOLERANCE
from activsparse.masks.latency import mask_ms, winograd_macs
from activsparse.masks.tiles import run_for


def conv(size, stride=1, channels=64, kernel=3):
    pair = (kernel, kernel), (stride, stride)
    return ConvShape(*pair, 1, channels, channels, (size, size))


def bottleneck(size, width, count, stride):
    first = [conv(size * stride, 1, width, 1), conv(size, stride, width), conv(size, 1, width, 1)]
    return first + [conv(size, 1, width, kernel) for _ in range(count - 1) for kernel in (1, 3, 1)]


def inverted(size, width, count, stride):
    pairs = [(size * stride if i == 0 else size, stride if i == 0 else 1) for i in range(count)]
    return [
        layer
        for before, step in pairs
        for layer in (
            conv(before, 1, width, 1),
            ConvShape((3, 3), (step, step), 6 * width, 6 * width, 6 * width, (size, size)),
            conv(size, 1, width, 1),
        )
    ]


STAGES = ((56, 64), (28, 128), (14, 256), (7, 512))
RESNET18 = [
    layer
    for size, channels in STAGES
    for layer in [conv(size, 1 + (size < 56), channels), *[conv(size, 1, channels)] * 3]
]
NETWORKS = {
    "resnet18": RESNET18,
    "resnet50": [
        layer
        for (size, width), count in zip(STAGES, (3, 4, 6, 3), strict=True)
        for layer in bottleneck(size, width, count, 1 + (size < 56))
    ],
    "vgg16": [
        conv(size, 1, channels)
        for size, channels, count in (
            (224, 64, 1), (112, 128, 2), (56, 256, 3), (28, 512, 3), (14, 512, 3)
        )
        for _ in range(count)
    ],
    "mobilenet_v2": [
        layer
        for size, width, count, stride in (
            (56, 24, 2, 2), (28, 32, 3, 2), (14, 64, 4, 2), (14, 96, 3, 1), (7, 160, 4, 2)
        )
        for layer in inverted(size, width, count, stride)
    ],
}  # fmt: skip


def mean(masks):
    return np.mean([sparsity_of(mask) for mask in masks])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles", "auto", "auto after another"])
def test_networks_come_near_the_request(network, pattern):
    layers = NETWORKS[network]
    score = random_score((224, 224), np.random.default_rng(0))
    pattern, *chained = pattern.split(maxsplit=1)
    # As if each layer read what the one before it left.
    inputs = [None, *range(len(layers) - 1)] if chained else None
    for sparsity in (0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7):
        masks = allocate(layers, sparsity, pattern, score=score, inputs=inputs)
        assert [mask.shape for mask in masks] == [layer.output for layer in layers]
        tolerance = MEAN_TOLERANCE if pattern == "auto" else 0.012
        assert mean(masks) == pytest.approx(sparsity, abs=tolerance), sparsity
        below, above = LAYER_BOUNDS.get(pattern, (0.5 / 49, 0.5 / 49))
        for layer, mask in zip(layers, masks, strict=True):
            miss = sparsity_of(mask) - sparsity
            assert -below - 1e-9 <= miss <= above + 1e-9, (layer, sparsity)


def test_blocks_even_out_their_misses():
    score = random_score((224, 224), np.random.default_rng(0))
    for sparsity in (0.05, 0.1, 0.3, 0.5, 0.7):
        masks = allocate(RESNET18, sparsity, "random", score=score, block=4)
        assert mean(masks) == pytest.approx(sparsity, abs=0.015)


def test_a_tenth_saves_products_on_every_resnet():
    """Dense and masked products of the layers Winograd runs."""
    layers = [layer for layer in RESNET18 if layer.winograd]
    for pattern in ("tiles", "auto"):
        masks = allocate(RESNET18, 0.1, pattern)
        kept = [m for layer, m in zip(RESNET18, masks, strict=True) if layer.winograd]

        def work(layer, mask):
            rows, columns = int(mask.any(axis=1).sum()), int(mask.any(axis=0).sum())
            return winograd_macs(layer, rows, columns, run_for(layer.output))

        dense = sum(work(layer, np.ones(layer.output, bool)) for layer in layers)
        masked = sum(work(layer, mask) for layer, mask in zip(layers, kept, strict=True))
        assert masked < 0.95 * dense


@settings(deadline=None)
@given(
    st.lists(st.integers(7, 60), min_size=1, max_size=12),
    st.floats(0, 0.9),
    st.sampled_from(["lattice", "tiles", "auto"]),
)
def test_mean_is_near_the_request(sizes, sparsity, pattern):
    layers = [conv(size) for size in sizes]
    # A single layer cannot make up for its own step, see the bounds of `tiles` and `lattice`.
    step = 1 / (2 * min(sizes)) if len(sizes) == 1 else 0
    assert mean(allocate(layers, sparsity, pattern)) == pytest.approx(
        sparsity, abs=max(MEAN_TOLERANCE, step) + 0.0025
    )


def test_random_rounds_each_layer_by_itself():
    score = random_score((224, 224), np.random.default_rng(1))
    for layer, mask in zip(RESNET18, allocate(RESNET18, 0.3, "random", score=score), strict=True):
        positions = layer.output[0] * layer.output[1]
        assert np.count_nonzero(~mask) == round(0.3 * positions)


def test_lattices_are_shared_and_follow_the_phases():
    phases = [0, 0, 1, 1]
    masks = allocate([conv(28)] * 4, 1 / 3, "lattice", phases=phases)
    for mask, phase in zip(masks, phases, strict=True):
        np.testing.assert_array_equal(mask, lattice((28, 28), 1 / 3, phase))


def test_per_layer_sparsities():
    masks = allocate([conv(28), conv(28), conv(28)], [0.5, 0.0, 0.25], "lattice")
    assert [sparsity_of(mask) for mask in masks] == [0.5, 0.0, 0.25]
    with pytest.raises(ActivsparseError, match="one of each per layer"):
        allocate([conv(28)], [0.1, 0.2])
    with pytest.raises(ActivsparseError, match="outside"):
        allocate([conv(28)], 1.0)


def test_no_layer_is_emptied_to_make_up_for_others():
    score = random_score((56, 56), np.random.default_rng(2))
    masks = allocate([conv(7)] * 24, 0.7, "random", score=score, block=4)
    assert all(mask.any() for mask in masks)
    with pytest.raises(ActivsparseError, match=r"keeps no position of: number 1 \(3x3\)"):
        allocate([conv(7), conv(3)], 0.7, "random", score=score, block=4)


@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles", "auto"])
def test_layers_without_positions_are_named_under_every_pattern(pattern):
    score = random_score((56, 56), np.random.default_rng(2))
    message = r"sparsity 0.99 keeps no position of: b \(7x7\), c \(7x7\); lower it"
    with pytest.raises(ActivsparseError, match=message):
        allocate([conv(28), conv(7), conv(7)], 0.99, pattern, score=score, names=["a", "b", "c"])


@pytest.mark.parametrize(("pattern", "named"), [("lattice", "a .28x28., b"), ("auto", "b")])
def test_layers_that_get_too_sparse_a_lattice_are_named(pattern, named):
    """Under `auto` that is a 1x1 convolution, which gets no tiles."""
    layers = [conv(28), conv(28, kernel=1), conv(28)]
    message = (
        rf"pattern {pattern} cannot skip sparsity 0.97, .* of: {named} \(28x28\).*; "
        "choose at most 0.96875, or pattern random or tiles"
    )
    with pytest.raises(ActivsparseError, match=message):
        allocate(layers, [0.97, 0.97, 0.3], pattern, names=["a", "b", "c"])
    allocate(layers, 0.97, "tiles")


@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles", "auto"])
def test_a_layer_whose_mask_keeps_everything_is_called_dense(pattern):
    score = random_score((56, 56), np.random.default_rng(2))
    dense, masked = layouts([conv(28), conv(28)], [0.0, 0.3], pattern, score=score)
    assert (dense.pattern, dense.mask.all()) == ("dense", True)
    assert masked.pattern in ({"lattice", "tiles"} if pattern == "auto" else {pattern})


@pytest.mark.parametrize("sparsity", [0.05, 0.1, 0.3, 0.5])
def test_a_mask_at_the_input_is_made_use_of(sparsity):
    """Estimated with it, a network chosen for it is at least as fast as one that is not."""
    inputs = [None, None, 1, *(i - 1 if i % 2 else None for i in range(3, len(RESNET18)))]

    def ms(found):
        return sum(
            mask_ms(layer, mask, 0.0 if before is None else sparsity_of(found[before]))
            for layer, mask, before in zip(RESNET18, found, inputs, strict=True)
        )

    aware = allocate(RESNET18, sparsity, "auto", inputs=inputs)
    assert mean(aware) == pytest.approx(sparsity, abs=MEAN_TOLERANCE)
    # Costs are reckoned for a few input sparsities, and evenness costs something too.
    assert ms(aware) <= 1.01 * ms(allocate(RESNET18, sparsity, "auto"))


def test_no_layers_no_masks():
    assert allocate([], 0.3) == []


@pytest.mark.parametrize("sparsity", [0.2, 0.3, 0.4])
def test_auto_gives_no_layer_much_more_than_asked(sparsity):
    """Also where one layer's time is nearly all there is to save."""
    layers = [conv(56, channels=256), *[conv(14, channels=16)] * 6]
    found = [sparsity_of(mask) for mask in allocate(layers, sparsity, "auto")]
    assert max(found) <= sparsity + 0.2 + 0.02


def test_a_layer_with_a_sparsity_of_its_own_keeps_it():
    layers = [conv(14, channels=16), *[conv(56, channels=256)] * 3]
    for pattern in ("auto", "tiles"):
        masks = allocate(layers, [0.5, 0.3, 0.3, 0.3], pattern, exact=[True, False, False, False])
        assert sparsity_of(masks[0]) == pytest.approx(0.5, abs=0.09)
