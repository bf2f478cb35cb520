"""Pytest plugin: LiteRT's delegate is the library given by `--delegate`, a sanitized one say."""

from __future__ import annotations

from pathlib import Path

import pytest

from activsparse.litert import delegate


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--delegate", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    library = config.getoption("--delegate").absolute()
    delegate.installed_library = lambda name: library
