from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.data.download import downloaded
from activsparse.data.sampler import EpochSampler, FixedBatches


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


@pytest.mark.parametrize("name", ["fashion_mnist", "flowers102", "food101", "cifar10", "cifar100"])
def test_missing_data_says_what_to_put_where(name, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("activsparse.data.fashion_mnist._DEBIAN", tmp_path / "none")
    with pytest.raises(ActivsparseError, match=r"cannot be downloaded .*; (put|unpack) "):
        build_data(name, root=str(tmp_path / "new" / "data"))
    assert not list(tmp_path.iterdir())


def test_fashion_mnist_is_downloaded_whole_or_not_at_all(tmp_path, monkeypatch):
    class Response(io.BytesIO):
        url = length = None

    def urlopen(request):
        return Response((mirror / request.full_url.rpartition("/")[2]).read_bytes())

    mirror, root = tmp_path / "mirror", tmp_path / "new" / "data"
    write_fashion_mnist(mirror, compressed=True)
    files = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in sorted(mirror.iterdir())]
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", files)
    monkeypatch.setattr("activsparse.data.fashion_mnist._DEBIAN", tmp_path / "none")
    last = mirror / files[-1][0]
    content = last.read_bytes()
    last.write_bytes(content[:-1])
    with pytest.raises(ActivsparseError, match="cannot be downloaded"):
        build_data("fashion_mnist", root=str(root))
    assert not root.parent.exists()
    last.write_bytes(content)
    data = build_data("fashion_mnist", root=str(root), batch_size=9)
    assert next(iter(data.test_dataloader()))[1].tolist() == [i % 10 for i in range(20)]
    assert [entry.name for entry in root.iterdir()] == ["FashionMNIST"]


@pytest.mark.parametrize("failure", [OSError("cut"), KeyboardInterrupt()])
def test_a_failed_download_takes_only_its_own_along(tmp_path, failure):
    def read(root):
        (Path(root) / "set").mkdir(exist_ok=True)
        (Path(root) / "set" / "half").write_text("hal")
        raise failure

    expected = (ActivsparseError, KeyboardInterrupt)
    (tmp_path / "other").mkdir()
    with pytest.raises(expected):
        downloaded("a set", tmp_path, ("set",), read, "fetch it")
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]
    # What stands there already is for torchvision to complete.
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")
    with pytest.raises(expected):
        downloaded("a set", tmp_path, ("set",), read, "fetch it")
    assert (tmp_path / "set" / "mine").read_text() == "mine"


def write_images(folder: Path, classes: list[str], count: int) -> None:
    rng = np.random.default_rng(0)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")


CIFAR = {
    "cifar10": (10, "cifar-10-batches-py", "cifar-10-batches-bin", b"labels"),
    "cifar100": (100, "cifar-100-python", "cifar-100-binary", b"fine_labels"),
}


def write_cifar(root: Path, name: str, binary: bool) -> np.ndarray:
    """Generated files in the real formats; returns the test images (N, 3, 32, 32)."""
    classes, python_folder, binary_folder, key = CIFAR[name]
    folder = root / (binary_folder if binary else python_folder)
    folder.mkdir(parents=True)
    ten = name == "cifar10"
    train = [f"data_batch_{i}" for i in range(1, 6)] if ten else ["train"]
    rng = np.random.default_rng(0)
    for file in [*train, "test_batch" if ten else "test"]:
        pixels = rng.integers(0, 256, (12, 3072), dtype=np.uint8)
        labels = np.arange(12) * 7 % classes
        if binary:
            columns = [labels[:, None].astype(np.uint8), pixels]
            if not ten:
                columns.insert(0, columns[0] // 5)
            (folder / f"{file}.bin").write_bytes(np.concatenate(columns, 1).tobytes())
        else:
            content = {b"data": pixels, key: labels.tolist(), b"filenames": [b"a.png"] * 12}
            (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    return pixels.reshape(12, 3, 32, 32)


@pytest.mark.parametrize("name", list(CIFAR))
@pytest.mark.parametrize("binary", [False, True])
def test_cifar_in_both_formats(tmp_path, name, binary):
    pixels = write_cifar(tmp_path, name, binary)
    data = build_data(name, str(tmp_path), 32, batch_size=4)
    assert (data.shape, data.num_classes) == ((3, 32, 32), CIFAR[name][0])
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == [i * 7 % data.num_classes for i in range(12)]
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    expected = (torch.from_numpy(pixels) / 255 - mean) / std
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 32, 32)
    resized = build_data(name, str(tmp_path), (24, 40), batch_size=4, channels=1)
    assert next(iter(resized.val_dataloader()))[0].shape[1:] == (1, 24, 40)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "is not a whole CIFAR file"),
        (
            pickle.dumps({b"data": np.zeros((2, 5), np.uint8), b"labels": [0, 1]}),
            "unexpected sizes",
        ),
        (pickle.dumps(Path("x")), "refers to pathlib"),
    ],
)
def test_damaged_cifar_is_named(tmp_path, content, message):
    write_cifar(tmp_path, "cifar10", binary=False)
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(content)
    with pytest.raises(ActivsparseError, match=f"data_batch_3: .*{message}.*fetch it again"):
        build_data("cifar10", str(tmp_path))


