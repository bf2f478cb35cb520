"""No function compiled for one instruction set can be linked for another.

A linker keeps one of several weak definitions of a function: were it the one compiled for AVX-512,
it would run on machines without. So what a kernel object defines, nobody else may.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from c_programs import LIBRARY, needs_c

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")


def functions(objects: Path) -> dict[str, set[str]]:
    """The global and weak functions of a folder's object files, and which of these define them."""
    defined: dict[str, set[str]] = defaultdict(set)
    for file in objects.rglob("*.o"):
        listed = subprocess.run(
            ["nm", "--defined-only", file], capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            _, kind, name = line.split(maxsplit=2)
            if kind in "TW":
                defined[name].add(file.name)
    return defined


def shared_with_kernels(objects: Sequence[Path]) -> str:
    """What a kernel object of these folders defines that another one does, too, by name."""
    owners: dict[str, set[str]] = defaultdict(set)
    for folder in objects:
        for name, files in functions(folder).items():
            owners[name] |= files
    shared = {
        name: files
        for name, files in owners.items()
        if len(files) > 1 and any(file.startswith("target_") for file in files)
    }
    return subprocess.run(
        ["c++filt"],
        input="".join(f"{name} {files}\n" for name, files in shared.items()),
        text=True,
        capture_output=True,
    ).stdout


@needs_c
@needs_nm
@pytest.mark.parametrize(
    "folders",
    [["activsparse_objects"], ["activsparse_compact_kernels", "activsparse_litert"]],
    ids=["library", "delegate"],
)
def test_kernels_of_one_instruction_set_stay_theirs(folders: list[str]) -> None:
    assert LIBRARY is not None
    objects = [LIBRARY.parent / "CMakeFiles" / f"{folder}.dir" for folder in folders]
    assert any(objects[0].rglob("target_*.o"))
    assert shared_with_kernels(objects) == ""
