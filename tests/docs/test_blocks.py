"""Every command and snippet of README and the docs runs in a test, or it is said why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blocks import NOT_RUN, ROOT, RUN, lines_of, pages

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = None

LINES = [line for page in pages() for line in lines_of(page)]


def matching(rule, line):
    page, start, _ = rule
    return re.fullmatch(page, line.page) and re.match(start, line.text)


@pytest.mark.parametrize("page", pages())
def test_each_runs_or_has_a_reason_not_to(page):
    for line in lines_of(page):
        found = [rule for rule in (*RUN, *NOT_RUN) if matching(rule, line)]
        assert found, (
            f"{line.page}: `{line.text}` runs in no test; run it in one and say so in "
            "tests/docs/blocks.py, or add it to NOT_RUN there with a reason"
        )


@pytest.mark.parametrize("rule", [*RUN, *NOT_RUN], ids=lambda rule: f"{rule[0]} {rule[1]}")
def test_no_rule_is_left_over(rule):
    assert any(matching(rule, line) for line in LINES)


@pytest.mark.parametrize("rule", RUN, ids=lambda rule: f"{rule[0]} {rule[1]}")
def test_the_tests_exist(rule):
    for line in LINES:
        if matching(rule, line):
            name = rule[2].format(page=Path(line.page).stem.replace("-", "_"))
            file, _, function = name.partition("::")
            assert (ROOT / file).is_file(), name
            assert f"def {function or 'test_'}" in (ROOT / file).read_text()


@pytest.mark.skipif(tomllib is None, reason="Python 3.10 reads no TOML")
def test_extras_to_install_exist():
    """`pip install` itself is left to the tests of wheels; what it is asked for is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    texts = [(ROOT / page).read_text() for page in pages()]
    named = {
        name.strip()
        for text in texts
        for group in re.findall(r"pip install [^\n]*?(?:\.|activsparse)\[([\w, -]+)\]", text)
        for name in group.split(",")
    }
    assert {"bench", "train", "litert", "prune"} <= named
    assert named <= set(extras)
    for name in re.findall(
        r"`(\w+)`", texts[pages().index("README.md")].partition("| extra |")[2].partition("\n\n")[0]
    ):
        assert name in extras or name in NAMES_IN_TABLE, name


NAMES_IN_TABLE = {
    *("info", "mask", "compile", "explain", "run", "calibrate", "verify", "check", "sparsify"),
    *("train", "export", "sensitivity", "plan", "report", "detect", "quantize", "prune"),
    *("convert", "xnnpack", "inductor", "bench"),
}
"""Commands and engines beside the extras."""
