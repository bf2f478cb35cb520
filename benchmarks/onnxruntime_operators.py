"""ONNX Runtime as it is against ONNX Runtime with this engine, in one interleaved run.

With its operators, in a rewritten model; and, where ONNX Runtime has them (1.23), as an execution
provider for the unmodified one.

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
from activsparse.engine.compile import compile_file
from activsparse.engine.tolerance import network_bound, sums_of


def session(path: Path, threads: int, plan: Path | None = None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    operators.register(options)
    if plan is not None:
        operators.add_provider(options, plan)
        return onnxruntime.InferenceSession(path, options)
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
            plain = session(model, args.threads)
            file, plan = Path(folder) / "own.onnx", Path(folder) / f"{model.stem}.plan"
            rewritten = operators.rewrite(model, file, threads=args.threads)
            contenders = {"plain": plain, "own operators": session(file, args.threads)}
            if hasattr(onnxruntime, "get_ep_devices"):
                compile_file(model, plan, threads=args.threads)
                contenders["own provider"] = session(model, args.threads, plan)
            (described,) = plain.get_inputs()
            x = np.random.default_rng(0).standard_normal(described.shape, np.float32)
            feed = {described.name: x}
            (expected,) = plain.run(None, feed)
            reports = [row for part in rewritten.plans for row in part.reports]
            bound = network_bound(sums_of(reports), expected)
            for name, running in contenders.items():
                assert np.abs(running.run(None, feed)[0] - expected).max() <= bound, name
                sessions[f"{model.stem}, {name}"] = (running, feed)
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
