"""Speed of every convolution algorithm on the layer shapes of known networks, against the FMA peak.

Each algorithm's result is first compared with torch in double precision; one that disagrees is not
timed. Times are medians of runs on data in cache (`--evict-mib` reads other memory in between). The
share of peak counts the dense layer's multiply-adds, whatever an algorithm really does, so Winograd
and masks may exceed 100 %. With sparsity 0 and others, a table of break-even sparsities follows:
the lowest measured one at which an algorithm beats the layer's fastest dense algorithm.

    taskset -c 1 python benchmarks/kernels.py --model resnet18 --sparsity 0 0.3
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from activsparse import _native
from activsparse.masks import make_mask


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
    "stems": [Layer(224, 3, 64, 7, 2), Layer(224, 3, 32, 3, 2)],
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


class Problem:
    """One layer with random data and an optional mask: its spec, buffers and the right answer."""

    def __init__(
        self, layer: Layer, pattern: str, sparsity: float, input_masked: bool = False
    ) -> None:
        rng = np.random.default_rng(0)
        size, pad = layer.output_size, layer.kernel // 2
        x = rng.standard_normal((1, layer.inputs, layer.size, layer.size)).astype(np.float32)
        weight = rng.standard_normal(
            (layer.outputs, layer.inputs // layer.group, layer.kernel, layer.kernel)
        ).astype(np.float32)
        bias = rng.standard_normal(layer.outputs).astype(np.float32)
        mask = np.ones((size, size), bool)
        if sparsity > 0:
            score = rng.random((size, size), np.float32)
            mask = make_mask(pattern, (size, size), sparsity, score=score)
        input_masked = input_masked and sparsity > 0 and layer.size == size
        if input_masked:
            x *= mask
        residual = rng.standard_normal((1, layer.outputs, size, size)).astype(np.float32)

        def laid_out(values: np.ndarray) -> tuple[_native.TensorDesc, np.ndarray]:
            n, c, h, w = values.shape
            stride = -(-c // 16) * 16
            buffer = np.zeros((n, h, w, stride), np.float32)
            buffer[..., :c] = values.transpose(0, 2, 3, 1)
            return _native.TensorDesc(n, h, w, c, stride, padded=True), buffer

        if layer.inputs <= 4:
            desc = _native.TensorDesc(1, layer.size, layer.size, layer.inputs, 1, nchw=True)
            inputs = [(desc, x)]
        else:
            inputs = [laid_out(x)]
        if layer.residual:
            inputs.append(laid_out(residual))
        self.output_desc, self.output = laid_out(np.zeros_like(residual))
        self.input_descs = [desc for desc, _ in inputs]
        self.inputs = [buffer for _, buffer in inputs]
        attributes = {
            "stride_h": layer.stride,
            "stride_w": layer.stride,
            "group": layer.group,
            "activation": "relu",
            **dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), pad),
        }
        arrays = {"weight": weight, "bias": bias}
        if sparsity > 0:
            arrays["mask"] = mask.astype(np.uint8)
        if input_masked:
            arrays["input_mask"] = mask.astype(np.uint8)
        self.spec = _native.Spec("conv", attributes, arrays, self.input_descs, [self.output_desc])

        def exact(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> torch.Tensor:
            x, w, b = (torch.from_numpy(a).double() for a in (x, w, b))
            y = torch.nn.functional.conv2d(x, w, b, layer.stride, pad, groups=layer.group)
            return y * torch.from_numpy(mask)

        y = exact(x, weight, bias).numpy() + (residual if layer.residual else 0)
        self.expected = np.maximum(y, 0)
        terms = weight[0].size + 2
        magnitude = exact(np.abs(x), np.abs(weight), np.abs(bias)).numpy() + np.abs(residual)
        self.tolerance = 6 * np.sqrt(terms) * np.finfo(np.float32).eps * (magnitude + 1)

    def check(self, packed: _native.PackedOperator, factor: float) -> None:
        """Raise unless the operator computes this layer."""
        _native.run_operator(packed, self.inputs, [self.output])
        actual = self.output[..., : self.expected.shape[1]].transpose(0, 3, 1, 2)
        excess = float((np.abs(actual - self.expected) / self.tolerance).max())
        if excess > factor:
            raise SystemExit(f"{packed.algorithm} is wrong: {excess:.1f} times the tolerance")


Times = dict[str, dict[float, float]]
"""Median ms by algorithm and sparsity."""


def break_even(times: dict[str, Times]) -> Table:
    """The lowest measured sparsity at which each algorithm beats the layer's best dense time.

    Args:
        times: per layer name; dense times are those at sparsity 0.
    """
    algorithms = list(dict.fromkeys(name for by_name in times.values() for name in by_name))
    table = Table("layer", "best dense", "ms", *algorithms, title="break-even sparsity")
    for layer, by_name in times.items():
        dense = {name: ms[0.0] for name, ms in by_name.items() if 0.0 in ms}
        fastest = min(dense, key=lambda name: dense[name])
        cells = []
        for name in algorithms:
            better = [s for s, ms in by_name.get(name, {}).items() if s and ms < dense[fastest]]
            cells.append(f"{min(better):.2f}" if better else "-")
        table.add_row(layer, fastest, f"{dense[fastest]:.3f}", *cells)
    return table


def main() -> None:
    """Measure and print one table per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--algorithm", nargs="+", help="default: all that can run the layer")
    parser.add_argument("--isa", default=_native.available_isas()[-1])
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.0])
    parser.add_argument("--pattern", default="random", choices=("random", "lattice", "tiles"))
    parser.add_argument(
        "--input-mask", action="store_true", help="the input has the same mask, where sizes agree"
    )
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evict-mib", type=int, default=0)
    args = parser.parse_args()

    console = Console()
    peak = max(_native.fma_peak(args.isa) for _ in range(5)) * args.threads
    console.print(f"{args.isa}: {peak:.1f} GFLOP/s measured FMA peak, {args.threads} threads")
    for model in args.model:
        measured: dict[str, Times] = {}
        for sparsity in args.sparsity:
            table = Table(title=f"{model}, sparsity {sparsity} ({args.pattern})")
            for column in (
                "layer",
                "times",
                "algorithm",
                "kernel",
                "ms",
                "least",
                "GFLOP/s",
                "peak",
            ):
                table.add_column(column, justify="right" if column in ("ms", "peak") else "left")
            best_total = 0.0
            for layer in MODELS[model]:
                problem = Problem(layer, args.pattern, sparsity, args.input_mask)
                best = np.inf
                for algorithm, reason in problem.spec.algorithms(args.isa):
                    wanted = args.algorithm is None or algorithm in args.algorithm
                    if reason or not wanted or algorithm == "reference":
                        continue
                    packed = _native.pack(problem.spec, algorithm, args.isa)
                    # Winograd's transforms amplify rounding; its own tests hold its bounds.
                    problem.check(packed, 30 if "winograd" in algorithm else 1)
                    times = _native.time_operator(
                        packed, args.repeat, args.threads, args.evict_mib << 20
                    )
                    ms = float(np.median(times))
                    least = float(np.min(times))
                    by_name = measured.setdefault(layer.name, {})
                    by_name.setdefault(algorithm, {})[sparsity] = ms
                    rate = 2e-6 * layer.macs / ms
                    row = (f"{ms:.3f}", f"{least:.3f}", f"{rate:.1f}", f"{rate / peak:.0%}")
                    table.add_row(layer.name, str(layer.count), algorithm, packed.kernel, *row)
                    best = min(best, ms)
                best_total += best * layer.count
            console.print(table, f"best of each, times occurrences: {best_total:.2f} ms")
        if 0.0 in args.sparsity and len(args.sparsity) > 1:
            console.print(break_even(measured))


if __name__ == "__main__":
    main()
