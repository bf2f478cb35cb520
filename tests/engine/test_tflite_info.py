"""`activsparse info` of .tflite files against that of the ONNX files they were made of."""

from __future__ import annotations

import re

import numpy as np
import pytest

from activsparse import quantize
from activsparse.cli import main

pytest.importorskip("ai_edge_litert")
pytest.importorskip("flatbuffers")


@pytest.mark.parametrize("kind", ["zero", "nearest", "int8"])
def test_a_tflite_file_has_the_masks_of_its_model(exported, tmp_path, capfd, kind):
    """Multiply-adds, masks and what they save are told as of the ONNX file."""
    from activsparse.litert import convert

    model = of = exported("mobilenet_v2", "norm", kind if kind != "int8" else "zero")
    if kind == "int8":
        model = tmp_path / "q.onnx"
        samples = np.random.default_rng(0).standard_normal((4, 3, 64, 64), np.float32)
        quantize(of, samples, model, per_layer=False)
    convert(model, tmp_path / "model.tflite", verify=False)
    assert main(["info", str(of)]) == 0
    assert main(["info", str(tmp_path / "model.tflite")]) == 0
    lines = capfd.readouterr().out.splitlines()
    told = {}
    for line in lines:
        name, value = re.split(r"  +", line, maxsplit=1)
        told.setdefault(name, []).append(value)
    for fact in ("convolutions", "masks", "sparsity", "saved"):
        onnx_says, tflite_says = told[fact]
        assert tflite_says == onnx_says, fact
