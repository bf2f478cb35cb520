"""Which wheels `make wheels` makes of the Pythons at hand, and what it says of the others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "cmake" / "wheels.py"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for which a Python called 3.11-a is one of version 3.11."""
    spec = importlib.util.spec_from_file_location("wheels", SCRIPT)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "version_of", lambda python: python.name.split("-")[0] or None)
    return module


def test_each_wheel_is_built_by_the_first_python_that_can(wheels):
    pythons = [Path(name) for name in ("-broken", "3.9-a", "3.13-a", "3.11-a", "3.11-b", "3.12-a")]
    built_by = {"3.10": None, "3.11": Path("3.11-a"), "3.12": Path("3.13-a")}
    assert wheels.wanted(pythons) == built_by


def test_what_is_not_made_is_said_and_no_failure(wheels, monkeypatch, capsys, tmp_path):
    def make(python: Path, machine: str, out: Path, test: bool) -> str:
        if machine == "aarch64":
            raise wheels.NotMadeError("there is no compiler")
        return f"made by {python.name}"

    monkeypatch.setattr(wheels, "make", make)
    monkeypatch.setattr(wheels, "pythons_at_hand", lambda: [Path("3.11-a")])
    arguments = ["wheels.py", "--machine", "x86_64", "aarch64", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    wheels.main()
    assert capsys.readouterr().out.splitlines() == [
        "made by 3.11-a",
        "not made: x86_64, Python 3.10: no such Python with headers is at hand",
        "not made: x86_64, Python 3.12 and later: no such Python with headers is at hand",
        "not made: aarch64, Python 3.10: no such Python with headers is at hand",
        "not made: aarch64, Python 3.11: there is no compiler",
        "not made: aarch64, Python 3.12 and later: no such Python with headers is at hand",
    ]
    monkeypatch.setattr(sys, "argv", [*arguments[:2], "aarch64", "--python", "3.11-a"])
    with pytest.raises(SystemExit) as ended:
        wheels.main()
    assert ended.value.code == 3
