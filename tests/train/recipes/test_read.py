from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.masks import MaskOptions
from activsparse.models import build_model
from activsparse.train import Sparsifier
from activsparse.train.learning.optim import make_optimizer, make_scheduler
from activsparse.train.recipes.config import SparsitySection, TrainingSection
from activsparse.train.recipes.read import (
    differences,
    dump_config,
    load_config,
    read_config,
    recipe_names,
)
from activsparse.train.run.folder import example_input, make_sparsifier


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_survives_a_round_trip(name, tmp_path):
    config = load_config(name)
    assert config.recipe == name
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config))
    assert read_config(file) == config


def test_the_recipes_of_the_paper_differ_only_where_they_say():
    example = load_config("paper_resnet18_flowers102")
    for name, differ in {
        "paper_resnet18_imagenet": {"data.name": "imagenet", "sparsity.end": 0.9},
        "paper_mobilenetv2_imagenet": {"model.name": "mobilenet_v2", "sparsity.end": 0.9},
        "paper_cifar100": {"model.small_images": True, "training.lr": 1e-3, "sparsity.end": 0.9},
    }.items():
        config = load_config(name)
        odd = {text.partition(" is ")[0] for text in differences(example, config)}
        assert set(differ) <= odd, name
        for key, value in differ.items():
            section, _, field = key.partition(".")
            assert getattr(getattr(config, section), field) == value, f"{name} {key}"
        for part in ("optimizer", "schedule", "weight_decay", "label_smoothing", "gradient_clip"):
            assert getattr(config.training, part) == getattr(example.training, part), name
        for part in ("pattern", "criterion", "site", "begin", "schedule", "initial_sparsity"):
            assert getattr(config.sparsity, part) == getattr(example.sparsity, part), name


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_network_its_masks_fit(name):
    """What `activsparse train` checks first, without data and downloads."""
    config = load_config(name, ["model.weights=null"])
    size, channels = config.data.image_size, 1 if config.model.name == "small_resnet" else 3
    model = build_model(
        config.model.name, 10, in_channels=channels, small_images=config.model.small_images
    )
    sparsifier = make_sparsifier(model, example_input((channels, size, size)), config, 100)
    assert (sparsifier is None) == (config.sparsity is None)
    if sparsifier is None:
        return
    assert sparsifier.layers
    assert 0.0 < max(layer.requested for layer in sparsifier.layers) <= 0.5


def test_the_published_example_is_exact():
    config = load_config("paper_resnet18_flowers102")
    assert (config.model.name, config.model.weights) == ("resnet18", "default")
    assert (config.data.name, config.data.image_size, config.data.batch_size) == (
        "flowers102",
        224,
        64,
    )
    t = config.training
    assert (t.epochs, t.optimizer, t.lr, t.schedule) == (400, "adam", 1e-4, "linear")
    assert (t.final_lr, t.weight_decay, t.label_smoothing, t.gradient_clip) == (
        0.01,
        5e-5,
        0.1,
        10,
    )
    assert config.dense is None
    assert config.sparsity == SparsitySection(
        sparsity=0.3,
        pattern="random",
        site="conv",
        skip_stem=False,
        skip_shortcuts=False,
        skip_kernel_sizes=[1],
        begin=0.1,
        end=0.5,
    )


def test_sparsity_section_mirrors_the_sparsifier():
    """The section is the options of masks and the schedule, with the Sparsifier's defaults."""
    own = Sparsifier.__init__.__kwdefaults__
    names = {field.name for field in fields(SparsitySection)}
    schedule = names - {field.name for field in fields(MaskOptions)}
    assert schedule == set(own) - {"options", "total_steps", "seed"}
    assert {name: getattr(SparsitySection(), name) for name in schedule} == {
        name: own[name] for name in schedule
    }


def test_overrides_are_yaml_and_may_open_a_section():
    config = load_config(
        "digits_demo",
        [
            "training.epochs=2",
            "dense=null",
            "sparsity.per_layer={'stages.0*': 0.5}",
            "data.image_size=[28, 20]",
            "training.lr=1e-4",
        ],
    )
    assert config.training.epochs == 2
    assert config.training.lr == 1e-4
    assert config.dense is None
    assert config.sparsity.per_layer == {"stages.0*": 0.5}
    assert config.data.image_size == (28, 20)
    assert load_config("digits_demo", ["sparsity=null"]).sparsity is None


def test_the_dense_phase_takes_what_it_leaves_out_from_training():
    config = load_config("digits_demo", ["training.weight_decay=0.25", "dense.epochs=3"])
    assert config.dense.weight_decay == 0.25
    assert config.dense.epochs == 3
    assert config.dense.lr != config.training.lr


