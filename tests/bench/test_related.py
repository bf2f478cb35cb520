"""Times are set against each other only where two files hold one network."""

from __future__ import annotations

import re

import onnx
import pytest
from onnx import parser

from activsparse.bench.compare import compare, short_names
from activsparse.bench.related import difference
from activsparse.errors import ActivsparseError
from activsparse.export.mask import mask_model

TWO = """g (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y)
<float[2, 3, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[2, 2, 1, 1] v = {1, 2, 3, 4}>
{ a = Conv(x, w)
  b = Relu(a)
  y = Conv(b, v) }"""


def save(path, text):
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), path)
    return path


@pytest.fixture
def two(tmp_path):
    return save(tmp_path / "two.onnx", TWO)


@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_a_masked_or_trained_model_is_the_same_network(two, tmp_path, fill):
    masked, _ = mask_model(onnx.load(two), 0.3, pattern="random", fill=fill, skip_stem=False)
    masked.graph.initializer[0].raw_data = masked.graph.initializer[0].raw_data[::-1]
    onnx.save(masked, tmp_path / "masked.onnx")
    assert difference(two, tmp_path / "masked.onnx") is None


def test_an_open_size_agrees_with_any(two, tmp_path):
    assert difference(two, save(tmp_path / "n.onnx", TWO.replace("[1, 3", "[N, 3"))) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3, 8, 8", "3, 9, 9", "inputs 1x3x9x9 are not those of .*, 1x3x8x8"),
        ("x) => (float[1, 2,", "x, float[1] u) => (float[1, 2,", "inputs"),
        ("2, 8, 8] y", "2, 9, 8] y", "outputs"),
        ("float[2, 2, 1, 1] v = {1, 2, 3, 4}", "float[2, 2, 1, 2] v = {1, 2, 3, 4, 5, 6, 7, 8}",
         "convolutions are not those of .* 1 against 0 of 2x2x1x1"),
        ("b = Relu(a)", "b = Conv(a, v)", "such as 1 against 2 of 2x2x1x1"),
    ],
)  # fmt: skip
def test_other_networks_are_told(two, tmp_path, old, new, message):
    other = save(tmp_path / "other.onnx", TWO.replace(old, new))
    found = difference(two, other)
    assert found is not None
    assert re.search(message, found), found


def test_a_comparison_warns(two, tmp_path, caplog):
    other = save(tmp_path / "other.onnx", TWO.replace("b = Relu(a)", "b = Conv(a, v)"))
    found = compare(two, [other], ["activsparse"], threads=1, repeat=1)
    assert "convolutions are not those of" in found.warnings[0]
    assert found.warnings[0] in caplog.text


def test_a_file_given_twice_is_refused(two, tmp_path):
    (link := tmp_path / "link.onnx").symlink_to(two)
    with pytest.raises(ActivsparseError, match="is the same file as"):
        compare(two, [link], ["activsparse"], threads=1, repeat=1)


def test_files_of_equal_names_are_told_apart():
    paths = ["a/m.onnx", "b/m.onnx", "/r/b/m.onnx", "x/other.onnx", "a/m.onnx"]
    assert short_names(paths) == {
        "a/m.onnx": "a/m.onnx",
        "b/m.onnx": "b/m.onnx",
        "/r/b/m.onnx": "r/b/m.onnx",
        "x/other.onnx": "other.onnx",
    }
