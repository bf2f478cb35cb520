"""Measure the table that pattern `auto` chooses by: src/activsparse/masks/latency.json.

Every algorithm of the engine is timed on the layers of ResNet18, ResNet50, VGG16 and MobileNetV2 at
several sparsities: Winograd on `tiles` of its own size, the others on lattices; `active_taps` with
the same lattice at its input. Each time is the lower quartile of many runs, the least of several
rounds over all layers, on weights that come from memory as they do within a network
(`--evict-mib`). `--merge` keeps times of the present table where they are lower: on a busy machine
run it again and again until nothing changes.

    taskset -c 1 python benchmarks/auto_table.py
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
from kernels import MODELS, Layer
from rich.progress import track

from activsparse import _native
from activsparse.files import atomic_path
from activsparse.masks import lattice, sparsity_of
from activsparse.masks.latency import winograd_macs, winograd_run
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import tiles

TABLE = Path(__file__).parents[1] / "src/activsparse/masks/latency.json"
NETWORKS = ("resnet18", "resnet50", "vgg16", "mobilenet_v2")
SPARSITIES = (0.0, 0.15, 0.3, 0.5)
ALGORITHMS = (
    "direct",
    "active_taps",
    "pointwise",
    "depthwise",
    "depthwise_block",
    "winograd6",
    "winograd4",
    "winograd2",
    "winograd4_s2",
    "winograd2_s2",
)


def conv_shape(layer: Layer) -> ConvShape:
    return ConvShape(
        (layer.kernel, layer.kernel),
        (layer.stride, layer.stride),
        layer.group,
        layer.inputs,
        layer.outputs,
        (layer.output_size, layer.output_size),
    )


Problem = tuple[
    dict[str, Any], dict[str, np.ndarray], list[_native.TensorDesc], list[_native.TensorDesc]
]
"""Attributes, arrays, inputs and outputs of a convolution."""


def problem(layer: Layer, mask: np.ndarray, input_mask: np.ndarray | None) -> Problem:
    """The layer with random weights, a bias and a ReLU."""
    size, pad = layer.output_size, layer.kernel // 2

    def desc(side: int, channels: int) -> _native.TensorDesc:
        return _native.TensorDesc(1, side, side, channels, -(-channels // 16) * 16, padded=True)

    shape = (layer.outputs, layer.inputs // layer.group, layer.kernel, layer.kernel)
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    arrays = {"weight": weight, "bias": np.ones(layer.outputs, np.float32)}
    if not mask.all():
        arrays["mask"] = mask.astype(np.uint8)
    if input_mask is not None:
        arrays["input_mask"] = input_mask.astype(np.uint8)
    attributes = {
        "stride_h": layer.stride,
        "stride_w": layer.stride,
        "group": layer.group,
        "activation": "relu",
        **dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), pad),
    }
    return attributes, arrays, [desc(layer.size, layer.inputs)], [desc(size, layer.outputs)]


Times = dict[str, list[list[float]]]
"""Algorithm -> [multiply-adds done, ms] at every sparsity."""


def measure(layer: Layer, isa: str, seconds: float, evict_bytes: int) -> Times:
    """Time all algorithms that are worth a try."""
    times: Times = {}
    for algorithm in ALGORITHMS:
        if layer.group > 1 and algorithm == "direct":
            continue  # never the best there
        for sparsity in SPARSITIES:
            parts, done = masked(layer, algorithm, sparsity)
            spec = _native.Spec("conv", *parts)
            if dict(spec.algorithms(isa)).get(algorithm, "unknown"):
                continue
            packed = _native.pack(spec, algorithm, isa)
            first = min(_native.time_operator(packed, 2, 1, evict_bytes))
            repeat = int(np.clip(1e3 * seconds / (first + 1), 5, 40))
            # The least would be luck: within a network no weights are found in a cache.
            ms = float(np.quantile(_native.time_operator(packed, repeat, 1, evict_bytes), 0.25))
            times.setdefault(algorithm, []).append([round(done), round(ms, 5)])
    return times


def masked(layer: Layer, algorithm: str, sparsity: float) -> tuple[Problem, float]:
    """The layer under a mask that suits the algorithm, and the multiply-adds that leaves."""
    conv = conv_shape(layer)
    mask, input_mask = lattice(conv.output, sparsity), None
    done = (1 - sparsity_of(mask)) * conv.positions * conv.macs_per_position
    if algorithm.startswith("winograd"):
        run = winograd_run(algorithm)
        mask = tiles(conv.output, sparsity, run=run)
        rows, columns = (int(np.count_nonzero(mask.any(axis=a))) for a in (1, 0))
        done = winograd_macs(conv, rows, columns, run)
    elif algorithm == "active_taps" and sparsity:
        input_mask = lattice((layer.size, layer.size), sparsity)
        done *= 1 - sparsity_of(input_mask)
    return problem(layer, mask, input_mask), done


def key(row: dict[str, Any]) -> str:
    """A layer's name in the table."""
    return json.dumps({k: row[k] for k in sorted(row) if k not in ("times", "dilation")})


def least(before: Times, now: Times) -> Times:
    """The points of `now`, with the time of `before` where that is lower."""
    known = {name: dict(map(tuple, points)) for name, points in before.items()}
    return {
        name: [[done, min(ms, known.get(name, {}).get(done, ms))] for done, ms in points]
        for name, points in now.items()
    }


def main() -> None:
    """Measure all layers and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=_native.available_isas()[-1])
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.08, help="for a time in a round, about")
    parser.add_argument("--evict-mib", type=int, default=32)
    parser.add_argument("--merge", action="store_true", help="keep lower times of the table")
    parser.add_argument("--out", type=Path, default=TABLE)
    args = parser.parse_args()

    layers = {conv_shape(layer): layer for name in NETWORKS for layer in MODELS[name]}
    measured = {conv_shape(layer) for name in args.model for layer in MODELS[name]}
    table: dict[str, Times] = {}
    if args.merge and args.out.exists():
        for row in json.loads(args.out.read_text("utf-8"))["layers"]:
            table[key(row)] = row["times"]
    for _ in track(range(args.rounds)):
        for conv, layer in layers.items():
            if conv not in measured:
                continue
            times = measure(layer, args.isa, args.seconds, args.evict_mib << 20)
            row = vars(conv)
            table[key(row)] = least(table.get(key(row), {}), times)

    rows = []
    for conv in layers:
        shape = {name: value for name, value in vars(conv).items() if name != "dilation"}
        if key(shape) in table:
            rows.append(json.dumps({**shape, "times": table[key(shape)]}))
    head = {
        "machine": _native.cpu_info()["name"],
        "isa": args.isa,
        "precision": "fp32",
        "threads": 1,
        "date": datetime.date.today().isoformat(),
        "times": "algorithm -> [multiply-adds done, ms] at several sparsities",
    }
    lines = ",\n".join(rows)
    text = json.dumps(head, indent=1)[:-2] + f',\n "layers": [\n{lines}\n]}}\n'
    with atomic_path(args.out) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
