"""Run folders of strangers: no code of theirs runs, and damaged files are one line."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch
import yaml
from runs import TINY, make_run

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.train import load_run, trainer
from activsparse.train.phase import make_teacher
from activsparse.train.prune import follow_pruned, prune_run
from activsparse.train.recipes.read import load_config
from activsparse.train.run.trust import check_trust

PRUNED = "activsparse.models.pruned:pruned"


@pytest.fixture
def foreign(tmp_path):
    """A run folder whose network is made by a file in it, which notes that it ran."""
    folder = tmp_path / "foreign"
    make_run(folder)
    (folder / "hubconf.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n\n\ndef f(**_):\n    raise ValueError('mine')\n"
    )
    options = {"repo_or_dir": str(folder), "model": "f", "source": "local"}
    change(folder, model={"name": "torch.hub:load", "options": options})
    return folder


def change(folder, **sections):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, values in sections.items():
        config[name] = {**(config[name] or {}), **values}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def one_line(arguments, capsys):
    assert main([str(a) for a in arguments]) == 2, arguments
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1, errors
    return errors


def test_no_command_calls_what_a_run_folder_names(foreign, tmp_path, capsys):
    out, new = tmp_path / "x.onnx", tmp_path / "new"
    shutil.copy(foreign / "best.ckpt", foreign / "last.ckpt")
    for arguments in (
        ("export", foreign, "--out", out),
        ("export", foreign, "--out", out, "--checkpoint", "last"),
        ("sensitivity", foreign),
        ("prune", foreign, "--ratio", "0.5", "--out", new),
        ("train", "--resume", foreign),
        ("train", "--resume", foreign, "--recipe", "digits_demo"),
    ):
        errors = one_line(arguments, capsys)
        assert f"{foreign / 'config.yaml'}: model.name calls torch.hub:load" in errors
        assert "--trust" in errors
    assert not (tmp_path / "ran").exists()
    assert not out.exists()
    assert "(mine)" in one_line(("export", foreign, "--out", out, "--trust"), capsys)
    assert (tmp_path / "ran").exists()


def test_no_call_of_python_calls_it_either(foreign, tmp_path):
    recipe = load_config("digits_demo", TINY)
    settings = {"distillation": {"teacher": str(foreign)}, "init_from": str(foreign)}
    teacher = type(recipe).model_validate({**recipe.model_dump(), **settings})
    started = load_config("digits_demo", [*TINY, f"init_from={foreign}"])

    class Digits:
        num_classes = 10

    calls = [
        lambda: load_run(foreign),
        lambda: prune_run(foreign, tmp_path / "pruned", 0.5),
        lambda: trainer.resume(foreign),
        lambda: make_teacher(teacher, Digits(), teacher),
    ]
    for call in calls:
        with pytest.raises(ActivsparseError, match=r"torch.hub:load.*trust=True"):
            call()
    config = yaml.safe_load((foreign / "config.yaml").read_text())["model"]
    options = {"base": config["name"], "options": config["options"], "channels": {}}
    change(foreign, model={"name": PRUNED, "options": options})
    calls = [lambda: load_run(foreign), lambda: follow_pruned(started)]
    for call in calls:
        with pytest.raises(ActivsparseError, match=r"torch.hub:load.*trust=True"):
            call()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "timm:resnet18", "options": {"checkpoint_path": "a.pth"}}, "checkpoint_path"),
        ({"name": "timm:resnet18", "options": {"pretrained": True}}, "pretrained"),
        ({"name": "timm:resnet18", "options": {"pretrained_cfg_overlay": {"file": "a"}}}, "a"),
        ({"name": "resnet18", "options": {"weights": "DEFAULT"}}, "weights"),
        ({"name": "os:system", "options": {}}, "os:system"),
        ({"name": PRUNED, "options": {"base": "os:system"}}, "os:system"),
        ({"name": PRUNED, "options": {"base": ["os:system"]}}, "os:system"),
        ({"name": PRUNED, "options": {"base": PRUNED, "options": {"base": "a:b"}}}, "a:b"),
    ],
)
def test_what_needs_trust(model, words):
    recipe = load_config("digits_demo", TINY)
    config = type(recipe).model_validate({**recipe.model_dump(), "model": model})
    for trust in (False, recipe):
        with pytest.raises(ActivsparseError, match=words):
            check_trust(config, "config.yaml", trust)
    for trust in (True, config):
        check_trust(config, "config.yaml", trust)
    teacher = {"distillation": {"model": model}}
    config = type(recipe).model_validate({**recipe.model_dump(), **teacher})
    with pytest.raises(ActivsparseError, match=words):
        check_trust(config, "config.yaml", False)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "timm:resnet18", "options": {"pretrained": False, "drop_rate": 0.1}},
        {"name": "resnet18", "options": {"weights": None}},
        {"name": PRUNED, "options": {"base": "resnet18", "channels": {}}},
    ],
)
def test_what_needs_none(model):
    recipe = load_config("digits_demo", TINY)
    check_trust(type(recipe).model_validate({**recipe.model_dump(), "model": model}), "f", False)


def test_a_recipe_may_call_what_it_names(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from activsparse.models import SmallResNet\n\n\n"
        "def net(num_classes, in_channels):\n"
        "    size = {'widths': (8, 16), 'blocks': (1, 1)}\n"
        "    return SmallResNet(num_classes, in_channels=in_channels, **size)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = ["model.name=mine:net", "model.options={}", "dense={epochs: 1}"]
    config = load_config("digits_demo", [*TINY[1:3], *model])
    config = type(config).model_validate({**config.model_dump(), "distillation": {"weight": 1}})
    out = tmp_path / "run"
    trainer.train(config, out)
    (out / "summary.json").unlink()
    trainer.resume(out, config)
    with pytest.raises(ActivsparseError, match="mine:net"):
        load_run(out)
    load_run(out, trust=True)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('ran')",)


def _pickled(path):
    path.write_bytes(pickle.dumps(Evil()))


def _saved(content):
    return lambda path: torch.save(content, path)


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TOLD = {"shape": [1, 16, 16], "num_classes": 10}
CHECKPOINTS = {
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no checkpoint"),
    "pickle": _pickled,
    "object": _saved(Evil()),
    "list": _saved([1, 2]),
    "nothing": _saved(None),
    "no weights": _saved({"activsparse": TOLD}),
    "odd weights": _saved({"activsparse": TOLD, "state_dict": {3: 4}}),
    "odd shape": _saved({"activsparse": {**TOLD, "shape": [1, -16, 16]}, "state_dict": {}}),
    "odd classes": _saved({"activsparse": {**TOLD, "num_classes": "10"}, "state_dict": {}}),
    "other weights": _saved({"activsparse": TOLD, "state_dict": {"model.a": torch.ones(2)}}),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged") / "run"
    trainer.train(load_config("digits_demo", TINY), folder)
    return folder


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
@pytest.mark.parametrize("damage", CHECKPOINTS)
def test_a_damaged_checkpoint_is_one_line_and_stays(whole, tmp_path, capsys, name, damage):
    run = shutil.copytree(whole, tmp_path / "run")
    CHECKPOINTS[damage](run / name)
    before = (run / name).read_bytes()
    with pytest.raises(ActivsparseError, match=name) as caught:
        load_run(run, name.removesuffix(".ckpt"))
    assert "\n" not in str(caught.value)
    if name == "last.ckpt":
        (run / "summary.json").unlink()
        assert str(run / name) in one_line(("train", "--resume", run), capsys)
    assert (run / name).read_bytes() == before
    if name == "last.ckpt":
        shutil.copy(whole / name, run / name)
        assert main(["train", "--resume", str(run)]) == 0


def test_weights_alone_are_nothing_to_resume_from(whole, tmp_path, capsys):
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "summary.json").unlink()
    shutil.copy(run / "best.ckpt", run / "last.ckpt")
    assert "last.ckpt: holds weights alone" in one_line(("train", "--resume", run), capsys)
    shutil.copy(whole / "last.ckpt", run)
    change(run, model={"options": {"widths": [4, 8], "blocks": [1, 1]}})
    assert "last.ckpt: is of another network" in one_line(("train", "--resume", run), capsys)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]", b"{", b"3", b"{}", b"null"])
def test_damaged_texts_are_one_line(whole, tmp_path, capsys, name, content):
    run = shutil.copytree(whole, tmp_path / "run")
    if name == "config.yaml" and content == b"{}":
        content = b"model: 3"
    (run / name).write_bytes(content)
    assert str(run / name) in one_line(("train", "--resume", run), capsys)
    assert (run / name).read_bytes() == content
