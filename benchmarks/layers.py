"""The shapes of the convolutions of known networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution of a square map: input size, channels, kernel, stride, groups, occurrences."""

    size: int
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    group: int = 1
    count: int = 1
    residual: bool = False

    @property
    def output_size(self) -> int:
        return (self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def macs(self) -> float:
        return self.output_size**2 * self.kernel**2 * self.inputs / self.group * self.outputs

    @property
    def name(self) -> str:
        kind = "dw" if self.group > 1 else ""
        channels = f"{self.inputs}->{self.outputs}"
        return f"{self.size}x{self.size} {channels} k{self.kernel} s{self.stride} {kind}"


def bottleneck(size: int, inputs: int, width: int, count: int, stride: int = 1) -> list[Layer]:
    """The layers of one stage of ResNet50."""
    small = size // stride
    return [
        Layer(size, inputs, width, 1),
        Layer(size, width, width, 3, stride),
        Layer(size, inputs, 4 * width, 1, stride),
        Layer(small, width, 4 * width, 1, count=count, residual=True),
        Layer(small, 4 * width, width, 1, count=count - 1),
        Layer(small, width, width, 3, count=count - 1),
    ]


def inverted(size: int, inputs: int, outputs: int, stride: int, count: int) -> list[Layer]:
    """The layers of one group of inverted residual blocks of MobileNetV2, expansion 6."""
    small = size // stride
    wide, again = 6 * inputs, 6 * outputs
    layers = [
        Layer(size, inputs, wide, 1),
        Layer(size, wide, wide, 3, stride, wide),
        Layer(small, wide, outputs, 1),
    ]
    if count > 1:
        layers += [
            Layer(small, outputs, again, 1, count=count - 1),
            Layer(small, again, again, 3, 1, again, count=count - 1),
            Layer(small, again, outputs, 1, count=count - 1, residual=True),
        ]
    return layers


MODELS = {
    "stems": [
        Layer(224, 3, 64, 7, 2),
        Layer(224, 3, 32, 3, 2),
        Layer(320, 3, 16, 6, 2),
        Layer(224, 3, 64, 11, 4),
    ],
    "resnet18": [
        Layer(56, 64, 64, count=4),
        Layer(56, 64, 128, 3, 2),
        Layer(56, 64, 128, 1, 2),
        Layer(28, 128, 128, count=3),
        Layer(28, 128, 256, 3, 2),
        Layer(28, 128, 256, 1, 2),
        Layer(14, 256, 256, count=3),
        Layer(14, 256, 512, 3, 2),
        Layer(14, 256, 512, 1, 2),
        Layer(7, 512, 512, count=3),
    ],
    "resnet50": [
        *bottleneck(56, 64, 64, 3),
        *bottleneck(56, 256, 128, 4, 2),
        *bottleneck(28, 512, 256, 6, 2),
        *bottleneck(14, 1024, 512, 3, 2),
    ],
    "vgg16": [
        Layer(224, 64, 64),
        Layer(112, 64, 128),
        Layer(112, 128, 128),
        Layer(56, 128, 256),
        Layer(56, 256, 256, count=2),
        Layer(28, 256, 512),
        Layer(28, 512, 512, count=2),
        Layer(14, 512, 512, count=3),
    ],
    "mobilenet_v2": [
        Layer(112, 32, 32, 3, 1, 32),
        Layer(112, 32, 16, 1),
        *inverted(112, 16, 24, 2, 2),
        *inverted(56, 24, 32, 2, 3),
        *inverted(28, 32, 64, 2, 4),
        *inverted(14, 64, 96, 1, 3),
        *inverted(14, 96, 160, 2, 3),
        *inverted(7, 160, 320, 1, 1),
        Layer(7, 320, 1280, 1),
    ],
}
