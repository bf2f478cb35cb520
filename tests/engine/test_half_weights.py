"""Sessions and plans whose weights are kept in float16."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, Session, _native
from activsparse.cli import main
from activsparse.engine.compile import compile_file
from activsparse.engine.tolerance import WEIGHT_ROUNDING, network_bound, sums_of, weight_noise
from activsparse.engine.verify import NORMAL, TRIALS, compare_with_onnxruntime

ISAS = _native.available_isas()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Every kind of product: first, 3x3, strided, 1x1, depthwise between two, fully connected."""
    b = graphs.Builder(21)
    pixel = {"kernel": (1, 1), "pads": (0, 0, 0, 0)}
    x = b.node("Relu", b.norm(b.conv(b.input(1, 3, 40, 40), 32, strides=(2, 2))))
    x = b.node("Relu", b.norm(b.conv(x, 64)))
    x = b.node("Relu", b.mask(b.norm(b.conv(x, 64))))
    x = b.node("Relu", b.norm(b.conv(x, 96, strides=(2, 2))))
    y = b.node("Relu", b.norm(b.conv(x, 192, **pixel)))
    y = b.node("Relu", b.norm(b.conv(y, 192, group=192)))
    x = b.node("Add", x, b.norm(b.conv(y, 96, **pixel)))
    x = b.flatten(b.node("GlobalAveragePool", x, shape=(1, 96, 1, 1)))
    path = tmp_path_factory.mktemp("half") / "network.onnx"
    return b.save(path, b.gemm(x, 100))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_networks_hold_the_bound(network, isa, threads):
    exact = Session(network, isa=isa, threads=threads)
    session = Session(network, isa=isa, threads=threads, weights="float16")
    types = {row.name: row.weight_type for row in session.explain() if row.weight_type}
    assert "float16" in types.values()
    assert {row.weight_type for row in exact.explain()} == {"", "float32"}
    assert 0 == weight_noise(exact.explain()) < weight_noise(session.explain())
    rows = compare_with_onnxruntime(network, session, 0, TRIALS)
    assert all(row.holds for row in rows), rows
    # The bound is one of float16, and not far above what the weights' roundings come to.
    normal, tight = rows[0], compare_with_onnxruntime(network, exact)[0]
    assert 20 * tight.bound < normal.bound < 400 * WEIGHT_ROUNDING * normal.reference_max
    assert tight.max_abs_err < normal.max_abs_err


def difference(path, wrong=False):
    """Two convolutions that nearly cancel, so that what weights lose is large beside the result."""
    b = graphs.Builder(23)
    x = b.input(1, 32, 12, 12)
    first = b.conv(x, 32, bias=False)
    second = b.conv(x, 32, bias=False)
    weight, other = (b.constants[i] for i in range(2))
    values = numpy_helper.to_array(weight)
    near = values * (1 + 0.02 * b.normal(*values.shape))
    if wrong:
        near[3] = np.roll(near[3], 1, axis=-1)  # the taps of one filter
    other.CopyFrom(numpy_helper.from_array(near.astype(np.float32), other.name))
    return b.save(path, b.node("Sub", first, second))


@pytest.mark.parametrize("algorithm", ["direct", "winograd4"])
def test_draws_decide_where_a_network_amplifies(tmp_path, algorithm):
    path = difference(tmp_path / "near.onnx")
    session = Session(path, algorithm=algorithm, weights="float16")
    for row in compare_with_onnxruntime(path, session, 0, TRIALS):
        assert row.holds, row
        if row.trial == NORMAL and algorithm == "direct":
            assert row.bound > network_bound(sums_of(session.explain()), row.reference_max)
    wrong = difference(tmp_path / "wrong.onnx", wrong=True)
    session = Session(wrong, algorithm=algorithm, weights="float16")
    assert not compare_with_onnxruntime(path, session)[0].holds


@pytest.mark.parametrize("isa", ISAS)
def test_they_take_half_the_memory(network, tmp_path, isa):
    sizes = {}
    for weights in ("float32", "float16"):
        session = Session(network, isa=isa, tune=False, winograd=False, weights=weights)
        rows = session.explain()
        products = [r for r in rows if r.weight_bytes > 2**14 and "depthwise" not in r.algorithm]
        session.save(tmp_path / weights)
        sizes[weights] = (
            sum(row.weight_bytes for row in products),
            (tmp_path / weights).stat().st_size,
        )
    packed, file = (half / whole for half, whole in zip(*reversed(sizes.values()), strict=True))
    assert packed < 0.52
    assert file < 0.6  # with descriptions, and what stays


def test_a_plan_keeps_them(network, tmp_path):
    session = Session(network, weights="float16")
    session.save(tmp_path / "half.plan")
    plan = Session(tmp_path / "half.plan")
    assert plan.explain() == session.explain()
    x = session.random_input(1)
    np.testing.assert_array_equal(plan.run(x), session.run(x))
    with pytest.raises(ActivsparseError, match="cannot change a compiled plan"):
        Session(tmp_path / "half.plan", weights="float16")


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_any_machine_packs_them_for_any_other(network, tmp_path, target):
    plan = compile_file(network, tmp_path / "plan", target=target, weights="float16")
    assert any(row.weight_type == "float16" for row in plan.reports)


@pytest.mark.parametrize("isa", ISAS)
def test_weights_that_were_float16_lose_nothing(tmp_path, isa):
    """Initialisers in float16, behind a Cast, and no norm that would be folded into them."""
    b = graphs.Builder(22)
    x = b.node("Relu", b.conv(b.input(1, 20, 9, 9), 40))
    x = b.node("Relu", b.conv(x, 30, kernel=(1, 1), pads=(0, 0, 0, 0)))
    x = b.flatten(b.node("GlobalAveragePool", x, shape=(1, 30, 1, 1)))
    path = b.save(tmp_path / "cast.onnx", b.gemm(x, 10))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if len(tensor.dims) > 1:
            name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
            cast = helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT)
            model.graph.node.insert(0, cast)
    onnx.save(model, path)
    options = {"isa": isa, "tune": False, "algorithm": "direct"}
    exact, session = (Session(path, weights=w, **options) for w in ("float32", "float16"))
    assert any(row.weight_type == "float16" for row in session.explain())
    x = session.random_input(3)
    np.testing.assert_array_equal(session.run(x), exact.run(x))


def test_other_types_are_refused(network):
    with pytest.raises(ActivsparseError, match="choose 'float32' or 'float16'"):
        Session(network, weights="int8")
    with pytest.raises(ActivsparseError, match="float16 is too coarse"):
        Session(network, algorithm="winograd6", weights="float16")


def test_the_command_line_takes_them(network, tmp_path, capsys):
    plan = tmp_path / "network.plan"
    assert main(["compile", str(network), "--out", str(plan), "--weights", "float16"]) == 0
    assert main(["verify", str(network), "--plan", str(plan)]) == 0
    assert main(["verify", str(network), "--weights", "float16"]) == 0
    capsys.readouterr()
    assert main(["explain", str(network), "--weights", "float16", "--repeat", "1"]) == 0
    shown = capsys.readouterr().out
    assert "float16 weights" in shown
    assert main(["explain", str(network), "--repeat", "1"]) == 0
    assert "float16" not in capsys.readouterr().out
