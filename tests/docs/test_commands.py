"""Every `activsparse` command in the README and the docs is one that its parser takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from activsparse.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[list[str]]:
    """The words of each command that stands in a block of its own or behind another program."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [
        line
        for language, block in blocks
        if language in ("", "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    behind = r"(?:taskset -c \S+ |torchrun .* -m )?activsparse (\w+.*)"
    found = [match[1] for line in lines if (match := re.match(behind, line))]
    return [shlex.split(words, comments=True) for words in found]


EVERY = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), EVERY, ids=lambda x: x if isinstance(x, str) else "")
def test_the_parser_takes_it(page, words):
    assert words[0] in COMMANDS, words
    build_parser(words[0]).parse_args(words)


def test_there_are_some():
    assert len([page for page, _ in EVERY if page == "README.md"]) >= 10
    assert {"README.md", "tutorial.md", "recipes.md"} <= {page for page, _ in EVERY}
