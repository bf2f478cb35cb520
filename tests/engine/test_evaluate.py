"""What follows from constants alone is computed when a model is compiled."""

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime


def rows_of(b: graphs.Builder, tmp_path, output: str):
    path = b.save(tmp_path / "m.onnx", output)
    session = Session(path)
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
    return session.explain()


@pytest.mark.parametrize("limits", [("", "high"), ("low", ""), ("low", "high"), ("", "")])
def test_weights_behind_an_operator_whose_optional_inputs_are_left_out(tmp_path, limits):
    b = graphs.Builder()
    values = {"low": np.float32(-0.1), "high": np.float32(0.1)}
    given = [b.constant(values[name]) if name else "" for name in limits]
    weight = b.node("Clip", b.constant(b.normal(8, 3, 3, 3)), *given, shape=(8, 3, 3, 3))
    y = b.node("Conv", b.input(1, 3, 9, 9), weight, shape=(1, 8, 7, 7))
    assert [row.kind for row in rows_of(b, tmp_path, y)].count("conv") == 1
