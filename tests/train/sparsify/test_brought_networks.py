"""Networks as users bring them: masked, trained for a step, exported, run by the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import activsparse
from activsparse import ActivsparseError


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(
        inputs, outputs, kernel, padding=options.pop("padding", kernel // 2), **options
    )


def plain(inputs=3):
    return nn.Sequential(
        *(conv(inputs, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU()),
        *(conv(8, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


class Net(nn.Module):
    """Three convolutions, run as `forward` says."""

    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(8, 8)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs):
        return self.run(self, *inputs)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


def image(n=2, c=3, h=24, w=32):
    return torch.randn(n, c, h, w)


def body(net, x):
    return functional.relu(net.b(functional.relu(net.a(x))))


def with_layer(change):
    net = plain()
    net[3] = change(net[3])
    return net


NETWORKS = {
    "two images": lambda: (
        Net(lambda net, x, y: net.c(functional.relu(net.b(net.a(x) + net.a(y)))).mean((2, 3))),
        (image(), image()),
    ),
    "a vector before the image": lambda: (
        Net(lambda net, v, x: net.c(body(net, x)).mean((2, 3)) + net.d(v), d=nn.Linear(4, 8)),
        (torch.randn(2, 4), image()),
    ),
    "dict of results": lambda: (
        Net(lambda net, x: {"out": net.c(body(net, x)), "more": [body(net, x), x.mean()]}),
        image(),
    ),
    "auxiliary result in training": lambda: (
        Net(lambda net, x: (net.c(body(net, x)), body(net, x))[: 1 + net.training][-1]),
        image(),
    ),
    "run twice": lambda: (Net(lambda net, x: net.c(net.b(body(net, x)))), image()),
    "odd convolutions": lambda: (
        nn.Sequential(
            *(conv(3, 8), nn.ReLU(), conv(8, 16, dilation=2, padding=2, groups=4), nn.ReLU()),
            *(conv(16, 16, stride=(2, 1)), nn.ReLU(), nn.ConvTranspose2d(16, 8, 4, 2, 1)),
            *(nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 3)),
        ),
        image(),
    ),
    "weights by a parametrisation": lambda: (
        with_layer(nn.utils.parametrizations.weight_norm),
        image(),
    ),
    "a convolution of one's own": lambda: (
        with_layer(lambda _: Standardised(8, 8, 3, padding=1)),
        image(),
    ),
    "a function of one's own": lambda: (
        Net(lambda net, x: net.c(Rectify.apply(net.b(Rectify.apply(net.a(x)))))),
        image(),
    ),
    "four channels": lambda: (plain(4), image(c=4, h=33, w=17)),
    "channels last": lambda: (plain().to(memory_format=torch.channels_last), image()),
}


def size(results):
    if torch.is_tensor(results):
        return results.pow(2).mean()
    return sum(map(size, results.values() if isinstance(results, dict) else results))


@pytest.mark.parametrize("name", NETWORKS)
def test_from_masks_to_the_engine(tmp_path, name):
    torch.manual_seed(len(name))
    network, example = NETWORKS[name]()
    inputs = example if isinstance(example, tuple) else (example,)
    sparsifier = activsparse.sparsify(network, example, 0.3, pattern="tiles", total_steps=2)
    assert sparsifier.image_size == tuple(next(x for x in inputs if x.dim() == 4).shape[2:])
    optimizer = torch.optim.SGD(network.parameters(), 1e-3)
    for _ in range(2):
        loss = size(network.train()(*inputs))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sparsifier.step(loss)
    path = tmp_path / "m.onnx"
    masks = activsparse.export(network, example, path).masks
    assert masks, name
    # A layer that runs twice is two nodes, of which the second bears a name of its own.
    assert {layer.name for layer in sparsifier.layers} <= set(masks)
    session = activsparse.Session(path, tune=False)
    feed = {value: x.numpy() for (value, _), x in zip(session.inputs, inputs, strict=True)}
    got = session.run(feed)
    with torch.no_grad():
        want = [x.numpy() for x in torch.utils._pytree.tree_leaves(network.eval()(*inputs))]
    for ours, theirs in zip(got if isinstance(got, list) else [got], want, strict=True):
        bound = 1e-4 * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=bound, err_msg=name)


def on_meta():
    with torch.device("meta"):
        return plain()


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda: torch.jit.script(plain()), "compiled by torch.jit.*give the nn.Module"),
        (lambda: nn.Sequential(plain(), torch.jit.script(nn.ReLU())), "compiled by torch.jit"),
        (on_meta, "'0.weight' is on the meta device.*load weights"),
        (lambda: nn.Sequential(nn.LazyConv2d(8, 3), conv(8, 8)), "'0.weight' has no size.*run the"),
        (
            lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 8, 3)),
            "no Conv2d layer.*of one or three axes none",
        ),
    ],
)
def test_what_cannot_be_masked_says_why(network, text):
    with pytest.raises(ActivsparseError, match=text):
        activsparse.sparsify(network(), image(), 0.3)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        ({"x": image()}, "is a dict, not a tensor.*takes a tuple"),
        ((3, "x"), "tuple without a tensor"),
        ((torch.ones(3),), "does not run|holds no image"),
    ],
)
def test_examples_that_are_none(example, text):
    with pytest.raises(ActivsparseError, match=text):
        activsparse.sparsify(plain(), example, 0.3)


def test_a_speedup_is_measured_with_one_input():
    with pytest.raises(ActivsparseError, match="is a tuple, not a tensor"):
        activsparse.sparsify(plain(), (image(), image()), target_speedup=1.2, batches=[])
