"""Other people's .tflite files: LiteRT with the delegate against LiteRT with XNNPACK.

    taskset -c 1 python benchmarks/litert_files.py FILE.tflite ...

Every output is compared with that of LiteRT's own kernels, as a share of its largest value, before
the two take turns; prints a line for each file. What LiteRT alone cannot run is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from activsparse import litert
from activsparse.bench.machine import describe_machine, summary_line
from activsparse.bench.timing import time_interleaved

TOLERANCE = 1e-3
"""Networks amplify roundings: of one of MediaPipe's XNNPACK's outputs are off by 1.6e-4, too."""


def outputs(interpreter: Any, inputs: list[Any]) -> list[Any]:
    """All outputs for these inputs."""
    for detail, x in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def row(path: Path, threads: int, repeat: int) -> str:
    """One line of the table."""
    without = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    plain = Interpreter(str(path), **without)
    try:
        plain.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return f"| {path.name} | LiteRT alone cannot run it: {' '.join(str(error).split())} |"
    rng = np.random.default_rng(0)
    inputs = [rng.random(d["shape"], np.float32) for d in plain.get_input_details()]
    expected = outputs(plain, inputs)
    peer = Interpreter(str(path), num_threads=threads)
    peer.allocate_tensors()
    ours = litert.interpreter(path, threads=threads)
    worst = {}
    for name, interpreter in (("XNNPACK", peer), ("activsparse", ours)):
        found = outputs(interpreter, inputs)
        errors = [
            float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))
            for a, b in zip(expected, found, strict=True)
        ]
        worst[name] = max(errors)
        if not worst[name] <= TOLERANCE:
            raise SystemExit(f"{path.name}: {name} is off by {worst[name]:.2g}; nothing was timed")
    times = time_interleaved({"XNNPACK": peer.invoke, "activsparse": ours.invoke}, repeat)
    theirs, own = times["XNNPACK"], times["activsparse"]
    return (
        f"| {path.name} | {theirs.median_ms:.2f} ± {theirs.mad_ms:.2f} | {own.median_ms:.2f} ± "
        f"{own.mad_ms:.2f} | {theirs.median_ms / own.median_ms:.2f} | {worst['activsparse']:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=60)
    args = parser.parse_args()
    print(summary_line(describe_machine()))
    print("| file | XNNPACK ms | with the delegate ms | times as fast | error |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for path in args.files:
        print(row(path, args.threads, args.repeat), flush=True)


if __name__ == "__main__":
    main()
