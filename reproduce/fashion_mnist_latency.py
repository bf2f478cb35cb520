"""Times the study's networks in the engine: one thread, batch 1, all in one interleaved run."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from activsparse.bench.compare import compare
from activsparse.bench.machine import summary_line
from activsparse.export.onnx import export_onnx
from activsparse.files import atomic_path

REPEAT = 200


def latency(networks: Iterable[tuple[str, nn.Module, Tensor]], results: Path) -> None:
    """Export every network, check it against ONNX Runtime, time it, write the CSV.

    Args:
        networks: name of the row, network with its masks, example input; `dense` comes first.
        results: folder of the CSV file.
    """
    torch.set_num_threads(1)
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        files = {}
        for number, (name, model, example) in enumerate(networks):
            files[name] = Path(place) / f"{number}.onnx"
            export_onnx(model, example, files[name])
        dense, *others = files.values()
        found = compare(dense, others, ["activsparse"], threads=1, repeat=REPEAT)
    names = {str(path): name for name, path in files.items()}
    with atomic_path(results / "fashion_mnist_latency.csv") as path, path.open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "median_ms", "mad_ms", "machine"])
        machine = summary_line(found.machine)
        for row in found.rows:
            times = round(row.median_ms, 5), round(row.mad_ms, 5)
            writer.writerow([names[row.model], *times, machine])