def test_flowers102(tmp_path, monkeypatch):
    base = tmp_path / "flowers-102"
    (base / "jpg").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(1, 13):
        pixels = rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(base / "jpg" / f"image_{i:05}.jpg")
    scipy.io.savemat(base / "imagelabels.mat", {"labels": np.arange(1, 13)[None] * 8})
    parts = {"trnid": [1, 2, 3, 4, 5], "valid": [6, 7, 8], "tstid": [9, 10, 11, 12]}
    scipy.io.savemat(base / "setid.mat", {k: np.array([v]) for k, v in parts.items()})
    # torchvision knows the published files by their checksums.
    checksums = {
        key: (name, hashlib.md5((base / name).read_bytes()).hexdigest())
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(torchvision.datasets.Flowers102, "_file_dict", checksums)
    data = build_data("flowers102", str(tmp_path), 32, batch_size=5)
    assert (data.shape, data.num_classes) == ((3, 32, 32), 102)
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (5, 3, 32, 32)
    assert sorted(labels.tolist()) == [7, 15, 23, 31, 39]
    assert next(iter(data.val_dataloader()))[1].tolist() == [47, 55, 63]
    assert next(iter(data.test_dataloader()))[1].tolist() == [71, 79, 87, 95]


def test_food101(tmp_path):
    base = tmp_path / "food-101"
    write_images(base / "images", ["apple_pie", "waffles"], 6)
    for file in list((base / "images").rglob("*.png")):
        Image.open(file).save(file.with_suffix(".jpg"))
    (base / "meta").mkdir()
    for part, numbers in (("train", range(4)), ("test", (4, 5))):
        names = {label: [f"{label}/{i}" for i in numbers] for label in ("apple_pie", "waffles")}
        (base / "meta" / f"{part}.json").write_text(json.dumps(names))
    data = build_data("food101", str(tmp_path), 32, batch_size=4)
    assert data.num_classes == 2
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 32, 32)
    assert next(iter(data.test_dataloader()))[1].tolist() == [0, 0, 1, 1]


