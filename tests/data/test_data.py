from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.data.sampler import EpochSampler


def batches(loader):
    return [(x.clone(), y.clone()) for x, y in loader]


def test_digits_batches_are_normalised_and_split():
    data = build_data("digits", image_size=(32, 24), batch_size=50)
    assert data.shape == (1, 32, 24)
    assert data.num_classes == 10
    train, val, test = (
        batches(loader)
        for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    )
    assert train[0][0].shape == (50, 1, 32, 24)
    assert len(train) == data.steps_per_epoch
    sizes = [sum(len(y) for _, y in part) for part in (val, test)]
    assert sizes == [135, 450]
    pixels = torch.cat([x for x, _ in test])
    assert abs(pixels.mean()) < 0.1
    assert abs(pixels.std() - 1) < 0.1
    held_out = {x.numpy().tobytes() for part in val for x in part[0]}
    tested = {x.numpy().tobytes() for part in test for x in part[0]}
    assert not held_out & tested


def test_batches_are_a_function_of_seed_and_epoch():
    def epoch(seed, number, skip=0, workers=0):
        data = build_data("digits", image_size=16, batch_size=64, seed=seed, workers=workers)
        data.resume(number, skip)
        return batches(data.train_dataloader())

    first = epoch(1, 3)
    torch.rand(7)
    for other in (epoch(1, 3), epoch(1, 3, workers=2)):
        assert all(torch.equal(a, c) for (a, _), (c, _) in zip(first, other, strict=True))
    rest = epoch(1, 3, skip=5)
    assert len(rest) == len(first) - 5
    assert all(torch.equal(a, c) for (a, _), (c, _) in zip(first[5:], rest, strict=True))
    assert not torch.equal(first[0][0], epoch(2, 3)[0][0])
    assert not torch.equal(first[0][0], epoch(1, 4)[0][0])


def test_sampler_visits_every_image_once():
    sampler = EpochSampler(101, seed=0)
    sampler.resume(2, 30)
    assert len(list(sampler)) == 71
    sampler.set_epoch(3)
    assert sorted(index for _, index in sampler) == list(range(101))


def write_fashion_mnist(folder: Path, compressed: bool) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("train", 40), ("t10k", 20)):
        arrays = {
            f"{name}-images-idx3-ubyte": rng.integers(0, 256, (size, 28, 28), dtype=np.uint8),
            f"{name}-labels-idx1-ubyte": (np.arange(size) % 10).astype(np.uint8),
        }
        for file, array in arrays.items():
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            content = header + array.tobytes()
            if compressed:
                (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file).write_bytes(content)


@pytest.mark.parametrize(("place", "compressed"), [(".", True), ("FashionMNIST/raw", False)])
def test_fashion_mnist_is_found_where_it_lies(tmp_path, monkeypatch, place, compressed):
    write_fashion_mnist(tmp_path / "x" / place, compressed)
    monkeypatch.setenv("ACTIVSPARSE_DATA", str(tmp_path / "x"))
    data = build_data("fashion_mnist", image_size=28, batch_size=9, channels=3)
    assert data.shape == (3, 28, 28)
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (20, 3, 28, 28)
    assert labels.tolist() == [i % 10 for i in range(20)]
    assert len(batches(data.train_dataloader())) == 4


def test_damaged_fashion_mnist_is_named(tmp_path):
    write_fashion_mnist(tmp_path / "x", compressed=False)
    file = tmp_path / "x" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ActivsparseError, match=r"t10k-images.*not a whole IDX file"):
        build_data("fashion_mnist", root=str(tmp_path / "x"))


@pytest.mark.parametrize("name", ["fashion_mnist", "flowers102"])
def test_missing_data_says_what_to_put_where(name, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("activsparse.data.fashion_mnist._DEBIAN", tmp_path / "none")
    with pytest.raises(ActivsparseError, match=r"cannot be downloaded .*; put "):
        build_data(name, root=str(tmp_path / "data"))


def write_images(folder: Path, classes: list[str], count: int) -> None:
    rng = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


def test_image_folder(tmp_path):
    write_images(tmp_path / "train", ["cat", "dog"], 10)
    write_images(tmp_path / "val", ["cat", "dog"], 3)
    data = build_data("image_folder", str(tmp_path), (32, 48), batch_size=4)
    assert (data.shape, data.num_classes, data.has_test) == ((3, 32, 48), 2, True)
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 32, 48)
    assert len(next(iter(data.test_dataloader()))[1]) == 6
    assert len(next(iter(data.val_dataloader()))[1]) == 2
    write_images(tmp_path / "test", ["cat", "cow"], 3)
    with pytest.raises(ActivsparseError, match=r"classes differ.*cow, dog"):
        build_data("image_folder", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "did you mean digits"),
        ({"name": "image_folder"}, "set data.root"),
        ({"name": "image_folder", "root": "/nowhere"}, "no folder of images"),
        ({"name": "digits", "batch_size": 5000}, "lower data.batch_size"),
    ],
)
def test_bad_requests_are_named(arguments, message):
    with pytest.raises(ActivsparseError, match=message):
        build_data(**arguments)
