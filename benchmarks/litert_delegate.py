"""LiteRT with the delegate against LiteRT with XNNPACK, the same files, one interleaved run.

    taskset -c 1 python benchmarks/litert_delegate.py [--networks resnet18 mobilenet_v2] [--int8]

Files are made from random weights, converted, and compared with ONNX Runtime; then the delegate's
outputs are compared with plain LiteRT's, and only then anything is timed. Writes
benchmarks/results/litert/MACHINE.csv (with --int8 MACHINE.int8.csv) and prints it as a table for
docs/litert.md.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networks
import numpy as np
import results
from ai_edge_litert.interpreter import Interpreter

import activsparse
from activsparse import litert
from activsparse.bench.machine import describe_machine, summary_line
from activsparse.bench.timing import time_interleaved
from activsparse.files import atomic_path

PATTERNS = {"resnet18": "auto", "mobilenet_v2": "lattice"}
SPARSITIES = (0.2, 0.3)
INT8_PATTERN = "lattice"
INT8_SPARSITIES = (0.3, 0.5)

LEAST_SNR_DB = 20
"""Of int8 outputs against XNNPACK's, which are 15 dB from LiteRT's own in the dense MobileNetV2."""


def network_files(name: str, folder: Path, int8: bool) -> dict[float, Path]:
    """The ONNX files, by requested sparsity."""
    dense = networks.export(name, folder, [])
    pattern = INT8_PATTERN if int8 else PATTERNS[name]
    files = {0.0: dense}
    for sparsity in INT8_SPARSITIES if int8 else SPARSITIES:
        files[sparsity] = networks.masked(name, dense, pattern, sparsity)[0]
    return {s: quantised(file) for s, file in files.items()} if int8 else files


def quantised(file: Path) -> Path:
    """The same network in int8, calibrated on noise."""
    path = file.with_suffix(".int8.onnx")
    if not path.exists():
        samples = np.random.default_rng(1).standard_normal((8, 3, 224, 224)).astype(np.float32)
        activsparse.quantize(file, samples, path, per_layer=False)
    return path


def require_alike(name: str, ours: Any, theirs: Any, bound: float, int8: bool) -> None:
    """Stop where outputs differ by more than rounding explains."""
    difference = np.abs(ours.astype(np.float64) - theirs)
    if int8:
        snr_db = 10 * np.log10(np.square(theirs).mean() / max(np.square(difference).mean(), 1e-30))
        print(f"{name}: signal-to-noise ratio against XNNPACK's output {snr_db:.1f} dB")
        agree = snr_db >= LEAST_SNR_DB
    else:
        agree = difference.max() <= bound
    if not agree:
        raise SystemExit(f"{name}: outputs differ by {difference.max():.3g}; nothing was timed")


def contenders(
    files: dict[float, Path], threads: int, int8: bool
) -> dict[tuple[float, str], Callable[[], Any]]:
    """The calls to time, by requested sparsity and who runs the convolutions; all checked."""
    calls = {}
    for sparsity, file in files.items():
        model = file.with_suffix(".tflite")
        # Exact arithmetic, which decides about int8, would take minutes.
        errors = litert.convert(file, model, verify=not int8).errors
        plain = Interpreter(str(model), num_threads=threads)
        plain.allocate_tensors()
        ours = litert.interpreter(model, threads=threads)
        (described,), (result,) = plain.get_input_details(), plain.get_output_details()
        x = np.random.default_rng(0).standard_normal(described["shape"]).astype(np.float32)
        for interpreter in (plain, ours):
            interpreter.set_tensor(described["index"], x)
            interpreter.invoke()
        theirs, own = (interpreter.get_tensor(result["index"]) for interpreter in (plain, ours))
        require_alike(model.name, own, theirs, errors[0].bound if errors else 0.0, int8)
        calls[sparsity, "xnnpack"] = plain.invoke
        calls[sparsity, "activsparse"] = ours.invoke
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=PATTERNS, default=["resnet18"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--int8", action="store_true", help="quantised networks, lattice masks")
    parser.add_argument("--folder", type=Path, help="keep the models here")
    args = parser.parse_args()
    machine = describe_machine()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.networks:
            files = network_files(name, args.folder or Path(temporary), args.int8)
            calls = contenders(files, args.threads, args.int8)
            timings = time_interleaved({str(key): call for key, call in calls.items()}, args.repeat)
            dense_ms = timings[str((0.0, "xnnpack"))].median_ms
            for sparsity, engine in calls:
                timing = timings[str((sparsity, engine))]
                rows.append(
                    {
                        "date": datetime.date.today().isoformat(),
                        "machine": summary_line(machine),
                        "litert": version("ai-edge-litert"),
                        "model": name,
                        "pattern": (INT8_PATTERN if args.int8 else PATTERNS[name])
                        if sparsity
                        else results.DENSE,
                        "requested": sparsity,
                        "engine": engine,
                        "threads": args.threads,
                        "repeat": args.repeat,
                        "median_ms": round(timing.median_ms, 3),
                        "mad_ms": round(timing.mad_ms, 3),
                        "vs_xnnpack_dense": round(dense_ms / timing.median_ms, 3),
                    }
                )
    path = results.file_of(machine, results.FOLDER / "litert")
    if args.int8:
        path = path.with_suffix(".int8.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("| network | sparsity | XNNPACK ms | with the delegate ms | x XNNPACK dense |")
    print("| --- | --- | ---: | ---: | ---: |")
    for peer, own in zip(rows[::2], rows[1::2], strict=True):
        print(
            f"| {own['model']} | {own['requested'] or 'dense'} "
            f"| {peer['median_ms']:.2f} ± {peer['mad_ms']:.2f} "
            f"| {own['median_ms']:.2f} ± {own['mad_ms']:.2f} | {own['vs_xnnpack_dense']:.2f} |"
        )


if __name__ == "__main__":
    main()
