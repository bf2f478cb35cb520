"""Rewritten models in ONNX Runtime against the originals in ONNX Runtime."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import quantised
from onnx import TensorProto, helper
from oracle import expected

from activsparse import ActivsparseError, Session
from activsparse import onnxruntime as operators
from activsparse.engine.compile import compile_file
from activsparse.engine.exact import ExactModel
from activsparse.engine.exact.span import Span
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.export.mask import mask_model

try:
    operators.library_path()
except ActivsparseError:
    pytest.skip("the library of operators is not built (make native)", allow_module_level=True)


def session(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    operators.register(options)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def plain(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)


@pytest.mark.parametrize(
    ("name", "site", "fill"), [("resnet18", "norm", "nearest"), ("mobilenet_v2", "norm", "zero")]
)
def test_masked_networks(exported, tmp_path: Path, name: str, site: str, fill: str) -> None:
    model = exported(name, site, fill)
    rewritten = operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    assert (len(rewritten.plans), rewritten.kept) == (1, 0)
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    (expected,) = plain(model, {input_name(model): x})
    bound = network_bound(sums_of(rewritten.plans[0].reports), expected)
    for threads in (1, 2):
        (y,) = session(tmp_path / "out.onnx", threads).run(None, {input_name(model): x})
        assert np.abs(y - expected).max() <= bound


def input_name(path: Path) -> str:
    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


def mixed_model(path: Path, fill: str = "zero") -> Path:
    """Masked convolution - a sort of channels, which the engine does not know - convolution."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal((8, c, 3, 3)).astype(np.float32)
        for name, c in (("a.weight", 3), ("b.weight", 8))
    }
    constants = [onnx.numpy_helper.from_array(w, name) for name, w in weights.items()]
    constants.append(onnx.numpy_helper.from_array(np.array([8], np.int64), "count"))
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], "a", pads=[1] * 4),
        helper.make_node("TopK", ["a", "count"], ["sorted", "places"], "top", axis=1),
        helper.make_node("Conv", ["sorted", "b.weight"], ["y"], "b", pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 12, 12]),
            helper.make_tensor_value_info("places", TensorProto.INT64, [1, 8, 12, 12]),
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 8, 12, 12]),
        ],
        constants,
    )
    opset = helper.make_opsetid("", 17)
    dense = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    masked, _ = mask_model(dense, 0.3, pattern="random", fill=fill, skip_stem=False)
    onnx.save(masked, path)
    return path


@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_what_the_engine_does_not_know_is_kept(tmp_path: Path, fill: str) -> None:
    model = mixed_model(tmp_path / "mixed.onnx", fill)
    rewritten = operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    assert (len(rewritten.plans), rewritten.kept) == (2, 1)
    assert [node.op_type for node in rewritten.model.graph.node] == ["Plan", "TopK", "Plan"]
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12), np.float32)
    expected = plain(model, {"x": x})
    actual = session(tmp_path / "out.onnx").run(None, {"x": x})
    np.testing.assert_array_equal(actual[1], expected[1])
    for y, reference in ((actual[0], expected[0]), (actual[2], expected[2])):
        assert np.abs(y - reference).max() <= 1e-4