def test_a_file_may_extend_a_recipe(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: digits_demo\nseed: 5\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nsparsity: {sparsity: 0.5}\n")
    config = load_config(str(tmp_path / "mine.yaml"))
    assert (config.recipe, config.seed, config.sparsity.sparsity) == ("mine", 5, 0.5)
    assert config.sparsity.pattern == "tiles"
    (tmp_path / "base.yaml").write_text("extends: mine.yaml\n")
    with pytest.raises(ActivsparseError, match="extends itself"):
        load_config(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epoch=3"], "unknown key training.epoch; did you mean epochs"),
        (["dense.optimiser=sgd"], "did you mean optimizer"),
        (["spasity.sparsity=0.1"], "unknown key spasity; did you mean sparsity"),
        (["training.epochs=many"], "training.epochs: should be a valid integer, not .many"),
        (
            ["sparsity=0.3"],
            "sparsity is a section, not a value; it has the keys sparsity, pattern",
        ),
        (["training.schedule=cosin"], "training.schedule: 'cosin' is unknown; did you mean cosine"),
        (["data.image_size=[3]"], r"data.image_size: should be a valid integer or a pair, not"),
        (["distillation.techer=dense"], "unknown key distillation.techer; did you mean teacher"),
        (["distillation.model.nmae=x"], "unknown key distillation.model.nmae; did you mean name"),
        (["training.epochs"], "write KEY=VALUE"),
        (["training.lr={"], "is not YAML"),
        (["training.lr=-1"], "training.lr: should be greater than 0"),
    ],
)
def test_bad_overrides_are_named(overrides, message):
    with pytest.raises(ActivsparseError, match=message):
        load_config("digits_demo", overrides)


def test_several_mistakes_are_one_line_with_each_key_once(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "extends: digits_demo\ntraining: {lr: -1}\ndense: {epochs: 0}\n"
        "data: {image_size: big}\nsparsity: {skip_kernel_sizes: [x], per_layer: {'a.b*': y}}\n"
    )
    with pytest.raises(ActivsparseError) as caught:
        load_config(str(file))
    where, *problems = str(caught.value).replace(f"{file}: ", f"{file}; ").split("; ")
    assert where == str(file)
    assert [problem.partition(": ")[0] for problem in problems] == [
        *("data.image_size", "dense.epochs", "training.lr", "sparsity.per_layer.a.b*"),
        "sparsity.skip_kernel_sizes.0",
    ]


def test_unknown_recipes_and_broken_files(tmp_path):
    with pytest.raises(ActivsparseError, match="did you mean digits_demo"):
        load_config("digits-demo")
    with pytest.raises(ActivsparseError, match="no such file"):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1,\n")
    with pytest.raises(ActivsparseError, match="is not YAML"):
        load_config(str(tmp_path / "bad.yaml"))
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ActivsparseError, match="holds no keys"):
        load_config(str(tmp_path / "list.yaml"))


def _references(merge: str = "") -> str:
    """Nine levels, each nine times the one before."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 10):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} " + (f"{{<<: [{inner}]}}" if merge else f"[{inner}]"))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"extends: digits_demo\nseed: \xff\xfe\n", "is not UTF-8"),
        (("seed: " + "[" * 5000).encode(), "nested deeper"),
        (("seed: " + "[" * 100 + "]" * 100).encode(), "nested deeper"),
        (("seed: " + "{a: " * 5000 + "1" + "}" * 5000).encode(), "nested deeper"),
        (_references().encode(), "more than"),
        (_references("merge").encode(), "more than"),
        (b"seed: &a [*a]", "nested deeper"),
        (b"seed: " + b"1" * 5000, "a number of 5000 digits"),
        (b"seed: 0x" + b"f" * 5000, "a number of 5002 digits"),
        (b"seed: " + b"9" * 30, "seed: should be less than"),
        (b"seed: 2026-99-99", "is not YAML"),
        (b"seed: !!int ''", "is not YAML"),
        (b"seed: !!python/object/apply:os.system [id]", "is not YAML"),
        (b"\x00\x01", "is not YAML"),
        (b"? [1, 2]\n: 3", "holds no keys|unknown key|is not YAML"),
    ],
)
def test_strange_files_are_one_line(tmp_path, content, words):
    for name in ("recipe.yaml", "config.yaml"):
        (tmp_path / name).write_bytes(content)
    recipe, config = str(tmp_path / "recipe.yaml"), tmp_path / "config.yaml"
    for read in (lambda: load_config(recipe), lambda: read_config(config)):
        with pytest.raises(ActivsparseError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1500


def test_strange_overrides_are_one_line():
    for value in ("[" * 5000, "1" * 5000, "!!int ''", "2026-99-99"):
        with pytest.raises(ActivsparseError) as caught:
            load_config("digits_demo", [f"seed={value}"])
        assert "\n" not in str(caught.value)


def test_another_start_is_a_difference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, one, two, same = (
        load_config("digits_demo", [f"init_from={start}"])
        for start in ("null", "runs/a", "runs/b", tmp_path / "runs" / "a")
    )
    assert differences(one, same) == []
    assert differences(plain, plain) == []
    assert differences(one, two) == ["init_from is runs/a there, runs/b here"]
    assert differences(plain, two) == ["init_from is None there, runs/b here"]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_learning_rates(schedule, warmup):
    options = TrainingSection(schedule=schedule, warmup=warmup, lr=0.5, final_lr=0.01)
    optimizer = make_optimizer(nn.Linear(2, 2), options)
    scheduler = make_scheduler(optimizer, options, 40)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    last = optimizer.param_groups[0]["lr"]
    peak = 0 if schedule != "one_cycle" and not warmup else 10 if schedule != "one_cycle" else 11
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == pytest.approx(peak, abs=1)
    expected = {"constant": 0.5, "one_cycle": 0.5 / 25 * 0.01}.get(schedule, 0.005)
    # OneCycleLR ends one step early, at its own last step.
    assert (rates[-1] if schedule == "one_cycle" else last) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_no_decay_on_biases_and_norms(kind):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    optimizer = make_optimizer(model, TrainingSection(optimizer=kind, weight_decay=0.1))
    for group in optimizer.param_groups:
        assert group["params"]
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    assert isinstance(
        optimizer,
        {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[kind],
    )
