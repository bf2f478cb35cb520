"""The report is whole, self-contained, valid enough to parse, and escaped."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse.errors import ActivsparseError
from activsparse.export.read import read_masks
from activsparse.masks import nearest_source
from activsparse.report import Report, render, write
from activsparse.report.pictures import mask_address

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Checker(HTMLParser):
    """Collects references and text, and checks that elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_startendtag(self, tag, attrs):
        self.references += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_is_self_contained(whole_report: Report):
    html = render(whole_report)
    references = parse(html).references
    assert references
    assert all(
        r.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for r in references
    )
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "@import" not in html
    assert "<link" not in html
    assert len(html) < 4e6  # most of it is plotly's JavaScript, once


def test_shows_every_variant_layer_and_version(report: Report):
    text = " ".join(parse(render(report)).text)
    for variant in report.variants:
        assert variant.name in text
        assert f"{100 * variant.top1:.2f} %" in text
        assert all(layer.name in text for layer in variant.layers)
    assert "1.67×" in text  # tiles against our own dense: 0.5 / 0.3
    assert "numpy 2.0" in text


def test_text_is_escaped(report: Report):
    html = render(replace(report, title="a <b> & c"))
    assert "a &lt;b&gt; &amp; c" in html
    assert "Test &lt;CPU&gt;" in html


@pytest.mark.parametrize("name", ["$\\foo$", "<script>x", "a & b", "[/]", "$x$ of $y$"])
def test_names_are_escaped_in_tables_and_figures(report: Report, name: str):
    dense, sparse, *others = report.variants
    layers = [replace(layer, name=f"{name}{layer.name}") for layer in sparse.layers]
    masks = {f"{name}{key}": mask for key, mask in sparse.masks.items()}
    sparse = replace(sparse, name=name, layers=layers, masks=masks)
    html = render(replace(report, variants=[dense, sparse, *others]))
    assert "<script>x" not in html
    Checker().feed(html)
    assert name in unescape(html)
    shown = [trace["name"] for trace in figures_in(html)["accuracy"]["data"]]
    assert escape(name) in shown


def figures_in(html: str) -> dict:
    """What is given to plotly."""
    (text,) = re.findall(r'id="figures">(.*?)</script>', html)
    return json.loads(text)


def test_figures_hold_the_numbers(whole_report: Report):
    figures = figures_in(render(whole_report))
    variants = whole_report.variants
    for trace, variant in zip(figures["accuracy"]["data"], variants, strict=True):
        assert trace["x"] == [whole_report.own_row(variant).median_ms]
        assert trace["y"] == [100 * variant.top1]
    for at, variant in enumerate(variants):
        (heatmap,) = figures[f"confusion-{at}"]["data"]
        table = np.array(heatmap["customdata"])
        for label in range(3):
            for said in range(3):
                both = (whole_report.labels == label) & (variant.said == said)
                assert table[label, said] == both.sum()
    times = {
        t["name"]: dict(zip(t["y"], t["x"], strict=True)) for t in figures["layer-times"]["data"]
    }
    assert times == {variant.name: dict(variant.times_ms) for variant in variants}
    shown = {t["name"]: t["x"] for t in figures["plan-2"]["data"]}
    skipped = whole_report.variants[2].plan.sparsities()["conv2"]
    assert shown == {"stays dense": [0.0], "tiles": [pytest.approx(100 * skipped)]}


def test_what_networks_agree_on(whole_report: Report):
    for (name, counts, same), variant in zip(
        whole_report.agreement(), whole_report.variants[1:], strict=True
    ):
        both = list(zip(whole_report.dense.said, variant.said, whole_report.labels, strict=True))
        expected = [
            sum((one == right, other == right) == pair for one, other, right in both)
            for pair in ((True, True), (True, False), (False, True), (False, False))
        ]
        assert (name, counts) == (variant.name, expected)
        assert same == sum(one == other for one, other, _ in both) / len(both)


def test_an_engine_that_ran_some_of_the_models_is_shown_on_those(report: Report):
    rows = report.comparison.rows
    left_out = [row for row in rows if (row.engine, row.model) != ("openvino", "tiles.onnx")]
    page = render(replace(report, comparison=replace(report.comparison, rows=left_out)))
    shown = {
        (engine, trace["name"]): ms
        for trace in figures_in(page)["engines"]["data"]
        for engine, ms in zip(trace["y"], trace["x"], strict=True)
    }
    names = {variant.model: variant.name for variant in report.variants}
    assert shown == {(row.engine, names[row.model]): row.median_ms for row in left_out}


def test_is_reproducible(report: Report):
    assert render(report) == render(report)


def test_mask_picture_tints_exactly_the_skipped_positions():
    mask = np.random.default_rng(3).random((5, 7)) > 0.4
    png = base64.b64decode(mask_address(mask).removeprefix("data:image/png;base64,"))
    tinted = matplotlib.image.imread(io.BytesIO(png))[..., 3] > 0
    np.testing.assert_array_equal(tinted, ~mask)


def test_masks_are_read_from_the_onnx_file(tmp_path: Path):
    mask = np.random.default_rng(0).random((5, 7)) > 0.4
    tensor = numpy_helper.from_array(
        mask[None, None].astype(np.float32), "features.3.conv.activation_mask"
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Mul", ["c", tensor.name], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 5, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 5, 7])],
        [tensor, numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    masks = read_masks(tmp_path / "m.onnx")
    assert list(masks) == ["features.3.conv"]
    np.testing.assert_array_equal(masks["features.3.conv"], mask)


def test_masks_that_fill_are_read_too(tmp_path: Path):
    mask = np.array([[1, 0, 1], [0, 1, 1]], bool)
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 2, 2, 3] x) => (float[1, 2, 2, 3] y)
    <int64[3] flat = {0, 0, -1}, int64[4] back = {0, 0, 2, 3}>
    {
        c = Conv(x, w)
        a = Reshape(c, flat)
        b = Gather<axis = 2>(a, source)
        y = Reshape(b, back)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.node[2].input[1] = "conv.activation_source"
    source = numpy_helper.from_array(
        nearest_source(mask).astype(np.int64), "conv.activation_source"
    )
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    model.graph.initializer.extend([source, weight])
    onnx.save(model, tmp_path / "m.onnx")
    masks = read_masks(tmp_path / "m.onnx")
    assert list(masks) == ["conv"]
    np.testing.assert_array_equal(masks["conv"], mask)


def test_unwritable_output_is_an_error_and_leaves_nothing(report: Report, tmp_path: Path):
    write(report, tmp_path / "report.html")
    with pytest.raises(ActivsparseError, match="cannot be written"):
        write(report, tmp_path / "missing" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