def with_provider(
    model: Path, plan: Path, threads: int = 1, log_severity: int = 4
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = log_severity
    operators.add_provider(options, plan)
    return onnxruntime.InferenceSession(model, options)


needs_providers = pytest.mark.skipif(
    tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < (1, 23),
    reason="execution providers from libraries came with ONNX Runtime 1.23",
)


def takes_all(model: Path, plan: Path) -> bool:
    """Whether the provider leaves nothing of a model to others."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    operators.add_provider(options, plan)
    try:
        onnxruntime.InferenceSession(model, options)
    except Exception:
        return False
    return True


@needs_providers
@pytest.mark.parametrize(
    ("name", "site", "fill"), [("resnet18", "norm", "nearest"), ("mobilenet_v2", "norm", "zero")]
)
def test_the_provider_runs_the_unmodified_file(
    exported, tmp_path: Path, name: str, site: str, fill: str
) -> None:
    model, plan = exported(name, site, fill), tmp_path / "model.plan"
    compiled = compile_file(model, plan, tune=False)
    assert takes_all(model, plan)
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    (expected,) = plain(model, {input_name(model): x})
    bound = network_bound(sums_of(compiled.reports), expected)
    sessions = [with_provider(model, plan, threads) for threads in (1, 2)]
    with ThreadPoolExecutor(4) as callers:
        runs = callers.map(lambda i: sessions[i % 2].run(None, {input_name(model): x})[0], range(6))
        for y in runs:
            assert np.abs(y - expected).max() <= bound


TYPES = ["double", "float16", "uint8", "int8", "int16", "int32", "int64", "bool"]


def typed_model(path: Path, kind: str) -> tuple[Path, np.ndarray]:
    """A convolution between casts, with an input and an output of another type; and an input."""
    dtype = {"double": np.float64}.get(kind) or np.dtype(kind).type
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    rng = np.random.default_rng(5)
    weight = rng.integers(-3, 4, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["in"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["in", "w"], ["out"], pads=[1] * 4),
    ]
    wide = {"uint8": np.int32, "int8": np.int32, "int16": np.int64}.get(kind, dtype)
    out_code = helper.np_dtype_to_tensor_dtype(np.dtype(wide))
    nodes.append(helper.make_node("Cast", ["out"], ["y"], to=out_code))
    graph = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("x", code, [1, 3, 9, 9])],
        [helper.make_tensor_value_info("y", out_code, [1, 4, 9, 9])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path, rng.integers(0, 9, (1, 3, 9, 9)).astype(dtype)


@needs_providers
@pytest.mark.parametrize("kind", TYPES)
def test_the_provider_converts_at_the_border(tmp_path: Path, kind: str) -> None:
    model, x = typed_model(tmp_path / "model.onnx", kind)
    compile_file(model, tmp_path / "model.plan", tune=False)
    assert takes_all(model, tmp_path / "model.plan")
    (expected,) = plain(model, {"x": x})
    (y,) = with_provider(model, tmp_path / "model.plan").run(None, {"x": x})
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)  # whole numbers, which no sum rounds
    if kind in ("double", "int32", "int64"):
        x[0, 1, 2, 3] = {"double": 1e39}.get(kind, (1 << 24) + 1)
        with pytest.raises(Exception, match="holds numbers that float32"):
            with_provider(model, tmp_path / "model.plan").run(None, {"x": x})


@pytest.mark.parametrize("kind", TYPES)
def test_a_rewritten_file_keeps_its_types(tmp_path: Path, kind: str) -> None:
    model, x = typed_model(tmp_path / "model.onnx", kind)
    rewritten = operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    assert len(rewritten.plans) == 1
    (expected,) = plain(model, {"x": x})
    (y,) = session(tmp_path / "out.onnx").run(None, {"x": x})
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)


@needs_providers
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (5, 1), (5, 2)])
def test_several_runs_of_a_session_at_once(
    tmp_path: Path, open_batch: Path, batch: int, threads: int
) -> None:
    """Each in memory of its own: the bits of one run after the other, also of a divided batch."""
    plan = tmp_path / "model.plan"
    shape = (batch, 3, 8, 8)
    compiled = compile_file(
        open_batch, plan, tune=False, threads=threads, input_shapes={"x": shape}
    )
    assert batch % compiled.parts == 0
    own = with_provider(open_batch, plan, threads)
    rng = np.random.default_rng(batch)
    feeds = [{"x": rng.standard_normal(shape, np.float32)} for _ in range(4)]
    expected = [own.run(None, feed)[0] for feed in feeds]
    for y, feed in zip(expected, feeds, strict=True):
        assert np.abs(y - plain(open_batch, feed)[0]).max() <= 1e-4
    with ThreadPoolExecutor(4) as callers:
        for y, i in callers.map(lambda i: (own.run(None, feeds[i % 4])[0], i), range(200)):
            np.testing.assert_array_equal(y, expected[i % 4])


def two_outputs(path: Path, swapped: bool = False) -> Path:
    """Two inputs, two outputs, and a value between them."""
    rng = np.random.default_rng(0)
    weights = {
        name: onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in {"wa": (8, 3, 3, 3), "wb": (8, 8, 3, 3), "wc": (4, 8, 1, 1)}.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["inner"], pads=[1] * 4),
        helper.make_node("Add", ["inner", "z"], ["sum"]),
        helper.make_node("Conv", ["sum", "wb"], ["y"], pads=[1] * 4),
        helper.make_node("Conv", ["sum", "wc"], ["v"]),
    ]

    def values(*names: tuple[str, int]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, 9, 9])
            for name, c in (reversed(names) if swapped else names)
        ]

    graph = helper.make_graph(
        nodes,
        "two",
        values(("x", 3), ("z", 8)),
        values(("y", 8), ("v", 4)),
        list(weights.values()),
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@needs_providers
def test_the_provider_matches_values_by_name_and_takes_nothing_of_others(tmp_path: Path) -> None:
    model, plan = two_outputs(tmp_path / "model.onnx"), tmp_path / "model.plan"
    compile_file(model, plan, tune=False)
    rng = np.random.default_rng(1)
    feed = {name: rng.standard_normal((1, c, 9, 9), np.float32) for name, c in (("x", 3), ("z", 8))}
    for swapped in (False, True):
        path = two_outputs(tmp_path / "other.onnx", swapped)
        assert takes_all(path, plan)
        expected = plain(path, feed)
        for y, reference in zip(with_provider(path, plan).run(None, feed), expected, strict=True):
            assert np.abs(y - reference).max() <= 1e-4
    other = mixed_model(tmp_path / "mixed.onnx")
    assert not takes_all(other, plan)
    x = rng.standard_normal((1, 3, 12, 12), np.float32)
    for y, reference in zip(
        with_provider(other, plan).run(None, {"x": x}), plain(other, {"x": x}), strict=True
    ):
        np.testing.assert_array_equal(y, reference)


@needs_providers
def test_the_provider_runs_its_part_and_leaves_the_rest(tmp_path: Path) -> None:
    """A plan of the first convolution; the sort behind it, and what follows, are the runtime's."""
    model = mixed_model(tmp_path / "mixed.onnx")
    part = tmp_path / "part.onnx"
    onnx.utils.extract_model(model, part, ["x"], ["a"])
    compile_file(part, tmp_path / "part.plan", tune=False)
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12), np.float32)
    assert not takes_all(model, tmp_path / "part.plan")
    actual = with_provider(model, tmp_path / "part.plan").run(None, {"x": x})
    for y, reference in zip(actual, plain(model, {"x": x}), strict=True):
        assert np.abs(y - reference).max() <= 1e-4


