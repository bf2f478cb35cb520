"""Whole torchvision models, dense and masked, as torch exports them, against ONNX Runtime."""

import onnx
import pytest

from activsparse import Session, _native
from activsparse.engine.verify import compare_with_onnxruntime
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
    for isa in isas or _native.available_isas():
        for threads in (1, 2):
            session = Session(path, isa=isa, threads=threads)
            for row in compare_with_onnxruntime(path, session):
                assert row.max_abs_err > 0, "two engines that never round differently"
                assert row.holds, (path.name, isa, threads, row)
    return session


@pytest.mark.parametrize("name", MODELS)
def test_dense(exported, name):
    session = check(exported(name))
    assert all(not row.eligible for row in session.explain())


@pytest.mark.parametrize(
    ("site", "fill"), [("conv", "zero"), ("conv", "nearest"), ("norm", "zero"), ("norm", "nearest")]
)
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_masked_by_torch_hooks(exported, name, site, fill):
    session = check(exported(name, site, fill))
    rows = [row for row in session.explain() if row.kind == "conv"]
    # Every mask is in its convolution: nothing is left to multiply or gather.
    assert not {"mask_multiply", "gather_positions"} & {r.kind for r in session.explain()}
    assert sum(row.requested is not None for row in rows) == len(rows) - 1


@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles"])
@pytest.mark.parametrize("name", MODELS)
def test_masked_files(exported, tmp_path, name, pattern):
    site, fill = ("conv", "nearest") if pattern == "lattice" else ("norm", "zero")
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
    kinds = [row.kind for row in Session(exported("resnet18")).explain()]
    assert kinds.count("conv") == 20
    assert set(kinds) <= {"conv", "max_pool", "global_average_pool", "gemm", "to_nhwc"}


def test_fire_modules_are_joined_in_place(exported):
    kinds = [row.kind for row in Session(exported("squeezenet1_1")).explain()]
    assert "concat" not in kinds
    assert "copy" not in kinds
