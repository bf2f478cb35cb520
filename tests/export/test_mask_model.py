import json

import numpy as np
import onnx
import pytest
from onnx_models import conv_norm, residual, run

from activsparse import ActivsparseError
from activsparse.export.insert import find_masks
from activsparse.export.mask import REQUESTED_KEY, mask_model
from activsparse.masks import propagate, random_score, select


def constants(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_default_layers():
    masked, report = mask_model(residual(), 0.25)
    assert [layer.name for layer in report.layers] == ["one.a", "one.b", "two.a", "two.b"]
    assert report.dense == {
        "stem": "stem",
        "one.shortcut": "shortcut projection",
        "squeeze": "its output has a single position",
    }
    assert len(find_masks(masked.graph)) == 4
    assert report.each_once == pytest.approx(0.25, abs=0.03)
    assert report.each_once == np.mean(
        [1 - constants(masked)[f"{x.name}.activation_mask"].mean() for x in report.layers]
    )


@pytest.mark.parametrize(
    ("options", "layers"),
    [
        ({"kernel_sizes": [(3, 3)]}, ["one.a", "one.b", "two.a"]),
        ({"kernel_sizes": [(1, 1)], "skip_shortcuts": False}, ["one.shortcut", "two.b"]),
        ({"skip_stem": False, "only": ["stem", "two.*"]}, ["stem", "two.a", "two.b"]),
        ({"skip": ["one.*", "two.b"]}, ["two.a"]),
        ({"only": ["*.a"], "skip": ["one.*"]}, ["two.a"]),
    ],
)
def test_layers_are_chosen_by_name_kernel_and_role(options, layers):
    assert [layer.name for layer in mask_model(residual(), 0.3, **options)[1].layers] == layers


def test_layers_of_a_residual_block_share_the_lattice():
    values = constants(mask_model(residual(), 1 / 3, pattern="lattice")[0])
    masks = [values[f"{name}.activation_mask"] for name in ("one.a", "one.b", "two.a")]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_random_masks_follow_from_one_seeded_score_map():
    score = random_score((12, 10), np.random.default_rng(4))
    masked, _ = mask_model(conv_norm(), 0.3, pattern="random", seed=4, block=2)
    expected = select(propagate(score, (12, 10)), 0.3, 2)
    np.testing.assert_array_equal(constants(masked)["second.activation_mask"][0, 0], expected)
    assert masked == mask_model(conv_norm(), 0.3, pattern="random", seed=4, block=2)[0]
    assert masked != mask_model(conv_norm(), 0.3, pattern="random", seed=5, block=2)[0]


def test_everything_else_is_untouched():
    dense = conv_norm()
    dense.producer_name, dense.doc_string = "someone", "a note"
    dense.metadata_props.add(key="task", value="none")
    before = dense.SerializeToString()
    masked, _ = mask_model(dense, 0.3)
    assert dense.SerializeToString() == before
    assert masked.graph.input == dense.graph.input
    assert masked.graph.output == dense.graph.output
    assert masked.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert (masked.opset_import, masked.ir_version) == (dense.opset_import, dense.ir_version)
    assert (masked.producer_name, masked.doc_string) == ("someone", "a note")
    metadata = {entry.key: entry.value for entry in masked.metadata_props}
    assert metadata.pop("task") == "none"
    assert json.loads(metadata[REQUESTED_KEY]) == {"second": 0.3}
    assert [n.op_type for n in masked.graph.node if n.op_type != "Mul"] == [
        n.op_type for n in dense.graph.node
    ]


@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_replace(fill):
    masked, _ = mask_model(residual(), 0.3, fill=fill)
    with pytest.raises(ActivsparseError, match="holds 4 masks already; use replace=True"):
        mask_model(masked, 0.5, name="r.onnx")
    again, _ = mask_model(masked, 0.5, pattern="lattice", replace=True)
    assert again == mask_model(residual(), 0.5, pattern="lattice")[0]


def test_open_input_size():
    model = conv_norm(size="H, W")
    with pytest.raises(ActivsparseError, match=r"is open; .* input_size=\(224, 224\)"):
        mask_model(model, 0.3)
    masked, report = mask_model(model, 0.3, pattern="random", input_size=(9, 14))
    assert report.layers[0].shape.output == (9, 14)
    assert run(masked, np.zeros((3, 3, 9, 14), np.float32)).shape == (3, 8, 9, 14)
    with pytest.raises(ActivsparseError, match="'x' is fixed to 12, not 9; leave input_size out"):
        mask_model(conv_norm(), 0.3, input_size=(9, 10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity 1: outside \[0, 1\)"),
        ({"skip": ["secnd"]}, "m.onnx: skip 'secnd' matches no convolution; did you mean second"),
        ({"only": ["x*"]}, "m.onnx: only 'x.' matches no convolution; valid names: "),
        ({"skip": ["second"]}, "m.onnx: no convolution is left to mask .*; loosen skip$"),
        ({"kernel_sizes": [(5, 5)]}, "second: kernel size"),
        ({"site": "act"}, "site 'act': is unknown; valid names: norm, conv"),
        ({"fill": "mean"}, "fill 'mean': is unknown"),
        ({"pattern": "dots"}, "pattern 'dots': is unknown"),
        ({"pattern": "random", "block": 0}, "block=0: must be a whole number, at least 1"),
        (
            {"pattern": "random", "block": 99, "sparsity": 0.6},
            "m.onnx: layer second: block 99 is larger than its map of 12x10",
        ),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ActivsparseError, match=message):
        mask_model(conv_norm(), **{"sparsity": 0.3, "name": "m.onnx"} | options)
