"""torch's LocalResponseNorm, as both of its exporters spell it out."""

from __future__ import annotations

import warnings

import numpy as np
import oracle
import pytest

from activsparse import ActivsparseError, Session

torch = pytest.importorskip("torch")

NORMS = [
    (5, 1e-3, 0.75, 2.0),
    (4, 0.5, 0.5, 1.0),
    (1, 0.1, 1.0, 0.5),
    (9, 2.0, 1.25, 3.0),  # more channels than there are
    (2, 1e-4, 0.75, 1.0),
]


def export(path, norm, shape, opset, dynamo):
    network = torch.nn.Sequential(torch.nn.Conv2d(shape[1], 6, 1), norm).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.randn(shape),), path, opset_version=opset, dynamo=dynamo, verbose=False
        )
    return path


@pytest.mark.parametrize(("opset", "dynamo"), [(11, False), (17, False), (18, True)])
@pytest.mark.parametrize("norm", NORMS)
def test_as_torch_spells_it(tmp_path, norm, opset, dynamo):
    seed = NORMS.index(norm)
    torch.manual_seed(seed)
    shape = tuple(np.random.default_rng(seed).integers(1, 9, 4).tolist())
    layer = torch.nn.LocalResponseNorm(*norm)
    path = export(tmp_path / "m.onnx", layer, shape, opset, dynamo)
    oracle.check(path, context=(norm, opset, shape))


def test_an_exponent_that_is_no_multiple_of_a_quarter_is_named(tmp_path):
    path = export(tmp_path / "m.onnx", torch.nn.LocalResponseNorm(3, beta=0.6), (1, 3, 5, 5), 17, 0)
    with pytest.raises(ActivsparseError, match=r"\(Pow\)"):
        Session(path)
    oracle.check(path, fallback="onnxruntime")
