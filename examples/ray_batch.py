"""Classifies a folder of pictures with Ray Data: one session per actor, a line per picture.

    python examples/ray_batch.py masked.onnx photos --out classes.csv --actors 2

On a cluster start it with `--address auto` on a machine of it; model and pictures must be readable
there. It needs `pip install 'ray[data]'`.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tell nobody

import numpy as np
import ray

import activsparse
from activsparse.pictures import IMAGENET_MEAN, IMAGENET_STD


class Classifier:
    """An actor's session; it is made once and sees batch after batch."""

    def __init__(self, model: str) -> None:
        self.session = activsparse.Session(model, threads=1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Classify the pictures (N, H, W, 3) uint8 of a batch, one at a time."""
        pixels = (batch["image"].astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
        images = pixels.astype(np.float32).transpose(0, 3, 1, 2)
        scores = np.stack([self.session.run(image[None]).ravel() for image in images])
        return {"path": batch["path"], "class": scores.argmax(1), "score": scores.max(1)}


def main() -> None:
    """Read, classify, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="ONNX file or plan with one input (1, 3, H, W)")
    parser.add_argument("folder", help="pictures, at any depth")
    parser.add_argument("--out", default="classes.csv")
    parser.add_argument("--actors", type=int, default=2, help="a core each")
    parser.add_argument("--address", default="local", help="auto: the cluster this machine is in")
    args = parser.parse_args()

    model = str(Path(args.model).resolve())
    _, _, height, width = activsparse.Session(model).get_inputs()[0].shape
    if args.address == "local":
        cores = args.actors + 1  # one reads
        ray.init("local", num_cpus=cores, include_dashboard=False, _node_ip_address="127.0.0.1")
    else:
        ray.init(args.address)
    pictures = ray.data.read_images(
        args.folder, size=(height, width), mode="RGB", include_paths=True
    )
    found = pictures.map_batches(
        Classifier, fn_constructor_args=(model,), concurrency=args.actors, batch_size=16
    )
    with Path(args.out).open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "class", "score"])
        writer.writeheader()
        writer.writerows(sorted(found.take_all(), key=lambda row: row["path"]))


if __name__ == "__main__":
    main()
