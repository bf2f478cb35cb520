"""Time torchvision models, dense and masked, on every engine that is installed.

    make bench
    make bench ARGS="--models resnet18 --sparsity 0.3 0.5 --patterns tiles lattice --threads 2"

Weights are random: times do not depend on their values. One interleaved run per model; the figures
go to one JSON file each. For stable figures with one thread: taskset -c 1 make bench.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from activsparse.bench.engines import ENGINES
from activsparse.cli import main as activsparse


def export(name: str, path: Path) -> None:
    """Export a torchvision model with random weights, batch 1, 224x224; keep an existing file."""
    if path.exists():
        return
    import torch
    import torchvision

    from activsparse.export.onnx import export_onnx

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    export_onnx(model, torch.randn(1, 3, 224, 224), path)


def call(*words: object) -> None:
    """Run one `activsparse` command; end with its status where it fails."""
    status = activsparse([str(word) for word in words])
    if status != 0:
        sys.exit(status)


def main() -> None:
    """Export, mask and time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet18", "mobilenet_v2"])
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.3])
    parser.add_argument("--patterns", nargs="+", default=["random", "lattice", "tiles"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    engines = [name for name in ENGINES if name == "activsparse" or find_spec(name)]
    for name in args.models:
        dense = args.out / f"{name}.onnx"
        export(name, dense)
        sparse = []
        for pattern in args.patterns:
            for sparsity in args.sparsity:
                sparse.append(args.out / f"{name}-{pattern}-{sparsity}.onnx")
                call(
                    *("mask", dense, "--sparsity", sparsity, "--pattern", pattern),
                    *("--out", sparse[-1]),
                )
        call(
            *("bench", "--dense", dense, "--sparse", *sparse, "--engines", ",".join(engines)),
            *("--threads", args.threads, "--repeat", args.repeat),
            *("--json", args.out / f"{name}-{args.threads}.json"),
        )


if __name__ == "__main__":
    main()
