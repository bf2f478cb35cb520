"""Measure a table of times to ship: src/activsparse/masks/tables.

What `activsparse calibrate` keeps for one machine, in as many rounds as asked for, over the layers
of ResNet18, ResNet50, VGG16 and MobileNetV2. `--merge` keeps times of the present table where they
are lower: on a busy machine run it again and again until nothing changes.

    taskset -c 1 python benchmarks/auto_table.py
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

from layers import MODELS, Layer

from activsparse import _native
from activsparse.engine.calibrate import least, measure_fill, measure_rows, write_rows
from activsparse.masks.shape import ConvShape

TABLES = Path(__file__).parents[1] / "src/activsparse/masks/tables"
NETWORKS = ("resnet18", "resnet50", "vgg16", "mobilenet_v2")


def conv_shape(layer: Layer) -> ConvShape:
    return ConvShape(
        (layer.kernel, layer.kernel),
        (layer.stride, layer.stride),
        layer.group,
        layer.inputs,
        layer.outputs,
        (layer.output_size, layer.output_size),
    )


def table_path(isa: str) -> Path:
    """Where the table of this machine belongs."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(_native.cpu_info()["name"]).lower()).strip("-")
    return TABLES / f"{cpu}-{isa}.json"


def main() -> None:
    """Measure all layers and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=_native.available_isas()[-1])
    parser.add_argument("--model", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--merge", action="store_true", help="keep lower times of the table")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    out = args.out or table_path(args.isa)
    convs = list({conv_shape(layer): layer for name in args.model for layer in MODELS[name]})
    found = measure_rows(convs, args.isa, 1, math.inf, rounds=args.rounds)
    if args.merge and out.exists():
        for row in json.loads(out.read_text("utf-8"))["layers"]:
            times = row.pop("times")
            pairs = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
            conv = ConvShape(**pairs)
            found[conv] = least(times, found[conv]) if conv in found else times
    rows = {conv: found[conv] for conv in sorted(found, key=str)}
    write_rows(rows, out, args.isa, 1, measure_fill(args.isa, 1))


if __name__ == "__main__":
    main()
