"""ONNX Runtime as it is against ONNX Runtime with this engine's operators, in one interleaved run.

    taskset -c 1 python benchmarks/onnxruntime_operators.py dense.onnx masked.onnx ...

Every model is checked against plain ONNX Runtime before it is timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from activsparse import onnxruntime as operators
from activsparse.engine.tolerance import network_bound, sums_of


def session(path: Path, threads: int, ours: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if ours:
        operators.register(options)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="the dense model first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=30)
    args = parser.parse_args()
    sessions = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            plain = session(model, args.threads, ours=False)
            rewritten = operators.rewrite(model, Path(folder) / "own.onnx", threads=args.threads)
            own = session(Path(folder) / "own.onnx", args.threads, ours=True)
            (described,) = plain.get_inputs()
            x = np.random.default_rng(0).standard_normal(described.shape, np.float32)
            feed = {described.name: x}
            (expected,), (actual) = plain.run(None, feed), own.run(None, feed)[0]
            reports = [row for plan in rewritten.plans for row in plan.reports]
            assert np.abs(actual - expected).max() <= network_bound(sums_of(reports), expected)
            sessions[f"{model.stem}, plain"] = (plain, feed)
            sessions[f"{model.stem}, own operators"] = (own, feed)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions)
    for turn in range(args.repeat + 2):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            running, feed = sessions[name]
            begin = time.perf_counter()
            running.run(None, feed)
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - begin))
    base = statistics.median(times[order[0]])
    print(f"ONNX Runtime {onnxruntime.__version__}, {args.threads} thread(s)")
    for name, values in times.items():
        median = statistics.median(values)
        spread = statistics.median(abs(v - median) for v in values)
        print(f"{name:32s} {median:8.2f} ms ± {spread:.2f}  x {base / median:.2f}")


if __name__ == "__main__":
    main()
