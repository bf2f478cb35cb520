"""Small networks with odd shapes for the tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, groups=groups)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.short = nn.Conv2d(channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.short(x))


class Net(nn.Module):
    """Stem, two residual blocks (strides 1 and 2, groups 1 and 2), a convolution without norm."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, (3, 5), 2, (1, 2))
        self.blocks = nn.Sequential(Block(4, 8, 1), Block(8, 8, 2, groups=2))
        self.last = nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.last(self.blocks(torch.relu(self.stem(x)))))
        return self.head(y.mean((2, 3)))


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def example(batch: int = 2, size: tuple[int, int] = (37, 29), seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: object, first: int, last: int
) -> None:
    """Steps `first` to `last` - 1 on batches that depend on the step alone."""
    model.train()
    for step in range(first, last):
        x = example(4, seed=100 + step)
        target = torch.arange(4) % 5
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step(loss)  # type: ignore[attr-defined]