def branches(path: Path, outputs: list[str]) -> Path:
    """Convolution, ReLU, convolution; what else reads `inner` between them ends in other values.

    `negative` is of an operator's input, `chosen` of an operator whose graphs read it.
    """
    rng = np.random.default_rng(0)
    constants = [
        onnx.numpy_helper.from_array(rng.standard_normal((8, c, 3, 3)).astype(np.float32), name)
        for name, c in (("wa", 3), ("wb", 8))
    ]
    constants.append(onnx.numpy_helper.from_array(np.float32(0), "zero"))

    def value(name: str, channels: int = 8) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 9, 9])

    def branch(op: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, ["inner"], [op])], op, [], [value(op)])

    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["first"], pads=[1] * 4),
        helper.make_node("Relu", ["first"], ["inner"]),
        helper.make_node("Conv", ["inner", "wb"], ["y"], pads=[1] * 4),
    ]
    if "negative" in outputs:
        nodes.append(helper.make_node("Neg", ["inner"], ["negative"]))
    if "chosen" in outputs:
        nodes += [
            helper.make_node("ReduceSum", ["y"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["positive"]),
            helper.make_node(
                "If",
                ["positive"],
                ["chosen"],
                then_branch=branch("Neg"),
                else_branch=branch("Exp"),
            ),
        ]
    graph = helper.make_graph(
        nodes, "branches", [value("x", 3)], [value(name) for name in outputs], constants
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@needs_providers
@pytest.mark.parametrize("also", ["inner", "negative", "chosen"])
def test_a_part_whose_inner_values_are_read_elsewhere_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], also: str
) -> None:
    x = np.random.default_rng(1).standard_normal((1, 3, 9, 9), np.float32)
    model = branches(tmp_path / "model.onnx", ["y", also])
    part = branches(tmp_path / "part.onnx", ["y"])
    wider = branches(tmp_path / "wider.onnx", ["y", "inner"])
    for file in (part, wider):
        compile_file(file, file.with_suffix(".plan"), tune=False)
    expected = plain(model, {"x": x})
    options = onnxruntime.SessionOptions()
    operators.add_provider(options, tmp_path / "part.plan")
    session = onnxruntime.InferenceSession(model, options)
    assert "part.plan: left unused" in (warning := capfd.readouterr().err)
    assert "'inner'" in warning
    for y, reference in zip(session.run(None, {"x": x}), expected, strict=True):
        np.testing.assert_array_equal(y, reference)
    # What the warning advises: a plan that gives the value.
    assert takes_all(wider, tmp_path / "wider.plan")
    actual = with_provider(model, tmp_path / "wider.plan").run(None, {"x": x})
    for y, reference in zip(actual, expected, strict=True):
        assert np.abs(y - reference).max() <= 1e-4 * max(1, np.abs(reference).max())


