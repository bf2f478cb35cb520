"""Whether planned masks meet their speed-up: whole networks, measured as `activsparse bench` does.

Weights are random, and in place of a measured loss stands a proxy, for only time is looked at here:
every layer loses the square of its sparsity times a fixed random number. A plan is made for each
target; then the plan's model is timed anew, several times, and the median of its speed-ups is set
against the target. The machine should be calibrated before (activsparse calibrate) and quiet.

    taskset -c 1 python benchmarks/plan_targets.py --out benchmarks/results/plan_targets-NAME.csv
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import zlib
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from activsparse.bench.machine import describe_machine, summary_line
from activsparse.bench.measured_speedup import measured_speedup
from activsparse.engine.calibrate import this_table
from activsparse.engine.compile import NATIVE, target_isa
from activsparse.errors import ActivsparseError
from activsparse.export.mask_by_plan import mask_by_plan
from activsparse.export.model_file import write_model
from activsparse.export.onnx import export_onnx
from activsparse.models import build_model
from activsparse.train.plan.plan_network import network_planner

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "timm:tf_efficientnet_lite0")
TARGETS = (1.2, 1.5, 2.0)


def proxy(options, what=""):
    """A loss that adds up: no measurement, only something to trade time against."""
    total = 0.0
    for name, (option, _) in options.items():
        weight = np.random.default_rng(zlib.crc32(name.encode())).uniform(0.1, 1)
        total += weight * option.sparsity**2 * (1.0 if option.fill == "zero" else 0.8)
    return total


def plan_one(
    name: str, targets: list[float], args: argparse.Namespace, folder: Path
) -> list[list[object]]:
    """The rows of one network."""
    isa = target_isa(NATIVE)
    table, where = this_table(isa)
    torch.manual_seed(0)
    model = build_model(name, 1000).eval()
    example = torch.randn(1, 3, args.size, args.size)
    dense, masked = folder / "dense.onnx", folder / "masked.onnx"
    proto = export_onnx(model, example, dense, verify=False).model
    planner = network_planner(model, example, proxy, table=table, where=where, count=6)

    def measure(plan) -> float:
        write_model(mask_by_plan(proto, plan)[0], masked)
        return measured_speedup(dense, masked, repeat=args.repeat)

    rows: list[list[object]] = []
    for target in targets:
        try:
            plan = planner.find(target, measure, rounds=0).plan
        except ActivsparseError as error:
            print(f"{name} {target:g}: {error}")
            rows.append([name, target, "", "", "", "", where.partition(" (")[0]])
            continue
        write_model(mask_by_plan(proto, plan)[0], masked)
        runs = sorted(measured_speedup(dense, masked, repeat=args.repeat) for _ in range(args.runs))
        speed = median(runs)
        rows.append(
            [
                name, target, round(speed, 3), round(speed / target - 1, 4),
                round(runs[0], 3), round(runs[-1], 3), where.partition(" (")[0],
            ]
        )  # fmt: skip
        print(*rows[-1], flush=True)
    return rows


def main() -> None:
    """Plan, time, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=list(NETWORKS))
    parser.add_argument("--target", nargs="+", type=float, default=list(TARGETS))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    head = ["network", "target", "median", "off", "least", "most", "times"]
    rows = []
    for name in args.model:
        with tempfile.TemporaryDirectory() as folder:
            rows += plan_one(name, args.target, args, Path(folder))
        if args.out:
            with args.out.open("w", newline="") as file:
                file.write(f"# {summary_line(describe_machine())}\n")
                csv.writer(file, lineterminator="\n").writerows([head, *rows])
    table = Table(*head, title=summary_line(describe_machine()))
    for row in rows:
        table.add_row(*map(str, row))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
