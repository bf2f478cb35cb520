"""Small ONNX models for tests of anything that reads one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

# Tests must not depend on measurements, nor write where users keep theirs.
os.environ["ACTIVSPARSE_CACHE"] = "off"
# Where tests run side by side (pytest-xdist), torch's threads would only get in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def small_model(
    path: Path, *, masked: bool = False, batch: int | str = 1, height: int | str = 8
) -> Path:
    """Convolution, optional mask, ReLU on a (1, 3, 8, 8) input; a name leaves a size open."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
    mask = (rng.random((1, 1, 8, 8)) > 0.3).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1])]
    if masked:
        nodes.append(helper.make_node("Mul", ["c", "conv.activation_mask"], ["m"]))
    nodes.append(helper.make_node("Relu", [nodes[-1].output[0]], ["y"]))
    constants = [numpy_helper.from_array(weight, "w")]
    if masked:
        constants.append(numpy_helper.from_array(mask, "conv.activation_mask"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, height, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, height, 8])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return small_model(tmp_path / "dense.onnx")


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    return small_model(tmp_path / "sparse.onnx", masked=True)


@pytest.fixture
def open_batch(tmp_path: Path) -> Path:
    return small_model(tmp_path / "open_batch.onnx", batch="n")


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    return small_model(tmp_path / "dynamic.onnx", batch="n", height="h")
