"""In continuous integration a skipped test is a failure, unless its reason is listed.

A pytest plugin, loaded by pyproject.toml; ACTIVSPARSE_CI=1 turns it on.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("allowed_skips.txt")


def allowed(content: str) -> list[re.Pattern[str]]:
    """The expressions of a list; ` #` starts a comment."""
    lines = (re.split(r"(?:^|\s)#", line)[0].strip() for line in content.splitlines())
    return [re.compile(line) for line in lines if line]


class UnlistedSkips:
    """Collects skips whose reason is not listed, and fails the session for them."""

    def __init__(self) -> None:
        self._patterns = allowed(LIST.read_text())
        self._found: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(pattern.search(reason) for pattern in self._patterns):
            self._found.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section(f"skips that {LIST.name} does not list", red=True)
            for line in self._found:
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("ACTIVSPARSE_CI") == "1":
        config.pluginmanager.register(UnlistedSkips(), "unlisted-skips")
