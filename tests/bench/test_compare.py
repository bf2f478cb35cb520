"""The comparison: agreement before times, the JSON file's shape, the yardstick."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import quantised

from activsparse.bench import compare as compare_module
from activsparse.bench import machine as machine_module
from activsparse.bench.compare import DisagreementError, Row, compare, summarize
from activsparse.bench.engines import ENGINES, engine_class
from activsparse.bench.engines.onnxruntime import OnnxRuntime, static_input_shapes
from activsparse.bench.machine import describe_machine, summary_line
from activsparse.cli import bench as cli_bench
from activsparse.errors import ActivsparseError
from activsparse.export.convs import find_convs
from activsparse.export.insert import insert_mask

ROW_KEYS = [
    "model",
    "engine",
    "version",
    "variant",
    "threads",
    "median_ms",
    "mad_ms",
    "min_ms",
    "max_abs_err",
    "visits_ms",
    "p90_ms",
    "p99_ms",
    "load_ms",
    "peak_bytes",
    "isa",
    "precision",
    "max_rel_err",
    "top1",
]


class Own(OnnxRuntime):
    """Stands in for our engine, so that these tests test the comparison only."""

    name = "activsparse"
    offset = 0.0

    def run(self, inputs):
        return [output + np.float32(self.offset) for output in super().run(inputs)]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> type[Own]:
    engines = {"activsparse": Own, "onnxruntime": OnnxRuntime}
    monkeypatch.setattr(compare_module, "engine_class", engines.__getitem__)
    monkeypatch.setattr(Own, "offset", 0.0)
    return Own


def test_result_has_exactly_the_documented_keys(own, dense: Path, sparse: Path):
    result = compare(dense, [sparse], ["activsparse", "onnxruntime"], threads=1, repeat=3)
    data = json.loads(json.dumps(asdict(result)))
    assert list(data) == ["machine", "rows", "best_dense", "ratios", "warnings"]
    assert all(list(row) == ROW_KEYS for row in data["rows"])
    assert [(row["model"], row["variant"], row["engine"]) for row in data["rows"]] == [
        (str(dense), "dense", "activsparse"),
        (str(dense), "dense", "onnxruntime"),
        (str(sparse), "sparse", "activsparse"),
        (str(sparse), "sparse", "onnxruntime"),
    ]
    assert data["best_dense"] == data["rows"][1]
    assert [list(ratio) for ratio in data["ratios"]] == [
        [
            "model",
            "vs_best_dense",
            "vs_best_dense_mad",
            "vs_own_dense",
            "vs_own_dense_mad",
            "precision",
            "best_dense_precision",
            "own_dense_precision",
        ]
    ] * 2


def test_peers_may_be_spared_the_sparse_models(own, dense: Path, sparse: Path):
    engines = ["onnxruntime", "activsparse"]
    result = compare(dense, [sparse], engines, threads=1, repeat=1, peers_on_sparse=False)
    assert [(row.variant, row.engine) for row in result.rows] == [
        ("dense", "onnxruntime"),
        ("dense", "activsparse"),
        ("sparse", "activsparse"),
    ]


def test_refuses_before_timing_when_an_output_is_wrong(own, monkeypatch, dense: Path):
    monkeypatch.setattr(own, "offset", 0.5)
    monkeypatch.setattr(
        compare_module, "time_interleaved", lambda *_, **__: pytest.fail("timed a wrong engine")
    )
    with pytest.raises(DisagreementError, match=r"dense\.onnx: engine activsparse: .*by 0\.5"):
        compare(dense, [], ["activsparse"], threads=1, repeat=1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_disagree(own, monkeypatch, dense: Path, wrong: float):
    monkeypatch.setattr(own, "offset", wrong)
    with pytest.raises(DisagreementError):
        compare(dense, [], ["activsparse"], threads=1, repeat=1)


def row(engine: str, variant: str, median_ms: float) -> Row:
    return Row(
        f"{variant}.onnx", engine, "1", variant, 1, median_ms, 0.1, median_ms, 0.0, [median_ms]
    )


def test_yardstick_is_the_fastest_other_engine():
    rows = [
        row("activsparse", "dense", 2.0),
        row("slow", "dense", 9.0),
        row("fast", "dense", 3.0),
        row("fast", "sparse", 0.5),
        row("activsparse", "sparse", 1.0),
    ]
    best, ratios = summarize(rows)
    assert (best["engine"], best["variant"]) == ("fast", "dense")
    assert [(r["model"], r["vs_best_dense"], r["vs_own_dense"]) for r in ratios] == [
        ("dense.onnx", 1.5, 1.0),
        ("sparse.onnx", 3.0, 2.0),
    ]


def test_ratios_are_of_the_same_rounds():
    """A machine that is slow for some rounds is slow for both; a ratio of medians would be 1.5."""
    dense, sparse = row("activsparse", "dense", 3.0), row("activsparse", "sparse", 2.0)
    rows = [
        replace(dense, visits_ms=[2.0, 4.0, 3.0, 2.2, 6.0]),
        replace(sparse, visits_ms=[1.0, 2.0, 2.0, 1.0, 3.0]),
    ]
    _, (of_dense, of_sparse) = summarize(rows)
    assert (of_dense["vs_own_dense"], of_dense["vs_own_dense_mad"]) == (1.0, 0.0)
    assert of_sparse["vs_own_dense"] == of_sparse["vs_best_dense"] == 2.0
    assert of_sparse["vs_own_dense_mad"] == 0.0


def test_without_other_engines_our_dense_is_the_yardstick():
    best, ratios = summarize([row("activsparse", "dense", 2.0), row("activsparse", "sparse", 1.0)])
    assert best["engine"] == "activsparse"
    assert ratios[1]["vs_best_dense"] == 2.0


@pytest.mark.parametrize("name", ["openvino", "ncnn"])
def test_peers_agree_with_onnxruntime(name: str, dense: Path, sparse: Path):
    pytest.importorskip(name)
    rng = np.random.default_rng(3)
    for path in (dense, sparse):
        shapes = static_input_shapes(path)
        inputs = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        (expected,) = OnnxRuntime(path, 1, shapes).run(inputs)
        (actual,) = engine_class(name)(path, 1, shapes).run(inputs)
        assert actual.shape == expected.shape
        # 27 products per output, each engine free in their order.
        atol = 27 * np.finfo(np.float32).eps * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["activsparse", "openvino", "ncnn"])
@pytest.mark.parametrize("batch", [1, "n"])
def test_peers_agree_on_positions_filled_from_others(name: str, batch: int | str, tmp_path: Path):
    pytest.importorskip(name)
    seed = 11
    rng = np.random.default_rng(seed)
    height, width = (int(size) for size in rng.integers(5, 12, 2))
    path = tmp_path / "filled.onnx"
    x = rng.standard_normal((1, 3, height, width), dtype=np.float32)
    weight = rng.standard_normal((4, 3, 3, 3), dtype=np.float32)
    back = rng.standard_normal((4, 4, 3, 3), dtype=np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "weight"], ["a"], pads=[1, 1, 1, 1]),
            onnx.helper.make_node("Conv", ["a", "back"], ["y"], pads=[1, 1, 1, 1]),
        ],
        "filled",
        [onnx.helper.make_tensor_value_info("x", 1, [batch, *x.shape[1:]])],
        [onnx.helper.make_tensor_value_info("y", 1, [batch, 4, height, width])],
        [onnx.numpy_helper.from_array(v, n) for v, n in ((weight, "weight"), (back, "back"))],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    insert_mask(model, find_convs(model)[0], rng.random((height, width)) > 0.4, fill="nearest")
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = onnxruntime.InferenceSession(path, options).run(None, {"x": x})
    (actual,) = engine_class(name)(path, 1, [x.shape]).run([x])
    # 27 products per value of the first convolution, 36 of such in the second.
    atol = 36 * 27 * np.finfo(np.float32).eps * np.abs(expected).max()
    message = f"seed {seed}, input {x.shape}"
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=message)


@pytest.mark.parametrize("index", [[0, 2], [2, 0, 1]])
def test_ncnn_refuses_what_its_converter_gets_wrong(tmp_path: Path, index: list[int]):
    pytest.importorskip("ncnn")
    path = tmp_path / "gather.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gather", ["x", "index"], ["y"], axis=1)],
        "gather",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 3, 5, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, len(index), 5, 4])],
        [onnx.numpy_helper.from_array(np.array(index), "index")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    with pytest.raises(ActivsparseError, match="pnnx keeps one position of a Gather of several"):
        engine_class("ncnn")(path, 1, [(1, 3, 5, 4)])


@pytest.mark.parametrize("name", ["activsparse", "openvino", "ncnn"])
def test_weights_in_a_file_of_their_own(name: str, dense: Path, tmp_path: Path):
    pytest.importorskip(name)
    path = tmp_path / "external.onnx"
    onnx.save(onnx.load(dense), path, save_as_external_data=True, size_threshold=0)
    shapes = static_input_shapes(path)
    inputs = [np.random.default_rng(4).standard_normal(s, dtype=np.float32) for s in shapes]
    (expected,) = OnnxRuntime(dense, 1, shapes).run(inputs)
    (actual,) = engine_class(name)(path, 1, shapes).run(inputs)
    atol = 27 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_dynamic_shapes_are_refused_by_name(dynamic: Path):
    with pytest.raises(ActivsparseError, match=r"dynamic\.onnx: input 'x' has the dynamic shape"):
        compare(dynamic, [], ["onnxruntime"], threads=1, repeat=1)


@pytest.mark.parametrize("name", ["activsparse", "onnxruntime", "openvino", "ncnn"])
def test_an_open_batch_counts_as_one(name: str, open_batch: Path):
    pytest.importorskip(name)
    shapes = static_input_shapes(open_batch)
    assert shapes == [(1, 3, 8, 8)]
    (y,) = engine_class(name)(open_batch, 1, shapes).run([np.zeros(shapes[0], dtype=np.float32)])
    assert y.shape == (1, 4, 8, 8)


@pytest.mark.slow
def test_engines_for_torch_programs_agree_and_ask_for_their_file(tmp_path: Path):
    pytest.importorskip("executorch")
    import torch

    from activsparse.bench.engines.inductor import Inductor
    from activsparse.bench.engines.xnnpack import Xnnpack, write_pte

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    x = torch.randn(1, 3, 8, 8)
    path = tmp_path / "model.onnx"
    for engine, suffix in ((Xnnpack, "pte"), (Inductor, "pt2")):
        with pytest.raises(ActivsparseError, match=rf"model\.{suffix}: no such file"):
            engine(path, 1, [(1, 3, 8, 8)])
    program = torch.export.export(model, (x,))
    write_pte(program, path.with_suffix(".pte"))
    torch.export.save(program, path.with_suffix(".pt2"))
    for engine in (Xnnpack, Inductor):
        (y,) = engine(path, 1, [(1, 3, 8, 8)]).run([x.numpy()])
        np.testing.assert_allclose(y, model(x).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_xnnpack_is_quantised_by_its_own_quantiser(tmp_path: Path):
    pytest.importorskip("executorch")
    import torch

    from activsparse.bench.engines.xnnpack import Xnnpack, write_pte

    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1)]
    model = torch.nn.Sequential(*layers).eval()
    samples = [(torch.randn(1, 3, 12, 12),) for _ in range(8)]
    path = tmp_path / "model.onnx"
    program = torch.export.export(model, samples[0])
    with pytest.raises(ActivsparseError, match="no samples to calibrate with"):
        write_pte(program, path.with_suffix(".pte"), [])
    write_pte(program, path.with_suffix(".pte"), samples)
    (y,) = Xnnpack(path, 1, [(1, 3, 12, 12)]).run([samples[0][0].numpy()])
    truth = model(*samples[0]).detach().numpy()
    error = np.abs(y - truth).max()
    assert 0 < error < 0.05 * np.abs(truth).max()  # some of 255 steps, and rounded at all


def test_unknown_engine_names_the_known_ones():
    with pytest.raises(ActivsparseError, match="no engine named 'tvm'; choose from activsparse,"):
        engine_class("tvm")


@pytest.mark.parametrize("name", [name for name in ENGINES if ENGINES[name].extra])
def test_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch):
    def missing(module: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ActivsparseError, match=rf"{name} is not installed; pip install 'activspar"):
        engine_class(name)


def test_machine_is_json_and_named():
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    assert machine["cpu"]
    assert machine["cpu"] in summary_line(machine)
    if machine["architecture"] == "x86_64":  # names alone do not tell generations apart
        assert re.search(r"\(family \d+, model \d+\)$", machine["cpu"])
    assert machine["instruction_sets"][0] == "scalar"
    assert "onnxruntime" in machine["versions"]


@pytest.mark.parametrize(
    ("name", "board", "expected"),
    [
        ("AMD EPYC (family 26, model 2)", None, "AMD EPYC (family 26, model 2)"),
        ("ARM implementer 0x41 part 0xd08", "Raspberry Pi 4\0", "Raspberry Pi 4"),
        ("ARM implementer 0x41 part 0xd08", None, "ARM implementer 0x41 part 0xd08"),
    ],
)
def test_the_processor_is_named_by_what_tells_it_apart(
    name: str, board: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine_module, "BOARD", tmp_path / "model")
    if board is not None:
        (tmp_path / "model").write_text(board)
    assert machine_module.cpu_name(name) == expected


# Quantised models


@pytest.fixture
def int8(tmp_path: Path) -> Path:
    return quantised.case(tmp_path / "int8.onnx", "classifier", "u8s8 per channel")


def test_peers_run_a_quantised_model_that_ours_refuses(own, monkeypatch, int8: Path):
    def refuses(self, path, *arguments, **options):
        raise ActivsparseError(f"{path}: what it holds is not known here")

    monkeypatch.setattr(own, "__init__", refuses)
    result = compare(int8, [], ["activsparse", "onnxruntime"], threads=1, repeat=1)
    assert [(row.engine, row.precision) for row in result.rows] == [("onnxruntime", "int8")]
    assert any("activsparse is left out: " in text for text in result.warnings)
    with pytest.raises(ActivsparseError, match=r"no engine takes it .*not known here"):
        compare(int8, [], ["activsparse"], threads=1, repeat=1)
    with pytest.raises(ActivsparseError, match="not known here"):  # a float model as ever
        compare(int8.with_suffix(".float.onnx"), [], ["activsparse"], threads=1, repeat=1)


def test_int8_is_never_silently_compared_with_float32(own, int8: Path):
    """The float network as the yardstick, the int8 one beside it."""
    dense = int8.with_suffix(".float.onnx")
    result = compare(dense, [int8], ["activsparse", "onnxruntime"], threads=1, repeat=1)
    assert not [text for text in result.warnings if "convolutions" in text]
    assert [row.precision for row in result.rows] == ["float32"] * 2 + ["int8"] * 2
    of_dense, of_int8 = result.ratios
    assert of_dense["precision"] == of_dense["best_dense_precision"] == "float32"
    assert (of_int8["precision"], of_int8["own_dense_precision"]) == ("int8", "float32")
    line = str(result).splitlines()[2]
    assert re.search(
        r"int8.onnx \(int8\) in activsparse: .* as dense \(float32\), .*\(float32\)$", line
    )
    table = cli_bench.table(result)
    cells = [list(column.cells) for column in table.columns]
    assert cells[2] == ["float32"] * 2 + ["int8"] * 2
    times = cells[[column.header for column in table.columns].index("x best")]
    assert "float32" not in times[0]
    assert times[2].endswith("(float32)")
    assert "precision: float32 and int8; " in cli_bench.heading(result)


def test_weights_in_float16_are_a_row_of_their_own(dense: Path, sparse: Path):
    result = compare(
        dense,
        [sparse],
        ["activsparse", "onnxruntime"],
        threads=1,
        repeat=1,
        session={"weights": "float16"},
    )
    kinds = [(row.engine, row.precision, row.variant) for row in result.rows]
    assert kinds == [
        (engine, precision, variant)
        for variant in ("dense", "sparse")
        for engine, precision in (
            ("activsparse", "float32"),
            ("activsparse", "float16 weights"),
            ("onnxruntime", "float32"),
        )
    ]
    exact, half = result.rows[:2]
    assert exact.max_abs_err <= half.max_abs_err  # the first convolution keeps float32
    assert [r["precision"] for r in result.ratios] == ["float32", "float16 weights"] * 2
    assert {r["own_dense_precision"] for r in result.ratios} == {"float32"}
    lines = str(result).splitlines()
    assert "as dense" not in lines[0]
    assert "(float16 weights) in activsparse" in lines[1]
    assert "as dense (float32)" in lines[1]
    table = cli_bench.table(result)
    cells = [list(column.cells) for column in table.columns]
    assert cells[2] == ["float32", "float16 weights", "float32"] * 2
    times = cells[[column.header for column in table.columns].index("x own")]
    assert [text.endswith("(float32)") for text in times] == [False, True, False] * 2


def test_ncnn_says_that_it_does_not_take_quantised_files(int8: Path):
    pytest.importorskip("ncnn")
    with pytest.raises(ActivsparseError, match=r"ncnn has no layer|cannot convert it for ncnn"):
        engine_class("ncnn")(int8, 1, static_input_shapes(int8))


def test_a_wrong_quantised_output_is_refused(own, monkeypatch, int8: Path):
    monkeypatch.setattr(own, "offset", 2.0)
    with pytest.raises(DisagreementError, match="engine activsparse: output differs"):
        compare(int8, [], ["activsparse", "onnxruntime"], threads=1, repeat=1)


@pytest.mark.parametrize(
    "style", ["u8s8 per channel", "s8s8 per channel", "operators s8s8", "nncf"]
)
def test_onnxruntime_runs_every_form_as_the_reference(tmp_path: Path, style: str):
    path = quantised.case(tmp_path / "q.onnx", "residual", style)
    (shape,) = static_input_shapes(path)
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    (exact,) = OnnxRuntime(path, 1, [shape], exact=True).run([x])
    (plain,) = OnnxRuntime(path, 1, [shape]).run([x])
    assert np.abs(exact - plain).max() < 0.1 * np.abs(plain).max()


@pytest.mark.parametrize("style", ["u8s8 per channel", "nncf"])
def test_openvino_agrees_on_quantised_models(tmp_path: Path, style: str):
    pytest.importorskip("openvino")
    path = quantised.case(tmp_path / "q.onnx", "residual", style)
    result = compare(path, [], ["openvino", "onnxruntime"], threads=1, repeat=1)
    assert [(row.engine, row.precision) for row in result.rows] == [
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
    ]
