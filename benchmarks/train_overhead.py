"""What sparse training costs: step time of ResNet18 at 224x224 with and without the paper's masks.

    python benchmarks/train_overhead.py [--recipe NAME] [--batch N] [--steps N] [--csv FILE]

Two copies of the network are trained on random images, dense and sparse steps in random turns, so
that both see the same machine; medians are compared, and minima, which other programs disturb less.
A sparse step draws a score map, makes all masks, multiplies by them forwards and backwards, and
notes the loss: the steps between `begin` and `end`, where training costs most. Later steps draw no
maps. The cost of the maps does not depend on the batch, so a small batch shows the overhead at its
worst. Exits 1 if the overhead of the medians is above the bar.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from activsparse.bench.machine import describe_machine, summary_line
from activsparse.files import atomic_path
from activsparse.models import build_model
from activsparse.train.learning.optim import make_optimizer
from activsparse.train.recipes.read import load_config
from activsparse.train.run.folder import example_input, make_sparsifier

BAR_PERCENT = 5.0


class Trained:
    """A network in training; `step` gives its wall and processor time in ms."""

    def __init__(self, recipe: str, sparse: bool, steps: int) -> None:
        config = load_config(recipe, [] if sparse else ["sparsity=null"])
        torch.manual_seed(0)
        self.size = config.data.image_size
        self.model = build_model(config.model.name, 102).train()
        # The steps measured lie in the middle of the schedule.
        example = example_input((3, self.size, self.size))
        self.sparsifier = make_sparsifier(self.model, example, config, total_steps=10 * steps)
        if self.sparsifier is not None:
            while self.sparsifier.current_step < self.sparsifier.schedule.begin:
                self.sparsifier.step()
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model, config.training)
        self.clip = config.training.gradient_clip
        self.loss = nn.CrossEntropyLoss(label_smoothing=config.training.label_smoothing)

    def step(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        wall, processor = time.perf_counter(), time.process_time()
        loss = self.loss(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        if self.sparsifier is not None:
            self.sparsifier.step(loss)
        end = time.perf_counter(), time.process_time()
        return 1e3 * (end[0] - wall), 1e3 * (end[1] - processor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="paper_resnet18_flowers102")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=15, help="measured steps of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", help="write the result there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    both = [Trained(args.recipe, sparse, args.steps) for sparse in (False, True)]
    size = both[0].size
    images = torch.randn(args.batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.arange(args.batch) % 102
    times: list[list[tuple[float, float]]] = [[], []]
    turns = random.Random(0)
    for step in range(args.steps + 2):
        for which in turns.sample((0, 1), 2):
            measured = both[which].step(images, labels)
            if step >= 2:  # the first ones warm up
                times[which].append(measured)
    sparsifier = both[1].sparsifier
    assert sparsifier is not None
    assert sparsifier.phase == "sparse", "all measured steps must draw maps"

    row: dict[str, object] = {
        "recipe": args.recipe,
        "batch": args.batch,
        "threads": args.threads,
        "steps": args.steps,
    }
    for at, clock in enumerate(("wall", "processor")):
        dense, sparse = ([t[at] for t in part] for part in times)
        for name, least in (("median", statistics.median), ("minimum", min)):
            before, after = least(dense), least(sparse)
            row[f"{clock}_{name}_dense_ms"] = round(before, 2)
            row[f"{clock}_{name}_sparse_ms"] = round(after, 2)
            row[f"{clock}_{name}_overhead_percent"] = round(100 * (after / before - 1), 2)
    row["machine"] = summary_line(describe_machine())
    for key, value in row.items():
        print(f"{key:34} {value}")
    if args.csv:
        with atomic_path(Path(args.csv)) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
    return int(float(str(row["wall_median_overhead_percent"])) > BAR_PERCENT)


if __name__ == "__main__":
    sys.exit(main())
