"""torch's LocalResponseNorm, as both of its exporters spell it out."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
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


# Of a view (1, 1, 5, 4, 6) of the squares of (1, 5, 4, 6): what else such nodes may be.
POOL = "kernel_shape = [3, 1, 1], strides = [1, 1, 1]"
NEAR_MISSES = {
    "as it is": (f"m = AveragePool<{POOL}>(p)", "pads", "zero"),
    "another constant": (f"m = AveragePool<{POOL}>(p)", "pads", "half"),
    "all before": (f"m = AveragePool<{POOL}>(p)", "before", "zero"),
    "all behind": (f"m = AveragePool<{POOL}>(p)", "behind", "zero"),
    "rows padded": (f"m = AveragePool<{POOL}>(p)", "rows", "zero"),
    "images padded": (f"m = AveragePool<{POOL}>(p)", "images", "zero"),
    "windows of rows": (
        "m = AveragePool<kernel_shape = [3, 3, 1], strides = [1, 1, 1]>(p)", "both", "zero",
    ),
    "the largest": (f"m = MaxPool<{POOL}>(p)", "pads", "zero"),
    "padded by itself, counted": (
        f"m = AveragePool<{POOL}, pads = [1, 0, 0, 1, 0, 0], count_include_pad = 1>(v)", "", "",
    ),
    "padded by itself, not counted": (
        f"m = AveragePool<{POOL}, pads = [1, 0, 0, 1, 0, 0]>(v)", "", "",
    ),
    "padded twice": (
        "m = AveragePool<kernel_shape = [3, 1, 1], strides = [1, 1, 1], pads = [1, 0, 0, 0, 0, 0], "
        "count_include_pad = 1>(p)", "last", "zero",
    ),
    "padded twice, not counted": (
        "m = AveragePool<kernel_shape = [3, 1, 1], strides = [1, 1, 1], pads = [1, 0, 0, 0, 0, 0]>"
        "(p)", "last", "zero",
    ),
    "same": ('m = AveragePool<kernel_shape = [3, 1, 1], auto_pad = "SAME_UPPER">(v)', "", ""),
}  # fmt: skip
AMOUNTS = {
    "pads": [0, 0, 1, 0, 0, 0, 0, 1, 0, 0], "before": [0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
    "behind": [0, 0, 0, 0, 0, 0, 0, 2, 0, 0], "rows": [0, 0, 1, 1, 0, 0, 0, 1, -1, 0],
    "images": [0, 1, 1, 0, 0, 0, -1, 1, 0, 0], "both": [0, 0, 1, 1, 0, 0, 0, 1, 1, 0],
    "last": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("back", ["1, 5, 4, 6", "1, 5, 6, 4", "1, 20, 6"])
@pytest.mark.parametrize("view", ["1, 1, 5, 4, 6", "1, 1, 5, 6, 4", "1, 5, 1, 4, 6"])
@pytest.mark.parametrize("miss", NEAR_MISSES)
def test_what_looks_like_it(tmp_path, miss, view, back):
    """Either it is the same, or it is left alone: the numbers are ONNX Runtime's."""
    pool, pads, value = NEAR_MISSES[miss]
    amounts = ", ".join(map(str, AMOUNTS.get(pads, AMOUNTS["pads"])))
    padded = f"p = Pad(v, pads, {value})" if pads else ""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 5, 4, 6] x) => (float y)
        <int64[5] view = {{{view}}}, int64 back = {{}}, int64[10] pads = {{{amounts}}},
         float zero = {{0}}, float half = {{0.5}}>
        {{ s = Mul(x, x)  v = Reshape(s, view)  {padded}  {pool}  y = Reshape(m, back) }}"""
    )
    del model.graph.initializer[1]
    sizes = np.array([int(n) for n in back.split(",")], np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(sizes, "back"))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    x = {"x": np.random.default_rng(5).standard_normal((1, 5, 4, 6), np.float32)}
    if view == "1, 1, 5, 4, 6" and back == "1, 5, 4, 6" and miss in SAME:
        oracle.check(path, x, (miss, view, back))
        return
    try:
        oracle.check(path, x, (miss, view, back))
    except ActivsparseError as error:  # a 3-d pooling that is no response norm
        refused = str(error)
        if "AveragePool" not in refused and "MaxPool" not in refused:
            raise


SAME = ("as it is", "all before", "all behind", "padded by itself, counted", "padded twice")
