"""Whatever is wrong with an image file, every reader says so in one line."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.detect.draw import read_picture
from activsparse.pictures import open_picture
from activsparse.quantisation.samples import Preprocessing


def png() -> bytes:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(file, "png")
    return file.getvalue()


def broken(kind: str) -> bytes:
    whole = png()
    begin = whole.index(b"IDAT")
    return {
        "text": b"no image at all",
        "cut": whole[: len(whole) // 2],
        # Pillow raises a SyntaxError where pixels break off before a chunk whose name is none.
        "chunk": whole[: begin - 4] + b"\0\0\0\x64" + whole[begin : begin + 104] + b"\0\0\0\0" * 9,
        "name": whole[: begin + 2] + b"\x01\x02" + whole[begin + 4 :],
    }[kind]


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_values_of_16_bits_are_not_cut_off(tmp_path, ending, mode):
    seed = 5
    values = np.random.default_rng(seed).integers(0, 1 << 16, (7, 9), np.uint16)
    file = tmp_path / f"wide.{ending}"
    Image.fromarray(values).save(file)
    got = np.asarray(open_picture(file, mode)).reshape(7, 9, -1)
    assert np.abs(got - values[..., None] / 257).max() < 1, f"seed {seed}"


def test_values_of_8_bits_in_wide_numbers_stay(tmp_path):
    seed = 6
    values = np.random.default_rng(seed).integers(0, 1 << 8, (7, 9), np.uint8)
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "wide.tif")
    got = np.asarray(open_picture(tmp_path / "wide.tif", "L"))
    np.testing.assert_array_equal(got, values, err_msg=f"seed {seed}")


def test_values_of_no_known_range_are_refused(tmp_path):
    for number, values in enumerate((np.full((7, 9), 0.5, np.float32), np.full((7, 9), 1 << 20))):
        file = tmp_path / f"{number}.tif"
        Image.fromarray(values.astype(np.float32 if number == 0 else np.int32)).save(file)
        with pytest.raises(ActivsparseError, match="scale them to 8 bits"):
            open_picture(file)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ActivsparseError, match=r"pipe\.png: cannot be read as an image \(a pipe"):
        open_picture(tmp_path / "pipe.png")


@pytest.mark.parametrize("kind", ["text", "cut", "chunk", "name"])
def test_every_reader_names_the_file(tmp_path, kind):
    folder = tmp_path / "train" / "a"
    for label in "ab":
        (tmp_path / "train" / label).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "train" / label / f"{i}.png").write_bytes(broken(kind))
    data = build_data("image_folder", str(tmp_path), 8, 2)
    for read in (
        lambda: open_picture(folder / "0.png"),
        lambda: read_picture(folder / "0.png"),
        lambda: Preprocessing().read(folder / "0.png", (3, 8, 8)),
        lambda: next(iter(data.train_dataloader())),
    ):
        with pytest.raises(ActivsparseError, match=r"\d\.png: (not a picture|cannot be read)"):
            read()


@pytest.mark.parametrize(("mode", "shape"), [("RGB", (40, 40, 3)), ("L", (40, 40))])
def test_a_whole_one_is_read(tmp_path, mode, shape):
    (tmp_path / "x.png").write_bytes(png())
    picture = open_picture(tmp_path / "x.png", mode)
    expected = np.asarray(Image.open(io.BytesIO(png())).convert(mode))
    assert np.array_equal(np.asarray(picture), expected)
    assert expected.shape == shape
