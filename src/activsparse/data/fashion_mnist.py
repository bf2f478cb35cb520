"""Fashion-MNIST: 70,000 grey images of clothes, from a copy on disk or by torchvision."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from activsparse.data.download import downloaded
from activsparse.data.images import Images, candidate_roots
from activsparse.data.resize import resized
from activsparse.errors import ActivsparseError

__all__ = ["load_fashion_mnist"]

_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_fashion_mnist(root: str | None, image_size: tuple[int, int]) -> Images:
    """Read an existing copy, else download one.

    A copy is a folder of the four IDX files, plain or .gz: `root`, $ACTIVSPARSE_DATA or ./data
    themselves, torchvision's place below them, or the folder of Debian's dataset-fashion-mnist.

    Raises:
        ActivsparseError: no copy and no download, or a file that is cut short.
    """
    folder = _find(root)
    train_x, train_y, test_x, test_y = (_read_idx(_file(folder, name)) for name in _FILES)
    return Images(
        train=TensorDataset(resized(train_x[:, None], image_size), train_y.long()),
        test=TensorDataset(resized(test_x[:, None], image_size), test_y.long()),
        num_classes=10,
        channels=1,
        mean=(0.286,),
        std=(0.353,),
        flip=True,
        small=True,
    )


def _find(root: str | None) -> Path:
    roots = candidate_roots(root)
    folders = [p for r in roots for p in (r, r / "fashion-mnist", r / "FashionMNIST" / "raw")]
    for folder in [*folders, _DEBIAN]:
        if all(_file(folder, name).is_file() for name in _FILES):
            return folder
    from torchvision.datasets import FashionMNIST

    downloaded(
        "Fashion-MNIST",
        roots[0],
        ("FashionMNIST",),
        lambda place: FashionMNIST(place, download=True),
        f"put its four files ({_FILES[0]}.gz, ...) there, or apt-get install dataset-fashion-mnist",
    )
    return roots[0] / "FashionMNIST" / "raw"


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _read_idx(path: Path) -> Tensor:
    """An IDX file of bytes: magic 0x08 and the rank, the sizes as big-endian int32, the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ActivsparseError(f"{path}: cannot be read ({error}); fetch it again") from error
    rank = data[3] if len(data) >= 4 and data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">i4", rank, 4).tolist() if len(data) >= 4 + 4 * rank else []
    if rank == 0 or len(data) != 4 + 4 * rank + math.prod(shape):
        raise ActivsparseError(f"{path}: is not a whole IDX file; fetch it again")
    return torch.from_numpy(
        np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape).copy()
    )
