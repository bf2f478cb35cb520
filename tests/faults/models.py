"""A network of a few layers for the commands to work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from graphs import Builder


def network(path: Path, layers: int = 4, channels: int = 64, size: int = 24) -> Path:
    """Convolutions with norms, so that masks can be put in."""
    b = Builder(0)
    x = b.input(1, 3, size, size)
    for _ in range(layers):
        x = b.node("Relu", b.norm(b.conv(x, channels)))
    n, c, *_ = b.shapes[x]
    x = b.gemm(b.flatten(b.node("GlobalAveragePool", x, shape=(n, c, 1, 1))), 10)
    b.save(path, x)
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(path)), path)
    return path


def image(path: Path, size: int = 24) -> Path:
    """An input for it."""
    np.save(path, np.random.default_rng(0).standard_normal((1, 3, size, size), np.float32))
    return path
