import copy
import json
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx_models import run
from torch import nn

from activsparse import ActivsparseError
from activsparse.export import onnx as export
from activsparse.export.check import compare
from activsparse.export.insert import find_masks
from activsparse.export.mask import REQUESTED_KEY
from activsparse.export.model_file import write_model
from activsparse.export.onnx import convert, export_onnx, without_masks
from activsparse.train.sparsify.sparsifier import Sparsifier

STANDARD = {"Conv", "Mul", "Relu", "Add", "Reshape", "Gather", "BatchNormalization"}


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(torch.relu(self.bn1(self.conv1(x))))


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), Block(16), Block(16)).eval()
    for norm in (model[1].bn1, model[2].bn1):
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.bias)
    return model


EXAMPLE = torch.randn(1, 3, 18, 15, generator=torch.Generator().manual_seed(1))
MASKED = ["1.conv1", "1.conv2", "2.conv1", "2.conv2"]


def sparsified(**options):
    model = network()
    return model, Sparsifier(model, EXAMPLE, 0.3, **{"pattern": "lattice"} | options)


@cache
def converted(fill="zero", site="norm", dynamic_batch=False):
    """Exports take seconds, so tests share them; they must not change what this returns."""
    model, sparsifier = sparsified(fill=fill, site=site)
    requested = {layer.name: layer.requested for layer in sparsifier.layers}
    exported = convert(model, EXAMPLE, requested=requested, dynamic_batch=dynamic_batch)
    return model, sparsifier, exported


@pytest.mark.parametrize(
    ("fill", "site", "dynamic_batch"),
    [
        ("zero", "norm", False),
        ("zero", "conv", False),
        ("nearest", "conv", False),
        ("zero", "norm", True),
        ("nearest", "norm", True),
    ],
)
def test_round_trip(fill, site, dynamic_batch):
    model, sparsifier, exported = converted(fill, site, dynamic_batch)
    assert exported.check.passed
    assert {node.op_type for node in exported.model.graph.node} <= STANDARD
    assert {entry.domain for entry in exported.model.opset_import} == {""}

    assert list(exported.masks) == MASKED
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(exported.masks[name], mask)
    suffix = {"zero": "activation_mask", "nearest": "activation_source"}[fill]
    shapes = {t.name: tuple(t.dims) for t in exported.model.graph.initializer}
    for name in MASKED:
        assert shapes[f"{name}.{suffix}"] == ((1, 1, 18, 15) if fill == "zero" else (270,))
    assert len(find_masks(exported.model.graph)) == 4
    metadata = {entry.key: entry.value for entry in exported.model.metadata_props}
    assert json.loads(metadata[REQUESTED_KEY]) == dict.fromkeys(MASKED, 0.3)

    images = torch.randn(5 if dynamic_batch else 1, 3, 18, 15)
    with torch.no_grad():
        expected = model(images).numpy()
    # Sums of at most 16 * 9 products per layer, four layers and the stem.
    bound = 5 * 16 * 9 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(run(exported.model, images.numpy()), expected, atol=bound)


@pytest.mark.parametrize("site", ["norm", "conv"])
def test_dense_twin_is_the_network_without_masks(site):
    model, _, exported = converted(site=site)
    dense = without_masks(exported.model)
    assert find_masks(dense.graph) == []
    assert not dense.metadata_props
    assert compare(network(), dense, (EXAMPLE,)).passed
    assert not compare(model, dense, (EXAMPLE,)).passed


def test_other_opset_without_check_and_the_model_is_left_as_it_was():
    model, _ = sparsified()
    model.train()
    before = copy.deepcopy(model.state_dict())
    exported = convert(model, EXAMPLE, verify=False, opset=20)
    assert exported.check is None
    assert exported.model.opset_import[0].version == 20
    assert all(module.training for module in model.modules())
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_one_quiet_file_with_nothing_of_this_machine(tmp_path, capfd):
    export_onnx(sparsified()[0], EXAMPLE, tmp_path / "m.onnx", verify=False)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert b"site-packages" not in (tmp_path / "m.onnx").read_bytes()
    assert b".py" not in (tmp_path / "m.onnx").read_bytes()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ActivsparseError, match="cannot be written"):
        write_model(converted()[2].model, tmp_path / "no" / "m.onnx")


def test_masks_without_holes_may_vanish():
    model = network()
    Sparsifier(model, EXAMPLE, 0.0, pattern="lattice")
    exported = convert(model, EXAMPLE)
    assert all(mask.all() for mask in exported.masks.values())


def test_a_wrong_export_is_refused(monkeypatch):
    model, _ = sparsified()
    right = export.write_masks

    def wrong(proto, held):
        masks = right(proto, held)
        for tensor in proto.graph.initializer:
            if tensor.name == "1.conv2.activation_mask":
                value = onnx.numpy_helper.to_array(tensor)[..., ::-1]
                tensor.CopyFrom(onnx.numpy_helper.from_array(value.copy(), tensor.name))
        return masks

    monkeypatch.setattr(export, "write_masks", wrong)
    with pytest.raises(ActivsparseError, match="differs from torch by"):
        convert(model, EXAMPLE)


def test_a_lost_mask_is_noticed(monkeypatch):
    model, _ = sparsified()
    monkeypatch.setattr(export, "write_masks", lambda proto, held: {})
    with pytest.raises(ActivsparseError, match=r"4 masks, but 4 \(such as 1.conv1\) did not come"):
        convert(model, EXAMPLE)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_torch_cannot_export_is_one_line():
    with pytest.raises(ActivsparseError, match="torch cannot export Branching") as caught:
        convert(Branching(), EXAMPLE)
    assert "\n" not in str(caught.value)
