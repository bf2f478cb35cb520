"""Networks computed in float16, here by the portable kernels."""

from __future__ import annotations

import itertools

import graphs
import numpy as np
import pytest
from onnx import numpy_helper

from activsparse import ActivsparseError, Session, _native
from activsparse.cli import main
from activsparse.engine import halve
from activsparse.engine.choose import by_cost
from activsparse.engine.compile import compile_file, compile_model
from activsparse.engine.load import load
from activsparse.engine.passes import optimise
from activsparse.engine.plan import compile_graph
from activsparse.engine.tolerance import HALF_ROUNDOFF, network_bound, sums_of
from activsparse.engine.verify import TRIALS, compare_with_onnxruntime

HALF = {"precision": "float16", "isa": "scalar", "tune": False}
# x86 has no arithmetic in float16.
WITHOUT = [isa for isa in _native.available_isas() if not _native.computes_halves(isa)]


def made(path, n=1):
    """All that image networks are made of: masks, residuals, excitation, branches, pools."""
    b = graphs.Builder(31)
    pixel = {"kernel": (1, 1), "pads": (0, 0, 0, 0)}
    x = b.node("Relu", b.norm(b.conv(b.input(n, 3, 32, 32), 24, strides=(2, 2))))
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = b.node("MaxPool", x, shape=(n, 24, 8, 8), **window)
    y = b.node("Relu", b.mask(b.norm(b.conv(x, 40, **pixel))))
    y = b.node("Relu", b.mask(b.norm(b.conv(y, 40, group=40))))
    s = b.node("GlobalAveragePool", y, shape=(n, 40, 1, 1))
    s = b.node("Sigmoid", b.conv(b.node("Relu", b.conv(s, 8, **pixel)), 40, **pixel))
    y = b.node("Mul", y, s)
    x = b.node("Add", x, b.norm(b.conv(y, 24, **pixel)))
    left, right = (b.node("Relu", b.conv(x, 32, **kind)) for kind in (pixel, {}))
    x = b.node("Concat", left, right, shape=(n, 64, 8, 8), axis=1)
    x = b.node("Relu", b.mask(b.norm(b.conv(x, 64, strides=(2, 2)))))
    x = b.flatten(b.node("GlobalAveragePool", x, shape=(n, 64, 1, 1)))
    return b.save(path, b.gemm(x, 100))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return made(tmp_path_factory.mktemp("float16") / "network.onnx")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("winograd", [True, False])
def test_networks_hold_the_bound(network, winograd, threads):
    session = Session(network, winograd=winograd, threads=threads, **HALF)
    rows = session.explain()
    assert "float16" in {row.precision for row in rows}
    found = compare_with_onnxruntime(network, session, 0, TRIALS)
    assert all(row.holds for row in found), found
    assert {row.trial for row in found} == set(TRIALS) - {"huge"}
    # The bound is one of float16, and its arithmetic was at work.
    exact = compare_with_onnxruntime(network, Session(network, isa="scalar", tune=False))[0]
    normal = found[0]
    assert 20 * exact.bound < normal.bound < 400 * HALF_ROUNDOFF * normal.reference_max
    assert normal.max_abs_err > 20 * exact.max_abs_err


def test_values_stay_in_float16_between_layers(network):
    session = Session(network, winograd=False, **HALF)
    types = [(row.kind, row.precision) for row in session.explain()]
    first = next(i for i, (kind, _) in enumerate(types) if kind == "to_float16")
    last = next(i for i, (kind, _) in enumerate(types) if kind == "to_float32")
    between = types[first + 1 : last]
    # A concatenation of parts that start on whole cache lines is no operator, and a first pool
    # leaves less to convert.
    assert {kind for kind, _ in between} == {"conv", "gemm", "global_average_pool", "mul"}
    assert {precision for _, precision in between} == {"float16"}
    assert [kind for kind, _ in types].count("to_float16") == 1
    reasons = {row.name: row.reason for row in session.explain() if row.kind == "conv"}
    (stem,) = (reason for reason in reasons.values() if "in float32" in reason)
    assert "it reads the input as it comes" in stem


def test_masks_skip_as_in_float32(network):
    half = Session(network, winograd=False, **HALF).explain()
    options = {"isa": "scalar", "tune": False, "algorithm": "direct"}
    direct = {row.name: row for row in Session(network, **options).explain()}
    masked = [row for row in half if row.requested and row.precision == "float16"]
    assert len(masked) == 3
    for row in masked:
        assert row.eligible
        assert row.macs == direct[row.name].macs < row.dense_macs


def test_a_plan_keeps_it(network, tmp_path):
    session = Session(network, threads=2, **HALF)
    session.save(tmp_path / "half.plan")
    plan = Session(tmp_path / "half.plan")
    assert plan.explain() == session.explain()
    x = session.random_input(1)
    np.testing.assert_array_equal(plan.run(x), session.run(x))
    with pytest.raises(ActivsparseError, match="cannot change a compiled plan"):
        Session(tmp_path / "half.plan", precision="float16")


