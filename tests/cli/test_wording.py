"""What goes wrong at the command line is answered in its own words, and only there."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import parser

from activsparse import ActivsparseError, Session, cli, quantize
from activsparse.cli.wording import spell
from activsparse.engine.compile import compile_file
from activsparse.errors import Option
from activsparse.export.mask import mask_model
from activsparse.litert import convert

# A recipe's key, or a value that follows an option, is no argument of Python.
KEYWORD = re.compile(r"(?<![\w.])(?<!--set )(?<!--input-shape )[a-z_]{2,}=(?!=)")
OPTION = re.compile(r"(?<!\w)--[a-z]")


@pytest.fixture
def foreign(tmp_path):
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y)
        <float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}> { c = Conv(x, w) y = Tan(c) }"""
    )
    onnx.save(model, tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


FAILURES = [
    (["explain", "{foreign}"], "with --fallback onnxruntime"),
    (["verify", "{foreign}"], "with --fallback onnxruntime"),
    (["bench", "--dense", "{foreign}"], "with --fallback onnxruntime"),
    (["compile", "{foreign}", "--out", "p.plan"], "with activsparse run --fallback onnxruntime"),
    (["compile", "{foreign}", "--out", "p.plan", "--fallback", "onnxruntime"], "a plan holds"),
    (["convert", "{foreign}", "--tflite", "t"], "with activsparse run --fallback onnxruntime"),
    (
        ["convert", "{foreign}", "--tflite", "t.tflite", "--fallback", "onnxruntime"],
        "a .tflite file holds LiteRT's operators only; replace it in the model, or run the model "
        "itself with activsparse run --fallback onnxruntime",
    ),
    (["explain", "{dynamic}"], "for example --input-shape x=1x3x224x8"),
    (["compile", "{dynamic}", "--out", "p.plan"], "for example --input-shape x=1x3x224x8"),
    (["bench", "--dense", "{dynamic}"], "for example --input-shape x=1x3x224x224"),
    (["mask", "{dynamic}", "--sparsity", "0.3", "--out", "m.onnx"], "--include-stem"),
    (["mask", "{dynamic}", "--sparsity", "0.3", "--include-stem", "--out", "m"], "--input-size 2"),
    (["mask", "{sparse}", "--sparsity", "0.3", "--out", "m.onnx"], "use --replace"),
    (["mask", "{dense}", "--sparsity", "0.3", "--skip", "q", "--out", "m"], "--skip 'q' matches"),
    (
        ["plan", "resnet18", "--data", ".", "--target-speedup", "2", "--out", "p.yaml"],
        "give --data image_folder with --data-root .",
    ),
    (["run", "{dense}", "--input", "{x}", "--output", "y.npy"], "--input-shape x=2x2"),
]


@pytest.mark.parametrize(("words", "message"), FAILURES)
def test_the_command_line_names_its_options(
    foreign, dynamic, dense, sparse, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((2, 2), np.float32))
    files = {"foreign": foreign, "dynamic": dynamic, "dense": dense, "sparse": sparse}
    assert cli.main([word.format(x="x.npy", **files) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not KEYWORD.search(line), line


def test_python_is_told_arguments(foreign, dynamic, dense, sparse, tmp_path):
    for call, message in (
        (lambda: Session(foreign), "with fallback='onnxruntime'"),
        (lambda: Session(dynamic), "input_shapes={'x': (1, 3, 224, 8)}"),
        (lambda: Session(dense).run(np.zeros((2, 2), np.float32)), "input_shapes={'x': (2, 2)}"),
        (lambda: mask_model(onnx.load(sparse), 0.3), "use replace=True"),
        (lambda: mask_model(onnx.load(dense), 0.3, skip=["q"]), "skip 'q' matches"),
        (lambda: compile_file(foreign, tmp_path / "p", fallback="onnxruntime"), "a plan holds"),
        (lambda: compile_file(foreign, tmp_path / "p", fallback="tvm"), "fallback='tvm'"),
        (lambda: quantize(foreign, {}, fallback="tvm"), "fallback='tvm'"),
        (lambda: convert(foreign, tmp_path / "t", fallback="onnxruntime"), "holds LiteRT's"),
    ):
        with pytest.raises(ActivsparseError) as caught:
            call()
        assert message in str(caught.value)
        assert not OPTION.search(str(caught.value))


def test_bench_and_compile_take_the_fallback(foreign, dense, tmp_path, capsys):
    words = ["bench", "--dense", foreign, "--repeat", 1, "--fallback", "onnxruntime"]
    assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
    words = ["compile", dense, "--out", tmp_path / "p.plan", "--fallback", "onnxruntime"]
    assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert Session(tmp_path / "p.plan").inputs == [("x", (1, 3, 8, 8))]


def test_what_a_command_makes_itself_is_no_option():
    assert spell(Option("example_input")) == "the example input"


def test_commands_that_need_no_engine_take_the_fallback(foreign, dense, tmp_path, capsys):
    out, samples = tmp_path / "out.onnx", tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    for words, said in (
        (["info", foreign], "runs it with --fallback onnxruntime"),
        (["mask", foreign, "--sparsity", 0.3, "--include-stem", "--out", out], "1 masked layers"),
        (["quantize", foreign, "--data", samples, "--out", out], "int8 by activsparse"),
        (["quantize", dense, "--data", samples, "--out", out], "int8 by activsparse"),
        (["convert", dense, "--tflite", tmp_path / "dense.tflite"], "agrees"),
    ):
        words = [str(word) for word in (*words, "--fallback", "onnxruntime")]
        assert cli.main(words) == 0, capsys.readouterr().err
        assert said in " ".join(capsys.readouterr().out.split())


def test_without_it_onnxruntime_runs_all_of_a_quantised_network(foreign, tmp_path, capsys):
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32))
    words = ["quantize", foreign, "--data", samples, "--out", tmp_path / "out.onnx"]
    assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
    assert "int8 by onnxruntime" in capsys.readouterr().out