@needs_providers
def test_an_output_nobody_needs_leaves_the_part(tmp_path: Path) -> None:
    """The node in its place would not have it."""
    x = np.random.default_rng(1).standard_normal((1, 3, 9, 9), np.float32)
    model = branches(tmp_path / "model.onnx", ["y"])
    compile_file(branches(tmp_path / "wider.onnx", ["y", "inner"]), tmp_path / "plan", tune=False)
    (y,) = with_provider(model, tmp_path / "plan").run(None, {"x": x})
    np.testing.assert_array_equal(y, plain(model, {"x": x})[0])


@needs_providers
@pytest.mark.parametrize("threads", ["two", "-1", "0", "1.5", "", "99999999999", "1025"])
def test_threads_that_are_no_number_of_threads_are_refused(tmp_path: Path, threads: str) -> None:
    model = branches(tmp_path / "model.onnx", ["y"])
    says = f"activsparse.threads' is '{threads}'; give .* from 1 to 1024"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("activsparse.threads", threads)
    with pytest.raises(Exception, match=says):
        options.register_custom_ops_library(str(operators.library_path()))
    compile_file(model, tmp_path / "plan", tune=False)
    operators.add_provider(onnxruntime.SessionOptions(), tmp_path / "plan")  # loads the library
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == operators.DOMAIN]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices(devices, {"plan": str(tmp_path / "plan"), "threads": threads})
    with pytest.raises(Exception, match=says):
        onnxruntime.InferenceSession(model, options)


@needs_providers
@pytest.mark.parametrize("wrong", ["thread", "Plan", "x.plan"])
def test_options_the_provider_does_not_have_are_refused(tmp_path: Path, wrong: str) -> None:
    model = branches(tmp_path / "model.onnx", ["y"])
    compile_file(model, tmp_path / "plan", tune=False)
    operators.add_provider(onnxruntime.SessionOptions(), tmp_path / "plan")  # loads the library
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == operators.DOMAIN]
    words = {"plan": str(tmp_path / "plan"), "threads": "1"}
    for more in ({}, {wrong: "2"}):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_provider_for_devices(devices, words | more)
        if not more:
            onnxruntime.InferenceSession(model, options)
            continue
        says = f"no option '{wrong}'; the options are: plan, threads"
        with pytest.raises(Exception, match=says):
            onnxruntime.InferenceSession(model, options)


def changed(model: Path, path: Path, name: str, change) -> Path:
    """Copy a model with one constant changed; `change` returns its new value."""
    proto = onnx.load(model)
    (tensor,) = (t for t in proto.graph.initializer if t.name == name)
    value = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


