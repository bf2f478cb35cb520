"""`activsparse explain` on a page of 100 columns, and what it says there."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from activsparse.cli import main
from activsparse.export.mask import mask_model
from activsparse.export.onnx import export_onnx
from activsparse.models import SmallResNet


class _Samples(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        values = [rng.standard_normal((1, 3, 32, 32), np.float32) for _ in range(2)]
        self._left = iter([{"input": value} for value in values])

    def get_next(self):
        return next(self._left, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A masked network, one with names as long as detectors have, one in int8 but for its stem."""
    folder = tmp_path_factory.mktemp("explain")
    torch.manual_seed(0)
    model = SmallResNet(5, 3, widths=(16, 32), blocks=(1, 1)).eval()
    export_onnx(model, torch.zeros(1, 3, 32, 32), folder / "dense.onnx")
    masked, _ = mask_model(onnx.load(folder / "dense.onnx"), 0.3, pattern="lattice")
    onnx.save(masked, folder / "m.onnx")
    text = "model.backbone.stage_of_many_bottlenecks.0.main_branch.reduce."
    for tensor in masked.graph.initializer:
        for node in masked.graph.node:
            node.input[:] = [text + x if x == tensor.name else x for x in node.input]
        tensor.name = text + tensor.name
    for node in masked.graph.node:
        node.name = f"/{text.replace('.', '/')}{node.name}"
    onnx.save(masked, folder / "long.onnx")
    stem = next(node.name for node in masked.graph.node if node.op_type == "Conv")
    quantize_static(
        folder / "long.onnx",
        folder / "int8.onnx",
        _Samples(),
        quant_format=QuantFormat.QDQ,
        nodes_to_exclude=[stem],
    )
    return folder


def lines(capsys, *words: object) -> list[str]:
    capsys.readouterr()
    assert main(["explain", *map(str, words), "--repeat", "1", "--no-tune"]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["m", "long", "int8"])
@pytest.mark.parametrize("threads", ["1", "8"])
def test_it_fits_100_columns_and_loses_nothing(place, capsys, name, threads):
    file = place / f"{name}.json"
    found = lines(capsys, place / f"{name}.onnx", "--threads", threads, "--json", file)
    assert max(map(len, found)) <= 100
    assert "…" not in "".join(found)
    headings = ["layer", "runs", "as", "kernel", "result", "MMAC", "direct", "KiB", "ms"]
    assert set(headings) <= set(next(x for x in found if x.startswith("layer")).split())
    squeezed = "".join("".join(found).split())
    for row in json.loads(file.read_text())["nodes"]:
        assert row["algorithm"] in squeezed


def test_what_is_float32_in_an_int8_file_is_said(place, capsys):
    file = place / "int8.json"
    found = lines(capsys, place / "int8.onnx", "--json", file)
    assert "int8 and float32" in found[0] or "float32 and int8" in found[0]
    rows = {row["name"]: row for row in json.loads(file.read_text())["nodes"]}
    convolutions = [row for row in rows.values() if row["kind"] in ("conv", "conv_u8")]
    kinds = [row["precision"] for row in convolutions]
    assert kinds[0] == "float32"
    assert set(kinds[1:]) == {"int8"}
    table = "\n".join(found).split("masks:")[0]
    assert table.count(" float32 ") + table.count(" int8 ") >= len(rows)
    (title, *_) = lines(capsys, place / "m.onnx")
    assert title.split(". ")[0].endswith("thread(s), float32")


def test_a_layer_that_gains_nothing_has_a_reason(place, capsys):
    """Random masks leave no tile of Winograd's free; which algorithm is chosen, it is said."""
    masked, _ = mask_model(onnx.load(place / "dense.onnx"), 0.3, pattern="random")
    onnx.save(masked, place / "random.onnx")
    file = place / "random.json"
    found = " ".join(" ".join(lines(capsys, place / "random.onnx", "--json", file)).split())
    rows = [x for x in json.loads(file.read_text())["nodes"] if x["requested"] is not None]
    assert len(rows) == 4
    for row in rows:
        little = row["achieved"] < 2 / 3 * row["sparsity"]
        assert not little or row["why"]
        assert row["why"] in found


def test_where_no_layer_had_a_choice_it_says_so(tmp_path, capsys):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 8, 8])
        for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "relu", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "relu.onnx")
    assert main(["explain", str(tmp_path / "relu.onnx"), "--repeat", "1"]) == 0
    assert "candidates: no layer had a choice" in capsys.readouterr().out
