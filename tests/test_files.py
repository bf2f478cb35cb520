"""Output files: whole or not at all, and never at the price of something else."""

import errno
import os
from pathlib import Path

import pytest

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path, file_path, require_file


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_names_the_file(tmp_path: Path, code: int) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(ActivsparseError, match=r"file: cannot be written \(.*make room"):  # noqa: SIM117
        with atomic_path(target):
            raise OSError(code, os.strerror(code))
    with pytest.raises(PermissionError), atomic_path(target):
        raise PermissionError(errno.EACCES, "of another file", "other")
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.touch()
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path(os.devnull)):
        with (
            pytest.raises(ActivsparseError, match="a device or a pipe"),
            atomic_path(path),
        ):
            pass
    assert pipe.is_fifo()


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ActivsparseError, match="absent"),
        atomic_path(tmp_path / "absent" / "out.txt"),
    ):
        pass


PATHS = {
    "too long": "a" * 5000,
    "too deep": "a/" * 5000,
    "a zero byte": "a\0b",
    "no path": 5,
    "nothing": None,
    "empty": "",
    "a list": ["a"],
    "a folder": ".",
    "a device": os.devnull,
    "a pipe": "pipe",
    "links in a circle": "circle",
    "a file as a folder": "file/below",
    "line breaks": "a\nb\x1b[2J",
    "no UTF-8": b"\xff\xfe",
}


@pytest.fixture
def odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("circle").symlink_to("circle")
    Path("file").touch()
    return tmp_path


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_odd_paths_to_read(odd_folder: Path, path: object) -> None:
    with pytest.raises(ActivsparseError) as caught:
        require_file(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize("path", [None, 5, ["a"], "", "a\0b", b"\x08\0" * 10_000])
def test_what_is_no_path_is_named_by_its_argument(path: object) -> None:
    with pytest.raises(ActivsparseError, match=r"^dense: ") as caught:
        file_path(path, "dense")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_odd_paths_to_write(odd_folder: Path, path: object) -> None:
    before = sorted(odd_folder.iterdir())
    refused = None
    try:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
    except ActivsparseError as error:
        refused = str(error)
    if refused is None:
        assert isinstance(path, str | bytes)
        assert Path(os.fsdecode(path)).read_text() == "new"
    else:
        assert refused.isprintable()
        assert sorted(odd_folder.iterdir()) == before


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 255)
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