def left_unused(model: Path, plan: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Create a session, hold that ONNX Runtime computes all of it, and return why."""
    capfd.readouterr()
    session = with_provider(model, plan, log_severity=2)
    (why,) = (line for line in capfd.readouterr().err.splitlines() if "left unused" in line)
    assert plan.name in why
    rng = np.random.default_rng(1)
    feed = {v.name: rng.standard_normal(v.shape, np.float32) for v in session.get_inputs()}
    for ours, theirs in zip(session.run(None, feed), plain(model, feed), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return why


@needs_providers
@pytest.mark.parametrize("name", ["wa", "wb"])
def test_a_plan_of_other_weights_is_left_unused(tmp_path: Path, name: str, capfd) -> None:
    model, plan = branches(tmp_path / "model.onnx", ["y"]), tmp_path / "old.plan"
    compile_file(model, plan, tune=False)
    trained = changed(model, tmp_path / "trained.onnx", name, lambda w: w * np.float32(1.01))
    assert f"constant '{name}' holds something else" in left_unused(trained, plan, capfd)
    assert takes_all(model, plan)
    compile_file(trained, plan, tune=False)
    assert takes_all(trained, plan)


@needs_providers
@pytest.mark.parametrize("fill", ["zero", "nearest"])
def test_a_plan_of_another_mask_is_left_unused(exported, tmp_path: Path, fill: str, capfd) -> None:
    """Where the runtime folds a norm into a convolution its weight has another name, masks stay."""
    model, plan = exported("resnet18", "norm", fill), tmp_path / "model.plan"
    compile_file(model, plan, tune=False)
    assert takes_all(model, plan)
    proto = onnx.load(model)
    if fill == "zero":
        kind, change = "Mul", lambda mask: mask[..., ::-1]
    else:
        kind, change = "Gather", np.zeros_like
    constants = {t.name for t in proto.graph.initializer}
    mask = next(i for n in proto.graph.node if n.op_type == kind for i in n.input if i in constants)
    other = changed(model, tmp_path / "other.onnx", mask, change)
    assert "compile the plan from this model" in left_unused(other, plan, capfd)


@needs_providers
def test_a_constant_the_runtime_changes_stops_no_session(tmp_path: Path, capfd) -> None:
    """It moves the transposition past the product, whose factor keeps its name."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    moved (float[1, 2, 3, 1] x) => (float[1, 2, 3, 1] y)
    <float[1, 3, 2, 1] k = {0, 1, 0, 1, 1, 0}> {
        turned = Transpose <perm = [0, 2, 1, 3]> (x)
        product = Mul (turned, k)
        y = Transpose <perm = [0, 2, 1, 3]> (product)
    }"""
    path, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    onnx.save(onnx.parser.parse_model(text), path)
    compile_file(path, plan, tune=False)
    assert "constant 'k' holds something else" in left_unused(path, plan, capfd)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "written.onnx")
    onnxruntime.InferenceSession(path, options)
    compile_file(tmp_path / "written.onnx", plan, tune=False)
    assert takes_all(tmp_path / "written.onnx", plan)


@needs_providers
def test_a_plan_of_a_model_with_other_weights_names_is_left_unused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Inputs and outputs are called the same, and nothing else."""
    plan = tmp_path / "one.plan"
    compile_file(branches(tmp_path / "one.onnx", ["y"]), plan, tune=False)
    proto = onnx.load(tmp_path / "one.onnx")
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), f"my {tensor.name}.0")
        )
    for node in proto.graph.node:
        if node.op_type == "Conv":
            node.input[1] = f"my {node.input[1]}.0"
    other = tmp_path / "other.onnx"
    onnx.save(proto, other)
    assert "has no weight of the one" in left_unused(other, plan, capfd)


