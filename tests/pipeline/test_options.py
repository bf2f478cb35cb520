"""What `activsparse sparsify` takes, and how it refuses the rest: in its own options, one line."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields

import pytest
import torch
import trees

from activsparse import ActivsparseError
from activsparse.cli import build_parser, main
from activsparse.cli.sparsify import words_of
from activsparse.detect.sample import Sample
from activsparse.pipeline.options import SparsifyOptions, recipe_of
from activsparse.pipeline.work import Work

ASKED = ("--data", "images", "--target-speedup", "1.5", "--out", "out")
KEYS = re.compile(r"\b(?:model|data|training|dense|sparsity|search|distillation)\.(?!onnx)[a-z_]+")


def test_the_recipe_is_finetune_with_what_is_asked_for(place):
    options = SparsifyOptions(
        "resnet18",
        "images",
        1.5,
        weights="default",
        input_size=(96, 64),
        batch_size=8,
        dense_epochs=4,
        epochs=5,
        settings=("training.lr=0.01",),
    )
    config = recipe_of(options)
    assert (config.recipe, config.model.weights) == ("finetune", "default")
    assert (config.data.name, config.data.root) == ("image_folder", str(place / "images"))
    assert (config.data.image_size, config.data.batch_size) == ((96, 64), 8)
    assert (config.dense.epochs, config.training.epochs, config.training.lr) == (4, 5, 0.01)
    assert not config.model.small_images


def test_small_images_get_a_small_stem_but_not_in_networks_of_ones_own(place):
    def small(model: str, weights: str | None = None) -> bool:
        return recipe_of(SparsifyOptions(model, "digits", 1.5, weights)).model.small_images

    assert small("resnet18")
    assert small("timm:resnet18", "default")
    assert not small("resnet18", "own.pt")
    assert not small("own:tiny")


def test_the_command_line_and_the_options_say_the_same(place):
    words = ["m", *ASKED[:4], "--weights", "w.pt", "--input-size", "8x16", "--batch-size", "4"]
    words += ["--dense-epochs", "0", "--epochs", "2", "--threads", "2", "--engines", "openvino"]
    words += ["--fallback", "onnxruntime"]
    words += [
        "--quick",
        "--int8",
        "--alternatives",
        "smaller-input,dense-longer",
        "--set",
        "seed=3",
        "data.workers=1",
    ]
    args = build_parser("sparsify").parse_args(["sparsify", *words, "--out", "out"])
    asked = {field.name: getattr(args, field.name, None) for field in fields(SparsifyOptions)}
    options = SparsifyOptions(**{**asked, "settings": tuple(args.set)})
    assert sorted(words_of(options)) == sorted(words)


FAILURES = [
    (["own:tiny", "--data", "images"], "--target-speedup is missing"),
    (["own:tiny", *ASKED[:4]], "--out is missing"),
    (["own:tiny", "--epochs", "3"], "--epochs is of training"),
    (["dense.onnx", *ASKED], "name the network the file came from"),
    (["resnet19", *ASKED], "did you mean resnet18"),
    (["own:huge", *ASKED], "cannot be imported"),
    (["own:tiny", "--data", "nowhere", *ASKED[2:]], "name a folder of images"),
    (["own:tiny", "--data", "digitz", *ASKED[2:]], "did you mean digits"),
    (["own:tiny", "--data", "boxes", *ASKED[2:]], "Net is no detector, the data have boxes"),
    (["yolov5n", "--data", "labelled", *ASKED[2:]], "no pictures of part train there"),
    (["yolov5n", "--data", "voc2012", *ASKED[2:]], "name the folder that holds its VOCdevkit"),
    (["yolov5n", "--data", "odd", *ASKED[2:]], "instances_train2017.json: no such file"),
    (["own:tiny", "--data", "empty", *ASKED[2:]], "a sub-folder for each class"),
    (["own:tiny", "--data", "images/bars", *ASKED[2:]], "holds images, but no folders of classes"),
    (["own:tiny", "--data", "holed", *ASKED[2:]], "holds no images of b ("),
    (["own:tiny", "--data", "wrap", *ASKED[2:]], "holds a single class, images"),
    (["own:tiny", "--data", "parts", *ASKED[2:]], "holds parts (Test, Train) in the place of"),
    (["own:tiny", "--data", "broken", *ASKED[2:], "--batch-size", "2"], "b/7.png: cannot be read"),
    (["own:raises", *ASKED], "cannot be built (KeyError: 'x')"),
    (["own:SIZE", *ASKED], "is a int, not a function"),
    (["own:lazy", *ASKED], "has a LazyConv2d"),
    (["own:stubborn", *ASKED], "Stubborn does not run on images of shape"),
    (["own:fixed", *ASKED], "has no weights to train"),
    (["faulty:net", *ASKED], "cannot be imported (SyntaxError"),
    (["own:tiny", *ASKED, "--batch-size", "500"], "lower --batch-size"),
    (["own:tiny", *ASKED, "--weights", "no.pt"], "no such file"),
    (["own:tiny", *ASKED, "--set", "training.lrr=1"], "did you mean lr"),
    (["own:tiny", *ASKED, "--set", "sparsity.skip=[q]"], "matches"),
    (["own:tiny", *ASKED, "--input-shape", "x=1x3x8x8"], "give --input-size"),
    (["yolov5n", *ASKED, "--input-size", "32x32"], "is a detector"),
    (["resnet18", *ASKED, "--dense-epochs", "0"], "random weights know nothing"),
    (["own:picky", *ASKED, "--input-size", "16x16"], "choose another --input-size or MODEL"),
    (["own:features", *ASKED, "--input-size", "16x16"], "name a classifier in MODEL"),
    (["own.onnx", "--weights", "x"], "an ONNX file has its own"),
    (["missing.onnx"], "no such file"),
]


@pytest.mark.parametrize(("words", "message"), FAILURES)
def test_mistakes_are_one_line_in_its_own_options(place, monkeypatch, words, message, capsys):
    monkeypatch.setattr("activsparse.pipeline.dense.train", lambda *_, **__: pytest.fail("trained"))
    (place / "boxes").mkdir()
    box = torch.tensor([[8.0, 16, 28, 36]])
    picture = Sample(torch.zeros(3, 32, 32).byte(), box, torch.tensor([1]))
    trees.write_coco(place / "boxes", [picture] * 40)
    (place / "labelled" / "labels" / "train").mkdir(parents=True)
    (place / "labelled" / "labels" / "train" / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    for folder in ("voc2012/Annotations", "voc2012/JPEGImages", "odd/annotations"):
        (place / folder).mkdir(parents=True)
    (place / "odd" / "annotations" / "all.json").write_text("{}")
    (place / "empty").mkdir()
    picture_file = (place / "images" / "bars" / "0.png").read_bytes()
    for file in (
        *("holed/a/1.png", "holed/b/notes.txt", "wrap/images/a/1.png"),
        *("parts/Train/a/1.png", "parts/Test/a/1.png", "broken/.thumbs/1.png"),
        *(f"broken/{label}/{number}.png" for label in "ab" for number in range(8)),
    ):
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(picture_file)
    (place / "holed" / "b" / "notes.txt").write_text("none yet")
    (place / "broken" / "b" / "7.png").write_bytes(picture_file[:100])
    (place / "faulty.py").write_text("def net(:\n")
    assert main(["sparsify", *words]) == 2
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "activsparse: error:" in x)
    assert message in line
    assert not (place / "out").exists()
    keys = KEYS.findall(re.sub(r"--set \S+", "", line))
    assert not keys or "--set" in " ".join(words), line


def test_folders_are_taken_for_what_they_hold(place):
    def name(folder: str) -> str:
        return recipe_of(SparsifyOptions("own:tiny", folder, 1.5)).data.name

    (place / "images" / "settings.yaml").write_text("who: me\n")
    assert name("images") == "image_folder"
    (place / "described").mkdir()
    (place / "described" / "data.yml").write_text("train: elsewhere\nval: there\nnames: [a]\n")
    assert name("described") == "yolo"
    (place / "voc" / "VOCdevkit").mkdir(parents=True)
    assert name("voc") == "voc"


def test_a_folder_of_other_options_is_refused(place, capsys):
    Work(SparsifyOptions("own:tiny", "images", 1.5), place / "out").claim()
    Work(SparsifyOptions("own:tiny", "images", 1.5), place / "out").claim()
    for other, message in (
        (["--target-speedup", "2"], "was begun with 1.5 as --target-speedup, and now it is 2.0"),
        (["--quick"], "was begun without --quick, and now it is given"),
        (["--epochs", "3"], "was begun without --epochs, and now it is 3"),
    ):
        assert main(["sparsify", "own:tiny", *ASKED, *other]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert "name another folder in --out" in line


def test_other_weights_under_the_same_name_are_other_options(place):
    (place / "w.pt").write_bytes(b"one")
    options = SparsifyOptions("own:tiny", "images", 1.5, "w.pt")
    Work(options, place / "out").claim()
    (place / "w.pt").write_bytes(b"two")
    with pytest.raises(ActivsparseError, match=r"begun with w\.pt .* as weights"):
        Work(options, place / "out").claim()


def test_other_images_in_the_same_folder_are_other_options(place):
    options = SparsifyOptions("own:tiny", "images", 1.5)
    Work(options, place / "out").claim()
    (place / "images" / ".thumbnails.db").write_bytes(b"left by a file manager")
    Work(options, place / "out").claim()
    picture = next((place / "images").rglob("*.png"))
    shutil.copy(picture, picture.with_name("one_more.png"))
    with pytest.raises(ActivsparseError, match=r"begun with images \(\d+ images, .* as data"):
        Work(options, place / "out").claim()


def test_a_folder_of_something_else_is_left_alone(place):
    (place / "notes").mkdir()
    (place / "notes" / "own.txt").touch()
    with pytest.raises(ActivsparseError, match="holds other files"):
        Work(SparsifyOptions("own:tiny", "images", 1.5), place / "notes").claim()


@pytest.mark.parametrize("out", ["images", "images/out", "images/../images/deep/out"])
def test_results_do_not_become_images(place, out):
    """A folder among the classes would be one, without images: the data is spoilt by it."""
    before = sorted((place / "images").rglob("*"))
    with pytest.raises(ActivsparseError, match=r"lies within the images.* elsewhere in out"):
        Work(SparsifyOptions("own:tiny", "images", 1.5), place / out).claim()
    assert sorted((place / "images").rglob("*")) == before
