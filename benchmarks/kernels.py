"""Speed of every convolution algorithm on the layer shapes of known networks, against the FMA peak.

Each algorithm's result is first compared with torch in double precision; one that disagrees is not
timed. Times are medians of runs on data in cache (`--evict-mib` reads other memory in between). The
share of peak counts the dense layer's multiply-adds, whatever an algorithm really does, so Winograd
and masks may exceed 100 %. With sparsity 0 and others, a table of break-even sparsities follows per
pattern: the lowest measured one at which an algorithm beats the layer's fastest dense algorithm.
`--assert PERCENT` fails where the algorithm that estimates choose (`tune=False`) is further behind
the fastest one, in two measurements, and says by how much.

    taskset -c 1 python benchmarks/kernels.py --model resnet18 --sparsity 0 0.3 --csv kernels.csv
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from layers import MODELS, Layer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from activsparse import _native
from activsparse.bench.machine import describe_machine, summary_line
from activsparse.engine.choose import Request, by_cost
from activsparse.engine.graph import Node
from activsparse.files import atomic_path
from activsparse.masks import make_mask, sparsity_of


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
        node = Node("conv", layer.name, ("x",), ("y",), attributes, arrays)
        self.request = Request(node, self.input_descs, [self.output_desc])
        self.spec = self.request.spec()

        def exact(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> torch.Tensor:
            x, w, b = (torch.from_numpy(a).double() for a in (x, w, b))
            y = torch.nn.functional.conv2d(x, w, b, layer.stride, pad, groups=layer.group)
            return y * torch.from_numpy(mask)

        y = exact(x, weight, bias).numpy() + (residual if layer.residual else 0)
        self.expected = np.maximum(y, 0)
        self.achieved = sparsity_of(mask)
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


@dataclass(frozen=True)
class Measurement:
    """One algorithm on one layer; a line of the CSV file."""

    machine: str
    isa: str
    threads: int
    model: str
    layer: str
    count: int  # how often the network has this layer
    pattern: str  # "dense" at sparsity 0
    requested: float
    achieved: float
    algorithm: str
    chosen: bool  # by estimates
    kernel: str
    median_ms: float
    least_ms: float
    gflops: float  # of the dense layer's multiply-adds, two operations each
    share_of_peak: float
    vs_best_dense: float | None  # times as fast as the layer's fastest dense algorithm


def measure(
    layer: Layer, model: str, pattern: str, sparsity: float, peak: float, args: argparse.Namespace
) -> list[Measurement]:
    """Check and time every algorithm that can run a layer; `peak` is in GFLOP/s."""
    problem = Problem(layer, pattern, sparsity, args.input_mask)
    chosen = by_cost(problem.request, args.isa).algorithm
    found = []
    for algorithm, reason in problem.spec.algorithms(args.isa):
        wanted = args.algorithm is None or algorithm in args.algorithm
        if reason or not wanted or algorithm == "reference":
            continue
        packed = _native.pack(problem.spec, algorithm, args.isa)
        # Winograd's transforms amplify rounding; its own tests hold its bounds.
        problem.check(packed, 30 if "winograd" in algorithm else 1)
        times = _native.time_operator(packed, args.repeat, args.threads, args.evict_mib << 20)
        ms = float(np.median(times))
        rate = 2e-6 * layer.macs / ms
        found.append(
            Measurement(
                machine=args.machine,
                isa=args.isa,
                threads=args.threads,
                model=model,
                layer=layer.name.strip(),
                count=layer.count,
                pattern=pattern if sparsity else "dense",
                requested=sparsity,
                achieved=round(problem.achieved, 4),
                algorithm=algorithm,
                chosen=algorithm == chosen,
                kernel=packed.kernel,
                median_ms=round(ms, 5),
                least_ms=round(min(times), 5),
                gflops=round(rate, 2),
                share_of_peak=round(rate / peak, 4),
                vs_best_dense=None,
            )
        )
    return found


def against_dense(found: Sequence[Measurement]) -> list[Measurement]:
    """Fill in `vs_best_dense`, for layers that were measured dense."""
    best: dict[tuple[str, str], float] = {}
    for row in found:
        if row.pattern == "dense":
            key = (row.model, row.layer)
            best[key] = min(row.median_ms, best.get(key, np.inf))
    return [
        replace(row, vs_best_dense=round(best[key] / row.median_ms, 4)) if key in best else row
        for row in found
        for key in [(row.model, row.layer)]
    ]


def speeds(title: str, found: Sequence[Measurement]) -> Table:
    """One line per layer and algorithm."""
    best: dict[str, float] = {}
    for row in found:
        ms = row.median_ms * row.count
        best[row.layer] = min(ms, best.get(row.layer, np.inf))
    table = Table(
        box=SIMPLE,
        title=title,
        caption=f"best of each, times occurrences: {sum(best.values()):.2f} ms",
    )
    for column in ("layer", "times", "algorithm", "kernel", "ms", "least", "GFLOP/s", "peak"):
        right = column in ("ms", "peak")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "layer")
    for row in found:
        table.add_row(
            *(row.layer, str(row.count), row.algorithm, row.kernel),
            *(f"{row.median_ms:.3f}", f"{row.least_ms:.3f}"),
            *(f"{row.gflops:.1f}", f"{row.share_of_peak:.0%}"),
        )
    return table


def break_even(title: str, found: Sequence[Measurement]) -> Table:
    """The lowest measured sparsity at which each algorithm beats the layer's best dense one."""
    algorithms = list(dict.fromkeys(row.algorithm for row in found))
    layer_column = Column("layer", no_wrap=True)
    table = Table(layer_column, "best dense", "ms", *algorithms, box=SIMPLE, title=title)
    for layer in dict.fromkeys(row.layer for row in found):
        rows = [row for row in found if row.layer == layer]
        dense = min((row for row in rows if row.requested == 0), key=lambda row: row.median_ms)
        cells = []
        for algorithm in algorithms:
            better = [
                row.requested
                for row in rows
                if row.algorithm == algorithm
                and row.requested > 0
                and row.median_ms < dense.median_ms
            ]
            cells.append(f"{min(better):.2f}" if better else "-")
        table.add_row(layer, dense.algorithm, f"{dense.median_ms:.3f}", *cells)
    return table


