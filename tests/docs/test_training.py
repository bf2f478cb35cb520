"""The examples of docs/training.md and recipes.md: the Python runs, the recipes exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from activsparse.cli import build_parser
from activsparse.train.recipes.read import load_config, recipe_names
from activsparse.train.run.quiet import quiet_lightning

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / name).read_text() for name in ("training.md", "recipes.md"))
COMMANDS = re.findall(r"^(?:torchrun .* -m )?(activsparse train .*)$", TEXT, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quiet_lightning():
            exec("\n".join(blocks("python")), {"__name__": "training"})
    finally:
        torch.set_num_threads(threads)
    assert "stages.0.0.conv1 (28, 28) 0.3" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_name_recipes_and_keys_that_exist(command):
    _, *arguments = shlex.split(command)
    args = build_parser("train").parse_args(arguments)
    if args.recipe:
        load_config(args.recipe, args.set)


def test_the_recipe_of_ones_own_is_valid(tmp_path):
    (recipe,) = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(recipe)
    config = load_config(str(tmp_path / "mine.yaml"))
    assert config.dense is not None
    assert config.distillation is not None


def test_every_recipe_is_listed():
    for name in recipe_names():
        family, _, variant = name.rpartition("_")
        assert f"`{name}`" in TEXT or (f"`{family}_" in TEXT and f"`_{variant}`" in TEXT), name
