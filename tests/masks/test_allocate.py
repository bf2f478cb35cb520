import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.masks import ConvShape, allocate, lattice, random_score, sparsity_of
from activsparse.masks.allocate import MEAN_TOLERANCE


def conv(size, stride=1, channels=64, kernel=3):
    pair = (kernel, kernel), (stride, stride)
    return ConvShape(*pair, 1, channels, channels, (size, size))


RESNET18 = [
    layer
    for size, first in ((56, 1), (28, 2), (14, 2), (7, 2))
    for layer in [conv(size, first), *[conv(size)] * 3]
]


def mean(masks):
    return np.mean([sparsity_of(mask) for mask in masks])


@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles", "auto"])
@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7])
@pytest.mark.parametrize("block", [1, 4])
def test_resnet18_mean_is_near_the_request(pattern, sparsity, block):
    score = random_score((224, 224), np.random.default_rng(0))
    masks = allocate(RESNET18, sparsity, pattern, score=score, block=block)
    assert [mask.shape for mask in masks] == [layer.output for layer in RESNET18]
    assert mean(masks) == pytest.approx(sparsity, abs=0.015)


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
    with pytest.raises(ActivsparseError, match=r"layer number 1: .* keeps none of 3x3"):
        allocate([conv(7), conv(3)], 0.7, "random", score=score, block=4)


def test_no_layers_no_masks():
    assert allocate([], 0.3) == []
