"""Sizes that a model leaves open, given as options to every command that opens one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from activsparse import cli
from activsparse.errors import ActivsparseError
from activsparse.input_sizes import InputSizes, image_axes


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        ((None, 3, None, None), (2, 3)),
        ((1, 3, 8, 8), (2, 3)),
        ((1, 16, 8, None), (2, 3)),
        ((None, None, None, 3), (1, 2)),
        ((1, None, 8, 16), (1, 2)),
        ((1, 8, 8, 3), (1, 2)),
        ((1, 8, None, 3), (1, 2)),
        ((1, 3, None, 3), (2, 3)),
        ((1, None, None, None), None),
        ((1, None, 8, None), None),
    ],
)
def test_height_and_width_are_told_by_what_is_open(dims, axes):
    assert image_axes(dims) == axes


INPUTS = {"x": (None, 3, None, None), "y": (None, None, None, 3), "z": (None, 7), "s": (1,)}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (InputSizes(), {}),
        (InputSizes(input_size=(8, 9)), {"x": (None, 3, 8, 9), "y": (None, 8, 9, 3)}),
        (
            InputSizes(batch=4),
            {"x": (4, 3, None, None), "y": (4, None, None, 3), "z": (4, 7), "s": (1,)},
        ),
        (
            InputSizes({"x": (2, 3, 5, 5)}, (8, 9), 4),
            {"x": (2, 3, 5, 5), "y": (4, 8, 9, 3), "z": (4, 7)},
        ),
    ],
)
def test_sizes_go_where_they_are_open(sizes, expected):
    assert sizes.resolve(INPUTS, "m.onnx") == {**INPUTS, **expected}


@pytest.mark.parametrize(
    ("sizes", "inputs", "message"),
    [
        (InputSizes({"q": (1,)}), INPUTS, "there is no input 'q'; the inputs are: x, y, z, s"),
        (InputSizes({"x": (1, 4, 8, 8)}), INPUTS, r"shape 1x4x8x8 does not fit .* \?x3x\?x\?"),
        (InputSizes({"x": (1, 3)}), INPUTS, "shape 1x3 does not fit"),
        (InputSizes(input_size=(8, 8)), {"x": (1, 3, 9, 8)}, "fixed to 9, not 8; leave input_size"),
        (InputSizes(input_size=(8, 8)), {"x": (1, 3)}, "has no input of an image"),
        (InputSizes(input_size=(8, 8)), {"x": (None,) * 4}, r"input_shapes={'x': \(1, 3, 8, 8\)}"),
        (InputSizes(batch=4), {"x": (1, 3, 8, 8)}, "fixes the number of images.* batch=4"),
    ],
)
def test_sizes_that_do_not_fit(sizes, inputs, message):
    with pytest.raises(ActivsparseError, match=message):
        sizes.resolve(inputs, "m.onnx")


def save(path: Path, text: str) -> Path:
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), path)
    return path


@pytest.fixture
def open_nchw(tmp_path):
    return save(
        tmp_path / "nchw.onnx",
        """g (float[N, 3, H, W] x) => (float[N, 2, H, W] y)
        <float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[2, 2, 1, 1] v = {1, 2, 3, 4}>
        { a = Conv(x, w)
          b = Relu(a)
          y = Conv(b, v) }""",
    )


@pytest.fixture
def open_nhwc(tmp_path):
    """As TensorFlow's exporters write it."""
    return save(
        tmp_path / "nhwc.onnx",
        """g (float[N, H, W, 3] x) => (float[N, H, W, 2] y)
        <float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[2, 2, 1, 1] v = {1, 2, 3, 4}>
        { t = Transpose<perm = [0, 3, 1, 2]>(x)
          a = Conv(t, w)
          b = Relu(a)
          c = Conv(b, v)
          y = Transpose<perm = [0, 2, 3, 1]>(c) }""",
    )


MASK = ["--sparsity", 0.3, "--pattern", "random", "--include-stem", "--include-head"]
SIZES = [
    (["--input-size", "4x6"], 1),
    (["--input-size", "4x6", "--batch", "2"], 2),
    (["--input-shape", "{x}"], 2),
]


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(("words", "batch"), SIZES)
def test_every_command_takes_sizes(open_nchw, open_nhwc, tmp_path, capsys, layout, words, batch):
    model = {"nchw": open_nchw, "nhwc": open_nhwc}[layout]
    shape = {"nchw": (batch, 3, 4, 6), "nhwc": (batch, 4, 6, 3)}[layout]
    size = [word.format(x="x=" + "x".join(map(str, shape))) for word in words]
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.save(tmp_path / "x.npy", x)
    masked = tmp_path / "masked.onnx"
    for verb in (
        ["explain", model, "--repeat", 1],
        ["verify", model],
        ["run", model, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"],
        ["compile", model, "--out", tmp_path / "m.plan"],
        ["mask", model, *MASK, "--out", masked],
        ["bench", "--dense", model, "--repeat", 1],
    ):
        done = cli.main([str(word) for word in (*verb, *size)])
        assert done == 0, f"{verb[0]}: {capsys.readouterr().err}"
    assert np.load(tmp_path / "y.npy").shape[0] == batch
    given = [d.dim_value for d in onnx.load(masked).graph.input[0].type.tensor_type.shape.dim]
    assert given[1:] == list(shape[1:])
    assert given[0] == (batch if words != SIZES[0][0] else 0)


@pytest.mark.parametrize("shape", [(1, 3, 4, 6), (5, 3, 7, 7)])
def test_run_takes_open_sizes_from_the_array(open_nchw, tmp_path, shape, capsys):
    import onnxruntime

    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    np.save(tmp_path / "x.npy", x)
    words = ["run", open_nchw, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy"]
    assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
    session = onnxruntime.InferenceSession(open_nchw, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-shape", "1x3x4x6"], "argument --input-shape: '1x3x4x6' is no input"),
        (["--input-shape", "x=1x3xHxW"], "is no input with its shape; write NAME=1x3x224x224"),
        (["--input-shape", "x=1x3x0x6"], "is no input with its shape"),
        (["--input-shape", "x=1x3x4x6", "x=1x3x4x7"], "gives 'x' two shapes"),
        (["--input-shape", "q=1x3x4x6"], "there is no input 'q'; the inputs are: x"),
        (["--input-shape", "x=1x4x4x6"], "shape 1x4x4x6 does not fit"),
        (["--batch", "0"], "argument --batch: '0' is not a whole number"),
        (["--batch", "2"], "for example --input-shape x=2x3x224x224"),
        ([], "for example --input-shape x=1x3x224x224"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(open_nchw, capsys, words, message):
    with pytest.raises(SystemExit) as done:
        raise SystemExit(cli.main(["explain", str(open_nchw), *words]))
    assert done.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
