"""Both ways of filling skipped positions, against plain operators and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import example, make_net

from activsparse.masks import nearest_source
from activsparse.train import Sparsifier
from activsparse.train.sparsify.fill import fill_nearest, fill_zero

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _case(seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, c, h, w = (int(v) for v in rng.integers(1, 9, 4))
    mask = rng.random((h, w)) < rng.uniform(0.2, 1)
    mask[rng.integers(h), rng.integers(w)] = True
    maps = torch.from_numpy(rng.standard_normal((n, c, h, w)))
    return maps, torch.from_numpy(rng.standard_normal((n, c, h, w))), mask


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_equal_those_of_plain_operators(seed, layout):
    maps, gradient, mask = _case(seed)
    print(f"seed {seed}, maps {tuple(maps.shape)}")
    source = torch.from_numpy(nearest_source(mask).astype(np.int64))
    plain = torch.from_numpy(mask.astype(np.float64))[None, None]

    for way, index, keep in (
        (lambda x: fill_nearest(x, source), source, None),
        (lambda x: fill_zero(x, plain.float()), None, plain),
    ):
        x = maps.clone().to(memory_format=layout).requires_grad_()
        y = way(x)
        y.backward(gradient.to(memory_format=layout))
        if index is not None:
            value = maps.flatten(2)[:, :, index].reshape(maps.shape)
            slope = torch.zeros_like(maps).flatten(2)
            for at, to in enumerate(index.tolist()):
                slope[:, :, to] += gradient.flatten(2)[:, :, at]
            slope = slope.reshape(maps.shape)
        else:
            value, slope = maps * keep, gradient * keep
        torch.testing.assert_close(y, value, rtol=0, atol=0)
        # A position is given to at most h w others: sums of so many doubles.
        torch.testing.assert_close(x.grad, slope, rtol=0, atol=mask.size * 8 * 2.3e-16)
        with torch.no_grad():
            torch.testing.assert_close(way(maps), value, rtol=0, atol=0)


def test_auto_gives_zero_where_a_shortcut_fills_the_hole():
    net = make_net()
    Sparsifier(net, example(), 0.3, pattern="lattice", fill="auto")
    sources = {
        n.removesuffix(".activation_source") for n, _ in net.named_buffers() if "source" in n
    }
    assert sources == {"blocks.0.bn1", "blocks.1.bn1", "last"}
