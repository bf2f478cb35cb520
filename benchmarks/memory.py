"""Memory and loading time of processes that load a model and run it, one process per figure.

    .venv/bin/python benchmarks/memory.py
    .venv/bin/python benchmarks/memory.py --models resnet50 --masks tiles --repeat 5

Every row is a fresh process pinned to one core: Python and numpy, then one engine, one model, three
runs with one thread. `peak` is its largest resident set, all of Python included; `load` the time
from the path to a session, import of the engine apart; `first run` includes what an engine leaves
for it. Our algorithms are measured once beforehand and then come from the cache of choices, except
in the rows `ONNX, uncached`. Medians over the repeats. Below: what our plans consist of.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from networks import NETWORKS, export, masked

from activsparse import Session

_CHILD = """
import json, os, re, sys, time
import numpy as np
engine, path, shape, core = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
os.sched_setaffinity(0, {core})
if engine == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    def load():
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: session.run(None, {name: x})
else:
    from activsparse import Session
    def load():
        return Session(path, threads=1).run
x = np.random.default_rng(0).standard_normal(shape, np.float32)
begin = time.perf_counter()
run = load()
loaded = time.perf_counter()
run(x)
ran = time.perf_counter()
run(x), run(x)
# getrusage would count what the parent process held when it started this one.
peak = int(re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1])
print(json.dumps({"load_ms": 1e3 * (loaded - begin), "first_ms": 1e3 * (ran - loaded),
                  "peak_mib": peak / 1024}))
"""
_SHAPE = (1, 3, 224, 224)


def measure(engine: str, source: str, path: Path, core: int) -> dict[str, float]:
    """Run one child process; times in ms, memory in MiB."""
    words = [engine, str(path), json.dumps(_SHAPE), str(core)]
    with tempfile.TemporaryDirectory() as empty:
        cache = {"ACTIVSPARSE_CACHE": empty} if source.endswith("uncached") else {}
        result = subprocess.run(
            [sys.executable, "-c", _CHILD, *words],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | cache,
        )
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def contents(plan: Path) -> str:
    """One line: weights by algorithm, index data, activations."""
    session = Session(plan)
    weights: dict[str, int] = {}
    index = 0
    for row in session.explain():
        index += row.index_bytes
        weights[row.algorithm] = weights.get(row.algorithm, 0) + row.weight_bytes
    total = sum(weights.values())
    parts = ", ".join(
        f"{name} {size / 2**20:.1f}"
        for name, size in sorted(weights.items(), key=lambda item: -item[1])
        if size > 2**17
    )
    return (
        f"weights {total / 2**20:.1f} MiB ({parts}), index data {index / 2**10:.0f} KiB "
        f"({index / total:.1%}), activations {session.arena_bytes / 2**20:.1f} MiB"
    )


def main() -> None:
    """Export, compile, measure, print a table in markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", choices=NETWORKS, default=["resnet18", "resnet50", "mobilenet_v2"]
    )
    parser.add_argument("--masks", nargs="*", default=[], help="patterns, at sparsity 0.3")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    core = max(os.sched_getaffinity(0))
    print("| model | engine | from | peak MiB | load ms | first run ms | file MiB |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    for name in args.models:
        models = [export(name, args.out, [])]
        models += [masked(name, models[0], pattern, 0.3)[0] for pattern in args.masks]
        for model in models:
            plan = model.with_suffix(".plan")
            Session(model, threads=1).save(plan)
            cases = {
                ("onnxruntime", "ONNX"): model,
                ("activsparse", "ONNX"): model,
                ("activsparse", "ONNX, uncached"): model,
                ("activsparse", "plan"): plan,
            }
            samples: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
            for _ in range(args.repeat):
                for case, path in cases.items():
                    samples[case].append(measure(*case, path, core))
            for case, path in cases.items():
                print(_row(model.stem, case, path, samples[case]), flush=True)
            lines.append(f"- {model.stem}: {contents(plan)}")
    print("\n".join(["", *lines]))


def _row(model: str, case: tuple[str, str], path: Path, samples: list[dict[str, Any]]) -> str:
    def median(key: str) -> float:
        return statistics.median(sample[key] for sample in samples)

    size = path.stat().st_size / 2**20
    return (
        f"| {model} | {case[0]} | {case[1]} | {median('peak_mib'):.0f} | {median('load_ms'):.0f} "
        f"| {median('first_ms'):.0f} | {size:.1f} |"
    )


if __name__ == "__main__":
    main()
