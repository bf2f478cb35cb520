"""Only tests that reach a function are run against a fault in it."""

from __future__ import annotations

import runpy
import textwrap
from pathlib import Path

import pytest

from mutants.reach import Reach

SOURCE = """
def used(x):
    y = x + 1
    return y


def prepared(x):
    return x * 2


def unused(x):
    return x - 1


LIMIT = used(3)
"""
TESTS = """
def prepare():
    return prepared(1)


def test_of_used():
    assert used(1) == 2


def test_of_both():
    assert used(1) == prepared(1)
"""


def lines_of(text: str) -> int:
    return next(i for i, line in enumerate(SOURCE.splitlines(), 1) if line.strip() == text)


@pytest.fixture
def reach(tmp_path: Path):
    """Asks which of a file's tests reach a line; `fixture`: whether one prepares by itself."""
    (tmp_path / "code.py").write_text(SOURCE.replace("LIMIT = used(3)\n", ""))
    test = tmp_path / "test_code.py"
    test.write_text(textwrap.dedent(TESTS))

    def of(text: str, fixture: bool = False, status: int = 0) -> list[str]:
        def run() -> int:
            code = runpy.run_path(str(tmp_path / "code.py"))
            tests = runpy.run_path(str(test), init_globals=code)
            if fixture:
                tests["prepare"]()
            tests["test_of_used"]()
            tests["test_of_both"]()
            return status

        found = Reach(tmp_path, ["code.py"], tmp_path / f"note{fixture}{status}.json")
        tests = found.tests("code.py", lines_of(text), str(test), run)
        return [name.replace(str(test), "file") for name in tests]

    return of


def test_a_function_is_reached_by_whoever_calls_it(reach):
    assert reach("y = x + 1") == ["file::test_of_both", "file::test_of_used"]
    assert reach("return x * 2") == ["file::test_of_both"]
    assert reach("return x - 1") == []


def test_what_a_fixture_runs_may_be_of_any_test(reach):
    assert reach("return x * 2", fixture=True) == ["file"]


def test_what_runs_on_import_may_be_of_any_test(reach):
    assert reach("LIMIT = used(3)") == ["file"]


def test_tests_that_fail_without_a_fault_are_no_judges(reach):
    with pytest.raises(RuntimeError, match="fails without any fault"):
        reach("y = x + 1", status=1)