def test_imagenet(tmp_path):
    classes = [f"n{i:08}" for i in range(1000)]
    image = Image.fromarray(np.full((8, 8, 3), 100, np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    for part in ("train", "val"):
        for name in classes:
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "x.JPEG").write_bytes(buffer.getvalue())
    data = build_data("imagenet", str(tmp_path), 16, batch_size=4)
    assert (data.num_classes, data.steps_per_epoch) == (1000, 225)
    assert next(iter(data.test_dataloader()))[1].tolist()[:3] == [0, 1, 2]
    (tmp_path / "train" / classes[-1] / "x.JPEG").unlink()
    (tmp_path / "train" / classes[-1]).rmdir()
    with pytest.raises(ActivsparseError, match="classes differ"):
        build_data("imagenet", str(tmp_path))


def test_missing_or_unsorted_imagenet_is_explained(tmp_path):
    with pytest.raises(
        ActivsparseError, match=r"unpack ILSVRC2012_img_train.tar.* or set data.root"
    ):
        build_data("imagenet", str(tmp_path))
    write_images(tmp_path / "train", ["n01440764", "n01443537"], 2)
    with pytest.raises(ActivsparseError, match="val: holds no folders of classes; sort"):
        build_data("imagenet", str(tmp_path))
    write_images(tmp_path / "val", ["n01440764", "n01443537"], 2)
    with pytest.raises(ActivsparseError, match=r"has 2 classes.*data\.name=image_folder"):
        build_data("imagenet", str(tmp_path))


@pytest.mark.parametrize("policy", ["trivial", "rand", "auto"])
def test_augmentations_are_a_function_of_seed_epoch_and_image(policy):
    def epoch(**options):
        data = build_data("digits", image_size=16, batch_size=64, **options)
        return batches(data.train_dataloader())

    varied = epoch(auto_augment=policy, random_erasing=0.5)
    again = epoch(auto_augment=policy, random_erasing=0.5)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(varied, again, strict=True))
    basic = epoch()
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(varied, basic, strict=True))
    assert all(a.isfinite().all() and a.shape == (64, 1, 16, 16) for a, _ in varied)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_each_batch(monkeypatch, processes):
    whole = build_data("digits", image_size=8, batch_size=12, augment=False)
    expected = batches(whole.train_dataloader())[3:]
    monkeypatch.setattr("activsparse.data.batches.world_size", lambda: processes)
    parts = []
    for rank in range(processes):
        monkeypatch.setattr("activsparse.data.batches.rank", lambda rank=rank: rank)
        data = build_data("digits", image_size=8, batch_size=12, augment=False)
        data.resume(0, 3)
        parts.append(batches(data.train_dataloader()))
        evaluated = sum(len(y) for _, y in data.test_dataloader())
        assert evaluated == pytest.approx(450 / processes, abs=1)
    for step, (images, labels) in enumerate(expected):
        together = torch.stack([part[step][0] for part in parts], 1).flatten(0, 1)
        assert torch.equal(together, images)
        assert len(parts[0]) == len(expected) == len(parts[-1])
        assert torch.equal(torch.stack([part[step][1] for part in parts], 1).flatten(), labels)


def test_a_batch_that_cannot_be_shared_is_named(monkeypatch):
    monkeypatch.setattr("activsparse.data.batches.world_size", lambda: 3)
    data = build_data("digits", image_size=8, batch_size=64)
    with pytest.raises(ActivsparseError, match="choose a multiple of 3"):
        data.train_dataloader()


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("size", [5, 17, 256, 301])
def test_fixed_batches_cover_all_images_once(size, processes):
    ranks = [list(FixedBatches(size, 16, r, processes)) for r in range(processes)]
    assert sorted(i for batch_list in ranks for batch in batch_list for i in batch) == [
        *range(size)
    ]
    assert len({len(batch_list) for batch_list in ranks}) == 1
    assert all(0 < len(batch) <= 16 for batch_list in ranks for batch in batch_list)


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
    with pytest.raises(ActivsparseError, match=r"is a folder.*give data.name=image_folder with"):
        build_data(str(tmp_path))


def test_hidden_folders_are_no_classes(tmp_path):
    write_images(tmp_path, ["cat", "dog", ".ipynb_checkpoints"], 10)
    data = build_data("image_folder", str(tmp_path), 32, batch_size=4)
    assert (data.num_classes, data.classes) == (2, ("cat", "dog"))
    labels = [label for _, label in data.samples()]
    assert len(labels) == data.size == 20
    assert sorted(labels) == [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "did you mean digits"),
        ({"name": "image_folder"}, "set data.root"),
        ({"name": "digits", "auto_augment": "triv"}, "did you mean trivial"),
        ({"name": "image_folder", "root": "/nowhere"}, "no folder of images"),
        ({"name": "digits", "batch_size": 5000}, "lower data.batch_size"),
    ],
)
def test_bad_requests_are_named(arguments, message):
    with pytest.raises(ActivsparseError, match=message):
        build_data(**arguments)


