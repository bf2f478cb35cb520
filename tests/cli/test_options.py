"""Every option of every command: what it says of itself, and what it makes of odd texts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from activsparse import cli
from activsparse.cli import numbers

ODD = ["", " ", "nan", "inf", "-inf", "-1", "0", "1.5", "1e400", "9" * 30, "9" * 5000, "0x10"]
ODD += [
    "１２",
    "x" * 5000,
    "\udcff",
    "\x00",
    "a\nb",
    "1x",
    "x1",
    "1x-1",
    "=",
    "x=",
    "=1x1",
    "a=1x0",
]


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name in cli.COMMANDS:
        parser = cli.build_parser(name)
        (choices,) = (
            action.choices
            for action in parser._actions
            if isinstance(action, argparse._SubParsersAction)
        )
        yield name, choices[name]


PARSERS = dict(parsers())


def options() -> list[tuple[str, argparse.Action]]:
    return [
        (name, action)
        for name, parser in PARSERS.items()
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]


def label(option: object) -> str:
    return option.dest if isinstance(option, argparse.Action) else str(option)


OPTIONS = options()


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=label)
def test_help_is_of_one_kind(command: str, option: argparse.Action):
    assert option.help, "says nothing"
    assert option.help[0].islower() or option.help.split()[0][:2].isupper(), option.help
    assert not option.help.endswith("."), option.help
    if option.nargs != 0 and option.choices is None:
        assert option.metavar, "its value has no name"
        assert str(option.metavar)[0].isupper()
    if option.default not in (None, False, [], True):
        assert "default:" in option.help, f"does not say its default, {option.default}"


READERS = [name for name, parser in PARSERS.items() if "--input-shape" in parser.format_help()]
"""Those that read a model of the user's: they take the sizes that it leaves open."""


def test_what_reads_a_model_takes_its_sizes():
    said = {name: " ".join(parser.format_help().split()) for name, parser in PARSERS.items()}
    named = {name for name, text in said.items() if " ONNX file" in text or "ONNX model" in text}
    named -= {"export", "sensitivity", "train", "plan", "prune", "report"}  # networks of torch
    assert named <= set(READERS)
    assert len(READERS) > 10


@pytest.mark.parametrize("command", READERS)
def test_what_reads_a_model_takes_the_fallback(command: str):
    (option,) = (a for a in PARSERS[command]._actions if "--fallback" in a.option_strings)
    assert option.choices == ("onnxruntime",)
    assert option.default is None


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:9]))
@pytest.mark.parametrize("name", numbers.__all__)
def test_odd_texts_are_refused_or_taken(name: str, text: str):
    made = {"whole": numbers.whole(2, 9), "number": numbers.number(0, 1, "share")}
    parse = made.get(name, getattr(numbers, name))
    try:
        value = parse(text)
    except argparse.ArgumentTypeError as error:
        message = str(error)
    else:
        message = ""
        assert value not in ("", " ")
        assert not isinstance(value, float) or 0 <= value < 1
        assert not isinstance(value, int) or 0 <= value < 2**31
    assert len(message) < 200


@pytest.mark.parametrize(
    ("command", "option"),
    [(c, o) for c, o in OPTIONS if o.option_strings and o.type not in (None, str)],
    ids=label,
)
def test_every_option_answers_odd_texts_in_one_line(command: str, option: argparse.Action, capsys):
    """As far as the parser sees: it takes the text, or ends with 2 and a line."""
    parser = PARSERS[command]
    flag = option.option_strings[-1]
    for text in ODD:
        status = _status(parser, [f"{flag}={text}"])
        printed = capsys.readouterr().err
        if status or flag in printed:
            assert status == 2
            (line,) = printed.splitlines()
            assert flag in line


def _status(parser: argparse.ArgumentParser, words: list[str]) -> object:
    """What the parser ends with; 0 where it lacks nothing but other words."""
    for action in parser._actions:
        action.required = False
        if not action.option_strings:
            action.nargs = "*"
    for group in parser._mutually_exclusive_groups:
        group.required = False
    try:
        parser.parse_args(words)
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.parametrize(
    "words",
    [
        ["mask", "--sparsity", "1.5"],
        ["mask", "--sparsity", "-0.1"],
        ["bench", "--repeat", "-1"],
        ["bench", "--threads", "99999999999"],
        ["explain", "--repeat", "99999999999"],
        ["verify", "--seed", "-1"],
        ["prune", "--ratio", "nan"],
        ["sensitivity", "--sparsities", "0.3", "inf"],
        ["train", "--target-speedup", "nan"],
        ["detect", "--score", "nan"],
        ["export", "--opset", "0"],
        ["run", "--batch", "0"],
    ],
)
def test_numbers_out_of_range(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[:1], *words[1:], "model"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument {words[1]}: {words[-1]!r} is " in line
