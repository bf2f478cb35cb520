"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32x32 pixels, in their Python or binary form."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from activsparse.data.download import downloaded
from activsparse.data.images import Images, candidate_roots
from activsparse.data.resize import resized
from activsparse.errors import ActivsparseError

__all__ = ["load_cifar10", "load_cifar100"]

_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
_PIXELS = 3 * 32 * 32


def load_cifar10(root: str | None, image_size: tuple[int, int]) -> Images:
    """Read `cifar-10-batches-py` or `cifar-10-batches-bin`, else download it.

    Raises:
        ActivsparseError: no copy and no download, or a damaged file.
    """
    folder = _find(root, "cifar-10-batches", "CIFAR10", "cifar-10-python.tar.gz")
    if folder.name.endswith("-bin"):
        train, test = [f"{name}.bin" for name in _BATCHES], ["test_batch.bin"]
    else:
        train, test = _BATCHES, ["test_batch"]
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    return _images(folder, train, test, 10, b"labels", (0, 1), image_size, mean, std)


def load_cifar100(root: str | None, image_size: tuple[int, int]) -> Images:
    """Read `cifar-100-python` or `cifar-100-binary` with the 100 fine labels, else download it.

    Raises:
        ActivsparseError: no copy and no download, or a damaged file.
    """
    folder = _find(root, "cifar-100", "CIFAR100", "cifar-100-python.tar.gz")
    binary = folder.name.endswith("-binary")
    train, test = (["train.bin"], ["test.bin"]) if binary else (["train"], ["test"])
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    # A binary record holds the coarse label, the fine label, the pixels.
    return _images(folder, train, test, 100, b"fine_labels", (1, 2), image_size, mean, std)


def _find(root: str | None, stem: str, name: str, archive: str) -> Path:
    endings = ("-py", "-bin") if name == "CIFAR10" else ("-python", "-binary")
    roots = candidate_roots(root)
    for place in roots:
        for folder in [place / f"{stem}{ending}" for ending in endings]:
            if folder.is_dir():
                return folder
    from torchvision import datasets

    unpacked = f"{stem}{endings[0]}"
    downloaded(
        name,
        roots[0],
        (unpacked, archive),
        lambda place: getattr(datasets, name)(place, download=True),
        f"unpack {archive} there, which gives {unpacked}/, or set data.root to where it is",
    )
    return roots[0] / unpacked


def _images(
    folder: Path,
    train: list[str],
    test: list[str],
    classes: int,
    labels_key: bytes,
    label_bytes: tuple[int, int],
    size: tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Images:
    def part(names: list[str]) -> TensorDataset:
        pairs = [_read(folder / name, labels_key, label_bytes) for name in names]
        pixels = torch.from_numpy(np.concatenate([p for p, _ in pairs]).reshape(-1, 3, 32, 32))
        labels = torch.from_numpy(np.concatenate([y for _, y in pairs])).long()
        if int(labels.max()) >= classes:
            raise ActivsparseError(f"{folder}: holds a label above {classes - 1}; fetch it again")
        return TensorDataset(resized(pixels, size), labels)

    return Images(part(train), part(test), classes, 3, mean, std, flip=True, small=True)


def _read(path: Path, key: bytes, label_bytes: tuple[int, int]) -> tuple[Any, Any]:
    """Pixels uint8 (N, 3072) in the order (C, H, W), and labels (N,)."""
    try:
        data = path.read_bytes()
        if path.suffix == ".bin":
            label, start = label_bytes
            records = np.frombuffer(data, np.uint8).reshape(-1, start + _PIXELS)
            return records[:, start:], records[:, label]
        content = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        pixels, labels = np.asarray(content[b"data"]), np.asarray(content[key])
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _PIXELS) or not len(labels):
            raise ValueError("unexpected sizes")
        return pixels, labels
    except OSError as error:
        raise ActivsparseError(
            f"{path}: cannot be read ({error.strerror}); fetch it again"
        ) from error
    except Exception as error:  # whatever a strange file makes the unpickler raise
        raise ActivsparseError(
            f"{path}: is not a whole CIFAR file ({error}); fetch it again"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays, lists, strings and numbers; a pickle may not call anything else."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "_frombuffer", "encode"})

    def find_class(self, module: str, name: str) -> Any:
        known = module.partition(".")[0] == "numpy" or module == "_codecs"
        if not (known and name in self._ALLOWED):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)