def test_unvaried_images_are_training_images():
    """What choices are made by must not be what the best checkpoint is chosen by."""
    data = build_data("digits", image_size=16, batch_size=64)
    held_out = torch.cat([images for images, _ in data.val_dataloader()]).flatten(1)
    passes = [torch.cat([x for x, _ in data.unvaried_dataloader(5)]) for _ in range(2)]
    assert torch.equal(*passes), "the same ones each time"
    assert len(passes[0]) == 5 * 128
    everything = torch.cat([images for images, _ in data.unvaried_dataloader(1000)])
    labels = torch.cat([labels for _, labels in data.unvaried_dataloader(1)])
    assert len(labels.unique()) == 10, "in no order of classes"
    seen = {tuple(image.tolist()) for image in everything.flatten(1)}
    assert not any(tuple(image.tolist()) in seen for image in held_out)


def test_loading_draws_nothing_from_the_stream_of_dropout():
    data = build_data("digits", image_size=16, batch_size=64)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.unvaried_dataloader(1)):
        before = torch.get_rng_state()
        next(iter(loader))
        assert torch.equal(torch.get_rng_state(), before)
    assert build_data("digits", image_size=16, workers=2).train_dataloader().persistent_workers


@pytest.mark.parametrize("kind", ["text", "bomb"])
def test_an_image_that_cannot_be_read_is_named(tmp_path, monkeypatch, kind):
    from PIL import Image

    from activsparse.data import build_data

    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(6):
            Image.new("RGB", (40, 40)).save(tmp_path / label / f"{number}.png")
    if kind == "text":
        for number in range(6):
            (tmp_path / "a" / f"{number}.png").write_text("no image")
    else:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = build_data("image_folder", root=str(tmp_path), image_size=(32, 32), batch_size=4)
    with pytest.raises(ActivsparseError, match=r"\.png: cannot be read as an image \(.*; mend it"):
        list(data.train_dataloader())


def test_training_images_for_a_teachers_size_are_the_same_images():
    small = build_data("digits", image_size=16, batch_size=32, augment=False)
    large = build_data("digits", image_size=16, batch_size=32, augment=False, train_size=32)
    whole = build_data("digits", image_size=32, batch_size=32, augment=False)
    assert small.shape == large.shape == (1, 16, 16)
    images, labels = next(iter(large.train_dataloader()))
    torch.testing.assert_close(images, next(iter(whole.train_dataloader()))[0])
    assert torch.equal(labels, next(iter(small.train_dataloader()))[1])
    for loader in ("val_dataloader", "test_dataloader"):
        ours, theirs = (next(iter(getattr(data, loader)())) for data in (large, small))
        assert torch.equal(ours[0], theirs[0])


def test_images_are_normalised_as_the_weights_want_it():
    own = build_data("digits", batch_size=32)
    given = build_data("digits", batch_size=32, mean=[0.5], std=[0.25])
    assert (given.mean, given.std) == ([0.5], [0.25])
    (a, _), (b, _) = (next(iter(data.val_dataloader())) for data in (own, given))
    torch.testing.assert_close(a * own.std[0] + own.mean[0], b * 0.25 + 0.5)


@pytest.mark.parametrize(
    "wrong", [{"mean": [0.5]}, {"std": [0.5]}, {"mean": [0.5] * 2, "std": [1.0] * 2}]
)
def test_half_a_normalisation_is_refused(wrong):
    with pytest.raises(ActivsparseError, match=r"data.mean and data.std go together"):
        build_data("digits", batch_size=32, **wrong)


def test_a_crop_shows_as_much_as_is_asked(tmp_path):
    """Of images that are one ramp, what a crop shows can be told from its ends."""
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(ramp).save(tmp_path / "train" / label / f"{i}.png")
    shown = {}
    for crop in (0.08, 0.9, 1.0):
        data = build_data(
            "image_folder", str(tmp_path), 64, 4, crop=crop, mean=[0.0] * 3, std=[1.0] * 3
        )
        images = torch.cat([images for images, _ in data.train_dataloader()])
        row = images[:, 0, 32]
        shown[crop] = float((row.max(1).values - row.min(1).values).min())
    assert shown[0.08] < 0.8 < shown[0.9] <= shown[1.0] + 0.12
    assert shown[1.0] > 0.86  # the middle seven eighths