def behind(layer: Sequence[Measurement]) -> float:
    """How many times as long as a layer's fastest algorithm the chosen one takes."""
    taken = [row.median_ms for row in layer if row.chosen]
    return min(taken, default=0) / min(row.median_ms for row in layer)


def describe(layer: Sequence[Measurement]) -> str:
    """A layer, its mask, what was chosen for it, and what is fastest."""
    row = layer[0]
    chosen = next(row.algorithm for row in layer if row.chosen)
    fastest = min(layer, key=lambda row: row.median_ms).algorithm
    return f"{row.model} {row.layer} {row.pattern} {row.requested}, {chosen} for {fastest}"


def write(path: Path, found: Sequence[Measurement]) -> None:
    """Write the measurements as CSV."""
    with path.open("w", newline="") as file:
        columns = [column.name for column in fields(Measurement)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in found)


def main() -> None:
    """Measure; print tables per model, write a CSV file if asked to."""
    args = _parser().parse_args()
    args.machine = summary_line(describe_machine())
    console = Console()
    if not console.is_terminal:
        console = Console(width=130)
    peak = max(_native.fma_peak(args.isa) for _ in range(5)) * args.threads
    console.print(f"{args.isa}: {peak:.1f} GFLOP/s measured FMA peak, {args.threads} threads")
    everything: list[Measurement] = []
    slower: dict[str, float] = {}
    masks = [("dense", 0.0)] if 0 in args.sparsity else []
    masks += [(pattern, s) for pattern in args.pattern for s in args.sparsity if s]
    with ExitStack() as files:
        # The file is opened first: better to fail now than after minutes of timing.
        path = files.enter_context(atomic_path(args.csv)) if args.csv else None
        for model in args.model:
            found: list[Measurement] = []
            for pattern, sparsity in masks:
                new = []
                for layer in MODELS[model]:
                    rows = measure(layer, model, pattern, sparsity, peak, args)
                    new += rows
                    slow = args.limit is not None and behind(rows) > 1 + args.limit / 100
                    if slow:  # noise does not come twice
                        again = measure(layer, model, pattern, sparsity, peak, args)
                        rows = min(rows, again, key=behind)
                        if behind(rows) > 1 + args.limit / 100:
                            slower[describe(rows)] = behind(rows)
                console.print(speeds(f"{model}, {pattern} {sparsity or ''}", new))
                found += new
            if 0 in args.sparsity:
                for pattern in dict.fromkeys(pattern for pattern, s in masks if s):
                    rows = [row for row in found if row.pattern in (pattern, "dense")]
                    console.print(break_even(f"{model}, break-even sparsity ({pattern})", rows))
            everything += against_dense(found)
        if path is not None:
            write(path, everything)
    for name, times in slower.items():
        console.print(f"{name}: what was chosen takes {times:.2f} times as long as the fastest")
    if slower:
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--algorithm", nargs="+", help="default: all that can run the layer")
    parser.add_argument("--isa", default=_native.available_isas()[-1])
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.0])
    parser.add_argument(
        "--pattern", nargs="+", default=["random"], choices=("random", "lattice", "tiles")
    )
    parser.add_argument(
        "--input-mask", action="store_true", help="the input has the same mask, where sizes agree"
    )
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evict-mib", type=int, default=0)
    parser.add_argument(
        "--assert",
        dest="limit",
        type=float,
        metavar="PERCENT",
        help="fail where the choice by estimates is further behind the fastest algorithm",
    )
    parser.add_argument("--csv", type=Path, help="also write the figures to this file")
    return parser


if __name__ == "__main__":
    main()
