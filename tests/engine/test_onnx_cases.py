"""The onnx package's own cases of every operator, with the results it holds them to.

They know nothing of ONNX Runtime, and have every form an operator's newest version takes.
"""

from __future__ import annotations

import functools
import importlib
import warnings

import numpy as np
import onnx
import pytest
from onnx import defs, helper, numpy_helper

from activsparse import ActivsparseError, Session
from activsparse.engine.passes.convert import NEWEST_OPSET, SUPPORTED

# ONNX Runtime spreads corners by the scales, the package by the sizes they round to.
_OTHERWISE = ("downsample_scales_linear_align_corners", "downsample_scales_cubic_align_corners")

_LEAST = 350
"""So many of the cases are run, not refused: of other types, of control flow, of empty tensors."""


@functools.cache
def cases():
    """Cases of one operator, or of the function it stands for."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values chosen to overflow
        return [case for case in collect_testcases(None) if _is_ours(case)]


def _is_ours(case):
    return case.model.graph.node[0].op_type in (*SUPPORTED, "CastLike") and case.data_sets


def arrays(tensors):
    read = [numpy_helper.to_array(t) if isinstance(t, onnx.TensorProto) else t for t in tensors]
    return read if all(isinstance(value, np.ndarray) for value in read) else None


def with_one_input(model, values):
    """The model with all inputs but the first as constants, as in a network."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.input[1:]
    names = [value.name for value in model.graph.input]
    for name, value in zip(names[1:], values[1:], strict=True):
        copy.graph.initializer.append(numpy_helper.from_array(value, name))
    return copy


def test_results(tmp_path):
    run = 0
    for case in cases():
        given, want = map(arrays, case.data_sets[0])
        names = [value.name for value in case.model.graph.input]
        if not given or want is None or len(given) != len(names) or _is_otherwise(case):
            continue
        model = with_one_input(case.model, given)
        onnx.save(model, tmp_path / "m.onnx")
        try:
            session = Session(tmp_path / "m.onnx", tune=False, threads=1)
            got = session.run(None, {names[0]: given[0]})
        except ActivsparseError:
            continue
        run += 1
        for ours, theirs in zip(got, want, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), case.name
            half = theirs.dtype == np.float16
            tolerance = (
                {"rtol": 1e-2, "atol": 1e-3} if half else {"rtol": 1e-3, "atol": 1e-4}
            )  # some are written down so
            wide = (y.astype(np.float64) for y in (ours, theirs))
            np.testing.assert_allclose(*wide, **tolerance, err_msg=case.name)
    assert run >= _LEAST


def _is_otherwise(case):
    return any(name in case.name for name in _OTHERWISE)


# What converters read of each operator, or know to change nothing.
_ATTRIBUTES = {
    "ArgMax": "axis keepdims select_last_index",
    "ArgMin": "axis keepdims select_last_index",
    "AveragePool": "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    "BatchNormalization": "epsilon momentum spatial training_mode",
    "Cast": "round_mode saturate to",
    "Celu": "alpha",
    "Clip": "max min",
    "Concat": "axis",
    "Conv": "auto_pad dilations group kernel_shape pads strides",
    "ConvTranspose": "auto_pad dilations group kernel_shape output_padding output_shape pads "
    "strides",
    "DepthToSpace": "blocksize mode",
    "Einsum": "equation",
    "Elu": "alpha",
    "Flatten": "axis",
    "Gather": "axis",
    "GatherND": "batch_dims",
    "Gelu": "approximate",
    "Gemm": "alpha beta transA transB",
    "GroupNormalization": "epsilon num_groups stash_type",
    "HardSigmoid": "alpha beta",
    "InstanceNormalization": "epsilon",
    "LRN": "alpha beta bias size",
    "LayerNormalization": "axis epsilon stash_type",
    "RMSNormalization": "axis epsilon stash_type",
    "LeakyRelu": "alpha",
    "LogSoftmax": "axis",
    "LpNormalization": "axis p",
    "MaxPool": "auto_pad ceil_mode dilations kernel_shape pads storage_order strides",
    "Pad": "mode pads value",
    "Reshape": "allowzero",
    "Resize": "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside "
    "extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
    "Scatter": "axis",
    "ScatterElements": "axis reduction",
    "ScatterND": "reduction",
    "Selu": "alpha gamma",
    "Slice": "axes ends starts",
    "Softmax": "axis",
    "SpaceToDepth": "blocksize mode",
    "Split": "axis num_outputs split",
    "Squeeze": "axes",
    "Swish": "alpha",
    "ThresholdedRelu": "alpha",
    "TopK": "axis k largest sorted",
    "Transpose": "perm",
    "Unsqueeze": "axes",
    "Upsample": "mode scales",
} | {op: "axes keepdims noop_with_empty_axes" for op in SUPPORTED if op.startswith("Reduce")}


@pytest.mark.parametrize("op", SUPPORTED)
def test_no_form_of_an_operator_has_attributes_nobody_knows(op):
    """A new one would be passed over in silence: the results would be wrong."""
    known = set(_ATTRIBUTES.get(op, "").split())
    newest = min(defs.onnx_opset_version(), NEWEST_OPSET)
    for opset in range(7, newest + 1):
        try:
            schema = defs.get_schema(op, opset)
        except defs.SchemaError:  # came later, or went
            continue
        assert set(schema.attributes) <= known, opset


def test_a_form_that_came_later_is_refused(tmp_path, monkeypatch):
    convert = importlib.import_module("activsparse.engine.passes.convert")  # and no function
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 6, 6])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Flatten", ["r"], ["y"], axis=2),
    ]
    since = defs.get_schema("Flatten").since_version
    opset = helper.make_opsetid("", since)
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "m.onnx")
    assert Session(tmp_path / "m.onnx").outputs == [("y", (4, 36))]
    monkeypatch.setattr(convert, "NEWEST_OPSET", since - 1)
    with pytest.raises(ActivsparseError, match=rf"\(Flatten\) is of a form that came .* {since}"):
        Session(tmp_path / "m.onnx")
