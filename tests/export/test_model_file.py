"""Networks whose weights leave no room in one file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError
from activsparse.export import model_file


@pytest.fixture
def model() -> onnx.ModelProto:
    """A convolution, whose weights are above what a test calls large."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 9, 9]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "w")
    conv = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([conv], "g", value[:1], value[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_large_networks_are_read_and_not_written(monkeypatch, tmp_path, model):
    path = tmp_path / "large.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.setattr(model_file, "_MOST_WEIGHT_BYTES", 200)

    def refused(model: onnx.ModelProto) -> None:
        raise ValueError("Failed to serialize proto")  # as for messages above 2 GB

    monkeypatch.setattr(onnx.checker, "check_model", refused)
    read = model_file.read_model(path)
    assert [tensor.name for tensor in read.graph.initializer] == ["w"]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ActivsparseError, match=r"out\.onnx: .*holds up to 2 GB"):
        model_file.write_model(read, tmp_path / "out.onnx")
    assert sorted(tmp_path.iterdir()) == before
