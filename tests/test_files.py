"""Output files: whole or not at all, and never at the price of something else."""

import os
from pathlib import Path

import pytest

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path


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