@needs_providers
def test_folded_norms_do_not_hide_that_a_plan_fits(tmp_path: Path) -> None:
    """All weights are ones the runtime makes of the file's; nothing tells them apart."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 3, 9, 9] x) => (float[1, 8, 9, 9] y)
    {
        a = Conv<pads = [1, 1, 1, 1]>(x, w)
        y = BatchNormalization(a, scale, bias, mean, var)
    }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    norm = dict.fromkeys(("scale", "bias", "mean", "var"), (8,))
    for name, shape in {"w": (8, 3, 3, 3), **norm}.items():
        value = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    path, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    onnx.save(model, path)
    compile_file(path, plan, tune=False)
    assert takes_all(path, plan)


@needs_providers
def test_weights_that_differ_at_their_end_are_noticed(tmp_path: Path, capfd) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    model (float[1, 64, 9, 8] x) => (float[1, 64, 9, 8] y) {
        y = Conv <pads: ints = [1, 1, 1, 1]> (x, w)
    }"""
    model = onnx.parser.parse_model(text)
    weights = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path, plan = tmp_path / "model.onnx", tmp_path / "model.plan"
    onnx.save(model, path)
    compile_file(path, plan, tune=False)
    assert takes_all(path, plan)
    changed(path, path, "w", lambda w: np.where(np.arange(w.size).reshape(w.shape) == 36863, 0, w))
    assert "constant 'w' holds something else" in left_unused(path, plan, capfd)


@needs_providers
def test_weights_in_a_file_beside_the_model_are_compared(tmp_path: Path, capfd) -> None:
    model = onnx.load(branches(tmp_path / "model.onnx", ["y"]))
    path, plan = tmp_path / "external.onnx", tmp_path / "model.plan"
    words = {"save_as_external_data": True, "location": "external.bin", "size_threshold": 0}
    onnx.save(model, path, **words)
    compile_file(path, plan, tune=False)
    assert takes_all(path, plan)
    data = np.fromfile(tmp_path / "external.bin", np.uint8)
    data[100] ^= 1
    data.tofile(tmp_path / "external.bin")
    assert "holds something else" in left_unused(path, plan, capfd)


@needs_providers
def test_plans_the_provider_cannot_use_are_refused_with_the_reason(tmp_path: Path) -> None:
    model, plan = two_outputs(tmp_path / "model.onnx"), tmp_path / "model.plan"
    with pytest.raises(Exception, match=r"(?i)no such file"):
        with_provider(model, plan)
    compile_file(model, plan, target="aarch64")
    with pytest.raises(Exception, match="neon"):
        with_provider(model, plan)
    compile_file(model, plan, tune=False)
    plan.write_bytes(plan.read_bytes()[:-64])
    with pytest.raises(Exception, match="cut or damaged"):
        with_provider(model, plan)


def test_two_sessions_and_many_callers(exported, tmp_path: Path) -> None:
    model = exported("resnet18", "norm", "zero")
    operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    name = input_name(model)
    sessions = [session(tmp_path / "out.onnx", threads) for threads in (1, 2)]
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    expected = sessions[0].run(None, {name: x})[0]
    with ThreadPoolExecutor(4) as callers:
        results = callers.map(lambda i: sessions[i % 2].run(None, {name: x})[0], range(12))
        assert all(np.array_equal(y, expected) for y in results)


