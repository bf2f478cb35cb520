"""Random networks of everything the compiler rewrites, against ONNX Runtime."""

import graphs
import numpy as np
import pytest

from activsparse import Session, _native
from activsparse.engine.verify import compare_with_onnxruntime


@pytest.mark.parametrize("seed", range(60))
def test_agrees_with_onnxruntime(tmp_path, seed):
    path = graphs.random_graph(tmp_path / "random.onnx", seed)
    for isa in _native.available_isas():
        for threads in (1, 2):
            session = Session(path, isa=isa, threads=threads)
            for row in compare_with_onnxruntime(path, session, seed):
                assert row.holds, (seed, isa, threads, row, session.explain())


@pytest.mark.parametrize("seed", range(60, 70))
def test_reference_algorithm_agrees_with_onnxruntime(tmp_path, seed):
    path = graphs.random_graph(tmp_path / "random.onnx", seed)
    session = Session(path, algorithm="reference")
    assert {r.algorithm for r in session.explain() if r.kind != "gemm"} == {"reference"}
    for row in compare_with_onnxruntime(path, session, seed):
        assert row.holds, (seed, row)


def test_runs_do_not_influence_each_other(tmp_path):
    path = graphs.random_graph(tmp_path / "random.onnx", 3)
    session = Session(path)
    rng = np.random.default_rng(0)
    (name, shape), *_ = session.inputs
    x = rng.standard_normal(shape, np.float32)
    first = session.run(x)
    session.run({name: np.full(shape, 1e3, np.float32)})
    again = session.run(x)
    if not isinstance(first, list):
        first, again = [first], [again]
    for y, z in zip(first, again, strict=True):
        np.testing.assert_array_equal(y, z)
