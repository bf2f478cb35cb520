"""What it costs to know which positions are computed: at most 5 % of the weights' bytes."""

from __future__ import annotations

import pytest

from activsparse import Session, cli

SHARE = 0.05
MODELS = ("mobilenet_v2", "resnet18", "resnet50", "efficientnet_b0")


@pytest.mark.parametrize("pattern", ["dense", "random", "lattice", "tiles"])
@pytest.mark.parametrize(
    "name",
    [MODELS[0], *(pytest.param(name, marks=pytest.mark.slow) for name in MODELS[1:])],
)
def test_index_data_is_a_small_share(exported, tmp_path, name, pattern):
    model = exported(name, size=224)
    if pattern != "dense":
        masked = tmp_path / "masked.onnx"
        words = ["mask", model, "--sparsity", 0.3, "--pattern", pattern, "--out", masked]
        assert cli.main([str(word) for word in words]) == 0
        model = masked
    rows = Session(model, tune=False).explain()
    index = sum(row.index_bytes for row in rows)
    weights = sum(row.weight_bytes for row in rows)
    print(f"{name} {pattern}: {index / 1024:.1f} KiB index, {weights / 2**20:.1f} MiB weights")
    assert index <= SHARE * weights