def test_what_goes_wrong_is_said(sparse, open_batch, tmp_path: Path) -> None:
    operators.rewrite(open_batch, tmp_path / "out.onnx", input_shapes={"x": (2, 3, 8, 8)})
    onnx_session = session(tmp_path / "out.onnx")
    with pytest.raises(Exception, match=r"(?i)shape|dimension"):
        onnx_session.run(None, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(ActivsparseError, match="there is none"):
        operators.rewrite(sparse, tmp_path / "out.onnx", target="z80")
    model = onnx.load(tmp_path / "out.onnx")
    (attribute,) = model.graph.node[0].attribute
    attribute.s = attribute.s[:-64]
    onnx.save(model, tmp_path / "cut.onnx")
    with pytest.raises(Exception, match="cut or damaged"):
        session(tmp_path / "cut.onnx")


def quantised_model(path: Path, network: str, style: str) -> tuple[Path, dict[str, np.ndarray]]:
    quantised.case(path, network, style)
    (feed,) = quantised.images(onnx.load(path), 11, 1)
    return path, feed


def largest_step(path: Path) -> float:
    """Of what a run quantises in a file."""
    model = onnx.load(path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    scales = [node.input[1] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    scales += [n.input[6] for n in model.graph.node if n.op_type in ("QLinearConv", "QLinearAdd")]
    return max(float(constants[scale]) for scale in scales)


STYLES = ("u8s8 per channel", "s8s8 per channel", "operators u8s8", "operators s8s8", "nncf")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("network", ["masked", "filled", "residual", "classifier"])
def test_quantised_files_are_rewritten(tmp_path: Path, network: str, style: str) -> None:
    """All of them in one plan, on bytes; sums that the last layer rounds may differ by a step."""
    model, feed = quantised_model(tmp_path / "q.onnx", network, style)
    rewritten = operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    assert (len(rewritten.plans), rewritten.kept) == (1, 0)
    assert any(r.kind == "conv_u8" for r in rewritten.plans[0].reports)
    assert not any(r.kind == "conv" for r in rewritten.plans[0].reports)
    actual = session(tmp_path / "out.onnx").run(None, feed)
    for y, truth, span in zip(actual, expected(model, feed), exact(model, feed), strict=True):
        within(y, truth, span, largest_step(model))


@needs_providers
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("network", ["masked", "filled", "residual"])
def test_the_provider_runs_quantised_files(tmp_path: Path, network: str, style: str) -> None:
    model, feed = quantised_model(tmp_path / "q.onnx", network, style)
    compile_file(model, tmp_path / "q.plan", tune=False)
    assert takes_all(model, tmp_path / "q.plan")
    actual = with_provider(model, tmp_path / "q.plan").run(None, feed)
    for y, truth, span in zip(actual, expected(model, feed), exact(model, feed), strict=True):
        within(y, truth, span, largest_step(model))


@pytest.mark.parametrize("style", STYLES)
def test_a_quantised_file_with_what_the_engine_does_not_know(tmp_path: Path, style: str) -> None:
    """Convolutions on both sides of it stay on bytes, whatever of pairs the other engine reads."""
    b = graphs.Builder(0, 13)
    x = b.node("Relu", b.conv(b.input(1, 3, 12, 12), 16))
    x = b.node("Relu", b.conv(x, 16))
    x = b.node("Hardmax", x, axis=1)
    x = b.node("Relu", b.conv(x, 16))
    b.save(tmp_path / "f.onnx", b.conv(x, 8))
    make = quantised.by_hand if style == "nncf" else quantised.by_onnxruntime
    # Weights of 7 bits: with AVX2 alone ONNX Runtime's sums of 8 saturate, and another channel is
    # the largest.
    how = replace(quantised.STYLES[style], reduce_range=True)
    model = make(quantised.typed(tmp_path / "f.onnx"), tmp_path / "q.onnx", how)
    (feed,) = quantised.images(onnx.load(model), 11, 1)
    rewritten = operators.rewrite(model, tmp_path / "out.onnx", tune=False)
    kinds = [[r.kind for r in plan.reports] for plan in rewritten.plans]
    assert [k.count("conv_u8") for k in kinds] == [2, 2]
    assert not any("conv" in k for k in kinds)
    (truth,) = expected(model, feed)
    (got,) = session(tmp_path / "out.onnx").run(None, feed)
    ours = Session(model, fallback="onnxruntime").run(feed)
    np.testing.assert_allclose(got, truth, rtol=0, atol=1.01 * largest_step(model))
    np.testing.assert_allclose(ours, truth, rtol=0, atol=1.01 * largest_step(model))


def exact(model: Path, feed: dict[str, np.ndarray]) -> list[Span]:
    return list(ExactModel(model).run(feed, slack=2.0**-9).values())


def within(y: np.ndarray, truth: np.ndarray, span: Span, step: float) -> None:
    """Within a step of what ONNX Runtime makes of the file, or what its roundings may lead to."""
    far = np.abs(y - truth) > 1.01 * step
    room = 1e-5 * max(1.0, float(np.abs(span.high).max()))
    assert not (far & ((y < span.low - room) | (y > span.high + room))).any()
