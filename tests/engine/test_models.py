"""Whole torchvision models, dense and masked, as torch exports them, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest

from activsparse import Session, _native
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.export.mask import mask_model

MODELS = (
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "vgg11_bn",
    "efficientnet_b0",
    "mobilenet_v3_small",
    "squeezenet1_1",
)


def check(path, isas=None):
    rng = np.random.default_rng(0)
    oracle = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = rng.standard_normal(oracle.get_inputs()[0].shape, np.float32)
    (expected,) = oracle.run(None, {oracle.get_inputs()[0].name: x})
    for isa in isas or _native.available_isas():
        for threads in (1, 2):
            session = Session(path, isa=isa, threads=threads)
            error = np.abs(session.run(x) - expected).max()
            bound = network_bound(sums_of(session.explain()), expected)
            assert 0 < error <= bound, (path.name, isa, threads, error, bound)
    return session


@pytest.mark.parametrize("name", MODELS)
def test_dense(exported, name):
    session = check(exported(name))
    assert all(not row.eligible for row in session.explain())


@pytest.mark.parametrize(
    ("name", "site", "fill"),
    [
        ("resnet18", "conv", "zero"),
        ("resnet18", "norm", "nearest"),
        ("mobilenet_v2", "conv", "nearest"),
        ("mobilenet_v2", "norm", "zero"),
    ],
)
def test_masked_by_torch_hooks(exported, name, site, fill):
    session = check(exported(name, site, fill))
    rows = [row for row in session.explain() if row.kind == "conv"]
    # Every mask is in its convolution: nothing is left to multiply or gather.
    assert not {"mask_multiply", "gather_positions"} & {r.kind for r in session.explain()}
    assert sum(row.requested is not None for row in rows) == len(rows) - 1


@pytest.mark.parametrize(
    ("name", "pattern", "site", "fill"),
    [
        ("resnet18", "random", "norm", "zero"),
        ("resnet50", "auto", "norm", "zero"),
        ("mobilenet_v2", "lattice", "norm", "zero"),
        ("vgg11_bn", "tiles", "norm", "zero"),
        ("vgg11_bn", "random", "conv", "nearest"),
        ("efficientnet_b0", "lattice", "norm", "nearest"),
        ("mobilenet_v3_small", "random", "conv", "zero"),
        ("squeezenet1_1", "auto", "conv", "nearest"),
    ],
)
def test_masked_files(exported, tmp_path, name, pattern, site, fill):
    dense = onnx.load(exported(name))
    masked, _ = mask_model(dense, 0.3, pattern=pattern, site=site, fill=fill)
    path = tmp_path / "masked.onnx"
    onnx.save(masked, path)
    session = check(path, isas=_native.available_isas()[-1:])
    assert any(row.eligible for row in session.explain())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_full_size(exported, name):
    check(exported(name, size=224), isas=_native.available_isas()[-1:])


def test_fusion_leaves_convolutions_only(exported):
    kinds = [row.kind for row in Session(exported("resnet18"), threads=1).explain()]
    assert kinds.count("conv") == 19
    assert kinds.count("conv_max_pool") == 1
    assert set(kinds) <= {"conv", "conv_max_pool", "global_average_pool", "gemm"}


def test_fire_modules_are_joined_in_place(exported):
    kinds = [row.kind for row in Session(exported("squeezenet1_1")).explain()]
    assert "concat" not in kinds
    assert "copy" not in kinds