def test_batches_give_what_their_images_give(network, tmp_path):
    x = np.random.default_rng(2).standard_normal((4, 3, 32, 32)).astype(np.float32)
    one = Session(network, threads=1, **HALF)
    expected = np.concatenate([one.run(x[i : i + 1]) for i in range(4)])
    four = made(tmp_path / "four.onnx", 4)
    for threads in (1, 2):
        np.testing.assert_array_equal(Session(four, threads=threads, **HALF).run(x), expected)


def test_arm_plans_are_compiled_anywhere(network, tmp_path):
    plan = compile_file(network, tmp_path / "plan", target="aarch64", precision="float16")
    assert any("neon float16" in row.kernel for row in plan.reports)


@pytest.mark.parametrize("isa", WITHOUT)
def test_processors_without_it_are_refused(network, tmp_path, isa):
    with pytest.raises(ActivsparseError, match="no float16 arithmetic") as caught:
        Session(network, isa=isa, precision="float16")
    assert "weights='float16'" in str(caught.value)
    with pytest.raises(ActivsparseError, match="no float16 arithmetic"):
        compile_file(network, tmp_path / "plan", target=isa, precision="float16")
    with pytest.raises(ActivsparseError, match="no float16 arithmetic"):
        Session(network, isa=isa, precision="float16", fallback="onnxruntime")


def test_other_types_are_refused(network):
    with pytest.raises(ActivsparseError, match="choose 'float32' or 'float16'"):
        Session(network, precision="int8")


def test_weights_out_of_range_stay_in_float32(tmp_path):
    b = graphs.Builder(32)
    x = b.node("Relu", b.conv(b.input(1, 3, 12, 12), 16))
    for scale in (1e6, 1e-6):
        pixel = b.conv(x, 16, kernel=(1, 1), pads=(0, 0, 0, 0), bias=False)
        weight = b.constants[-1]
        values = scale * np.random.default_rng(0).standard_normal((16, 16, 1, 1))
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))
        path = b.save(tmp_path / "range.onnx", pixel)
        rows = [row for row in Session(path, **HALF).explain() if row.kind == "conv"]
        assert all(row.precision == "float32" for row in rows)
        assert "its weights leave float16's range" in rows[-1].reason


def test_types_are_chosen_for_the_least_time(network):
    """Against all choices there are, of a part of the network."""
    graph = optimise(load(network))
    found = halve._Network(graph, "neon", True)
    free = list(found.costs)[:9]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.uniform(2, 5)
        found.costs = {name: tuple(scale * rng.random(2)) for name in free}
        every = (
            {name for name, half in zip(free, halves, strict=True) if half}
            for halves in itertools.product((False, True), repeat=len(free))
        )
        best = min(found._total(halves) for halves in every)
        taken = found._total(found.fastest())
        assert best <= taken <= 1.1 * best, seed


def test_winograd_competes(tmp_path):
    """Of products so many that Winograd's fewer are worth the conversions."""
    b = graphs.Builder(33)
    x = b.node("Relu", b.conv(b.input(1, 3, 112, 112), 64, strides=(2, 2)))
    for _ in range(3):
        x = b.node("Relu", b.norm(b.conv(x, 64)))
    x = b.node("Relu", b.norm(b.conv(x, 256, kernel=(1, 1), pads=(0, 0, 0, 0))))
    x = b.node("Relu", b.norm(b.conv(x, 64, kernel=(1, 1), pads=(0, 0, 0, 0))))
    graph = load(b.save(tmp_path / "wide.onnx", x))
    rows = compile_graph(graph, "neon", by_cost, precision="float16").reports
    convs = [row for row in rows if row.kind == "conv"]
    assert [row.algorithm.startswith("winograd") for row in convs[1:4]] == [True] * 3
    assert all("in float32" in row.reason for row in convs[1:4])
    assert {row.precision for row in convs[4:]} == {"float16"}


def test_the_command_line_takes_it(network, tmp_path, capsys):
    plan = tmp_path / "network.plan"
    words = ["--precision", "float16"]
    target = ["--target", "x86-64"]
    assert main(["compile", str(network), "--out", str(plan), *target, *words]) == 0
    assert main(["verify", str(network), "--plan", str(plan)]) == 0
    capsys.readouterr()
    isa = ["--isa", "scalar"]
    assert main(["explain", str(network), "--repeat", "1", *isa, *words]) == 0
    assert "float16" in capsys.readouterr().out
    for name in WITHOUT[:1]:
        assert main(["explain", str(network), "--isa", name, *words]) == 2
        assert "--weights float16" in capsys.readouterr().err


def test_errors_are_not_far_above_those_of_weights_alone(network):
    """Sums of so many products at most keep what arithmetic adds within a few roundings."""
    x = Session(network).random_input(3)
    truth = Session(network, isa="scalar", tune=False).run(x)
    errors = [
        float(np.abs(Session(network, isa="scalar", tune=False, **kept).run(x) - truth).max())
        for kept in ({"weights": "float16"}, {"precision": "float16"})
    ]
    assert errors[1] < 12 * errors[0]
    reports = compile_model(network, isa="scalar", tune=False, precision="float16").reports
    assert errors[1] < network_bound(sums_of(reports), truth)
