"""A Sparsifier and `mask_model` take the same options and give the same masks."""

from __future__ import annotations

import onnx
import pytest
import torch
from small_networks import example, make_net

from activsparse.export.mask import mask_model
from activsparse.export.onnx import export_onnx
from activsparse.masks import MaskOptions
from activsparse.train import Sparsifier

OPTIONS = [
    MaskOptions(sparsity=0.4, pattern="random"),
    MaskOptions(sparsity=0.4, pattern="random", block=2, criterion="random"),
    MaskOptions(sparsity=0.5, pattern="lattice", phases="layer", fill="nearest"),
    MaskOptions(sparsity=0.3, pattern="tiles", share_in_block=True, skip=["*conv1"]),
    MaskOptions(pattern="auto", per_layer={"blocks.1*": 0.6}, skip_stem=False, fill="auto"),
    MaskOptions(pattern="lattice", only=["blocks*"], skip_shortcuts=False, site="conv"),
    MaskOptions(pattern="lattice", kernel_sizes=[3], phases="one"),
    MaskOptions(pattern="tiles", skip_kernel_sizes=[(1, 1)], skip_shortcuts=False),
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_the_same_masks_from_the_same_options(options, tmp_path):
    model, x = make_net().eval(), example()
    export_onnx(model, x, tmp_path / "dense.onnx")
    masked, report = mask_model(onnx.load(tmp_path / "dense.onnx"), options=options, seed=5)
    sparsifier = Sparsifier(model, x, options=options, seed=5)
    written = {t.name: onnx.numpy_helper.to_array(t) for t in masked.graph.initializer}
    expected = sparsifier.masks()
    assert [layer.name for layer in report.layers] == list(expected)
    for layer in sparsifier.layers:
        found = written.get(f"{layer.name}.activation_mask")
        mask = torch.from_numpy(expected[layer.name])
        if found is not None:
            assert (found[0, 0] == mask.numpy()).all(), layer.name
        else:
            source = torch.tensor(written[f"{layer.name}.activation_source"]).flatten()
            kept = source == torch.arange(source.numel())
            assert (kept.view(mask.shape) == mask).all(), layer.name
    assert {row.name: row.requested for row in report.layers} == sparsifier.requested
    assert report.dense == sparsifier.skipped
