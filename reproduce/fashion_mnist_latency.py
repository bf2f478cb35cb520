"""Times the study's networks in the engine: one thread, batch 1, all in one interleaved run."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import torch

from activsparse.bench.compare import compare
from activsparse.bench.machine import summary_line
from activsparse.errors import ActivsparseError
from activsparse.export.onnx import export_onnx
from activsparse.files import atomic_path
from activsparse.train.run import load_run

REPEAT = 200


def latency(folders: dict[str, Path], results: Path) -> None:
    """Export every run that is there, check it against ONNX Runtime, time it, write the CSV.

    Args:
        folders: run folder by name of the row; `dense` must be among them.
        results: folder of the CSV file.
    """
    torch.set_num_threads(1)
    ready = {name: f for name, f in folders.items() if (f / "best.ckpt").is_file()}
    if "dense" not in ready:
        raise ActivsparseError("the row dense is not trained yet; train it before timing")
    with tempfile.TemporaryDirectory() as place:
        files = {}
        for number, (name, folder) in enumerate(ready.items()):
            run = load_run(folder)
            files[name] = Path(place) / f"{number}.onnx"
            export_onnx(run.model, run.example_input, files[name])
        others = [path for name, path in files.items() if name != "dense"]
        found = compare(files["dense"], others, ["activsparse"], threads=1, repeat=REPEAT)
    names = {str(path): name for name, path in files.items()}
    with atomic_path(results / "fashion_mnist_latency.csv") as path, path.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "median_ms", "mad_ms", "machine"])
        machine = summary_line(found.machine)
        for row in found.rows:
            times = round(row.median_ms, 5), round(row.mad_ms, 5)
            writer.writerow([names[row.model], *times, machine])
