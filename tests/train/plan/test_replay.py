"""Passes that share their beginning: the same numbers, and less that is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from activsparse.train.plan.replay import Replay

FACTORS = (1.0, 0.5, -2.0)


class Block(nn.Module):
    """A residual block with all that makes remembering hard.

    Work in place, an activation called twice, a module that returns what it is given, one that
    returns several tensors.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.same = nn.Identity()
        self.act = nn.ReLU(inplace=True)
        self.pair = Pair()

    def forward(self, x):
        y = self.act(self.norm(self.conv1(x)))
        y, mean = self.pair(self.conv2(self.same(y)))
        y += self.same(x)
        y *= 1 + mean
        return self.act(y)


class Pair(nn.Module):
    def forward(self, x):
        return x.clone(), x.mean()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.blocks = nn.ModuleList(Block(8) for _ in range(3))
        self.shared = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = functional.relu_(self.stem(x))
        for block in self.blocks:
            x = self.shared(block(x)).mul_(0.5)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("seed", range(4))
def test_what_follows_a_layer_is_the_same_as_in_a_whole_pass(seed):
    torch.manual_seed(seed)
    net = Net()
    images = [torch.randn(4, 3, 15, 17) for _ in range(2)]
    replay = Replay(net)
    factor = [1.0]
    for name, layer in net.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        handle = layer.register_forward_hook(lambda _, args, out: out * factor[0])
        for x in images:
            with replay.before(name, x):
                shared = [_scaled(net, x, factor, by) for by in FACTORS]
            whole = [_scaled(net, x, factor, by) for by in FACTORS]
            assert all(map(torch.equal, shared, whole)), (seed, name)
            assert not torch.equal(*whole[:2])
        handle.remove()


def _scaled(net, x, factor, by):
    factor[0] = by
    return net(x)


def test_what_comes_before_is_run_once():
    net, x = Net(), torch.randn(2, 3, 9, 9)
    replay = Replay(net)
    net(x)
    calls: list[str] = []
    for name in ("stem", "blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "head"):
        net.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    replay._runs = {}
    with replay.before("blocks.1.conv2", x):
        calls.clear()
        for _ in range(3):
            net(x)
    # Its own hooks see the stem's calls; what is inside a whole block is not called again.
    assert calls.count("blocks.0.conv1") == 1
    assert calls.count("blocks.2.conv1") == 3
    assert calls.count("head") == 3
    assert all("forward" not in vars(module) for module in net.modules())
    net(x)
    assert calls.count("blocks.0.conv1") == 2


def test_a_forward_of_ones_own_comes_back():
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    own = net[0].forward
    net[0].forward = lambda x: own(x) + 1
    patched = net[0].forward
    x = torch.randn(1, 1, 2, 2)
    wanted = net(x)
    with Replay(net).before("1", x):
        assert torch.equal(net(x), wanted)
        assert torch.equal(net(x), wanted)
    assert net[0].forward is patched
