"""Files from outside, damaged in every way: they work, or every reader says why not in one line.

`python -m fuzz.hostile` (docs/testing.md) tries as many as there is time for.
"""

from __future__ import annotations

import itertools
import os

import graphs
import numpy as np
import onnx
import pytest
from fuzz.hostile import DOORS, EXTERNAL, Server, templates, verdict
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, Session, cli
from activsparse.engine.load import load
from activsparse.export.mask import mask_model
from activsparse.export.model_file import read_model
from activsparse.litert import convert

SEEDS = 100


def tried(first: int, cases: int) -> list[str]:
    server = Server()
    wrong = []
    for seed in range(first, first + cases):
        answer = server.ask(seed)
        wrong += [
            f"seed {seed}, {door}: {text} ({answer['done']})"
            for door, text in answer["seen"].items()
            if text.startswith("wrong")
        ]
    server.close()
    return wrong


def test_damaged_files():
    assert not tried(0, SEEDS)


@pytest.mark.slow
def test_many_damaged_files():
    """`make fuzz` tries fresh seeds, `python -m fuzz.hostile --cases 10000` as many as asked."""
    assert not tried(1000, 1500)


@pytest.mark.parametrize("share", np.linspace(0, 1, 41)[:-1])
def test_every_cut_is_refused(tmp_path, share):
    content = templates()["masked"].SerializeToString()
    seen = verdict(content[: int(share * len(content))], tmp_path, ["load", "mask", "read_masks"])
    assert all(text.startswith("refused") for text in seen.values()), seen


@pytest.mark.slow
def test_every_cut_of_a_small_file(tmp_path):
    content = templates()["function"].SerializeToString()
    for length in range(len(content)):
        seen = verdict(content[:length], tmp_path, ["load", "Session", "mask_model"])
        assert not any(text.startswith("wrong") for text in seen.values()), (length, seen)


# Kinds of fault by name -------------------------------------------------------------------------


@pytest.fixture
def model() -> onnx.ModelProto:
    return templates()["masked"]


@pytest.fixture
def saved(tmp_path):
    def save(model: onnx.ModelProto, **options):
        path = tmp_path / "m.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return save


def refused(path, *words: str, **options) -> str:
    with pytest.raises(ActivsparseError) as caught:
        Session(path, tune=False, **options)
    message = str(caught.value)
    assert message.isprintable()
    for word in ("m.onnx", *words):
        assert word in message, message
    return message


def same(model: onnx.ModelProto, other: onnx.ModelProto, saved) -> None:
    """Both models compute the same."""
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    first = Session(saved(model), tune=False).run(x)
    np.testing.assert_array_equal(first, Session(saved(other), tune=False).run(x))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def test_nodes_in_any_order(model, saved):
    rng = np.random.default_rng(3)
    shuffled = copied(model)
    order = rng.permutation(len(model.graph.node))
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(model.graph.node[i] for i in order)
    same(model, shuffled, saved)
    masked, _ = mask_model(read_model(saved(shuffled)), 0.3, replace=True, skip_stem=False)
    Session(saved(masked), tune=False)


def test_a_graph_without_outputs(model, saved, capsys):
    del model.graph.output[:]
    path = saved(model)
    refused(path, "has no outputs")
    for words in (["info", str(path)], ["bench", "--dense", str(path), "--repeat", "1"]):
        assert cli.main(words) == 2
        assert "has no outputs" in capsys.readouterr().err


def test_nodes_in_a_circle(model, saved):
    model.graph.node[0].input[0] = "a1"
    refused(saved(model), "wait for each other")


def test_sparse_constants_as_initialisers_and_attributes(model, saved):
    tensor = next(t for t in model.graph.initializer if t.name == "w")
    array = numpy_helper.to_array(tensor).copy()
    array[np.abs(array) < 0.3] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, "w"))
    for coordinates in (False, True):
        sparse = copied(model)
        where = np.argwhere(array) if coordinates else np.flatnonzero(array)
        value = helper.make_sparse_tensor(
            numpy_helper.from_array(array[array != 0], "w"),
            numpy_helper.from_array(where.astype(np.int64), "w_at"),
            array.shape,
        )
        kept = [t for t in model.graph.initializer if t.name != "w"]
        del sparse.graph.initializer[:]
        sparse.graph.initializer.extend(kept)
        inside = copied(sparse)
        sparse.graph.sparse_initializer.append(value)
        same(model, sparse, saved)
        node = helper.make_node("Constant", [], ["w"], sparse_value=value)
        inside.graph.node.insert(0, node)
        same(model, inside, saved)


@pytest.mark.parametrize("size", [-1, -7, -(2**63)])
def test_negative_sizes_are_open(model, saved, size):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    path = saved(model)
    assert Session(path, tune=False).inputs[0][1] == (1, 3, 8, 8)
    assert Session(path, input_shapes={"x": (2, 3, 8, 8)}).inputs[0][1] == (2, 3, 8, 8)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size
    refused(saved(model), "open dimensions")


@pytest.mark.parametrize("key", ["activsparse.requested", "other"])
@pytest.mark.parametrize(
    "note",
    [
        *("[" * 100_000, "{" * 9, '{"a":' * 100_000, '{"a": 1' + "0" * 5000 + "}", '{"a": 1e999}'),
        *(
            "[1]",
            '{"a": "x"}',
            '{"a": NaN}',
            '{"a": -3}',
            "null",
            "5",
            '"a"',
            '{"a": []}',
            "",
            "\0",
        ),
    ],
    ids=range(15),
)
def test_damaged_notes_are_no_error(model, saved, key, note):
    del model.metadata_props[:]
    model.metadata_props.add(key=key, value=note)
    path = saved(model)
    rows = Session(path, tune=False).explain()
    assert all(row.requested is None or 0 <= row.requested <= 1 for row in rows)
    mask_model(read_model(path), 0.3, replace=True)


BAD_TYPES = [0, 99, -1, 2**31 - 1, TensorProto.STRING, TensorProto.FLOAT16, TensorProto.DOUBLE]


@pytest.mark.parametrize(
    ("where", "data_type"),
    [
        (where, kind)
        for where in ("weight", "input", "mask", "Constant")
        for kind in BAD_TYPES
        if where != "input" or kind not in (TensorProto.FLOAT16, TensorProto.DOUBLE)  # may be
    ],
)
def test_data_types(model, saved, data_type, where):
    if where == "input":
        model.graph.input[0].type.tensor_type.elem_type = data_type
    elif where == "Constant":
        value = numpy_helper.from_array(np.ones(5, np.float32))
        value.data_type = data_type
        model.graph.node[-1].input[2] = "constant"
        model.graph.node.append(helper.make_node("Constant", [], ["constant"], value=value))
    else:
        name = {"weight": "w", "mask": "a.activation_mask"}[where]
        next(t for t in model.graph.initializer if t.name == name).data_type = data_type
    refused(saved(model))


def test_other_float_types_are_named(model, saved):
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    path = saved(model)
    refused(path, "bfloat16", "float32")
    with pytest.raises(ActivsparseError, match="bfloat16"):
        mask_model(read_model(path), 0.3, replace=True)


@pytest.mark.parametrize("name", ["quantised", "old", "training", "dropout"])
def test_mask_refuses_what_the_engine_does(model, saved, name):
    if name == "quantised":
        model = templates()["quantised"]
    elif name == "old":
        model = templates()["old"]
        model.opset_import[0].version = 6
        del model.graph.node[2:3]  # Upsample came later
        model.graph.node[2].input[0] = "n1"
    elif name == "training":
        model.graph.node[1].attribute.add(name="training_mode", type=2, i=1)
        model.graph.node[1].output.extend(["mean", "var"])
    else:
        flag = numpy_helper.from_array(np.array(True), "training")
        model.graph.initializer.append(flag)
        model.graph.node[-1].input[0] = "dropped"
        node = helper.make_node("Dropout", ["v1", "", "training"], ["dropped"])
        model.graph.node.insert(11, node)
    path = saved(model)
    word = {"quantised": "quantised", "old": "operator set 6"}.get(name, "training mode")
    if name != "quantised":  # which the engine runs
        refused(path, word)
    with pytest.raises(ActivsparseError, match=word):
        mask_model(read_model(path), 0.3, replace=True)


@pytest.mark.parametrize(
    "edit",
    [
        lambda a: a.ClearField("type"),
        lambda a: a.ClearField("ints"),
        lambda a: setattr(a, "type", onnx.AttributeProto.FLOAT),
        lambda a: setattr(a, "type", onnx.AttributeProto.GRAPH),
        lambda a: setattr(a, "type", onnx.AttributeProto.STRINGS),
        lambda a: setattr(a, "name", "nonsense"),
        lambda a: setattr(a, "ref_attr_name", "pads"),
        lambda a: a.ints.append(1),
        lambda a: a.ints.__setitem__(0, 2**62),
        lambda a: a.ints.__setitem__(0, -(2**63)),
    ],
    ids=range(10),
)
def test_attributes(model, saved, edit, tmp_path):
    edit(model.graph.node[0].attribute[0])
    refused(saved(model), "'c1' (Conv)")
    seen = verdict(model.SerializeToString(), tmp_path, ["fallback", "rewrite", "plan", "convert"])
    assert all(text.startswith("refused") for text in seen.values()), seen


@pytest.mark.parametrize("rank", ["none", "one", "more"])
def test_constants_of_another_rank(model, tmp_path, rank):
    for at, constant in enumerate(model.graph.initializer):
        odd = copied(model)
        value = numpy_helper.to_array(constant)
        value = {"none": value.flat[0], "one": value.reshape(-1), "more": value[None]}[rank]
        odd.graph.initializer[at].CopyFrom(
            numpy_helper.from_array(np.asarray(value), constant.name)
        )
        doors = ["Session", "mask", "read_masks", "find_masks"]
        seen = verdict(odd.SerializeToString(), tmp_path, doors)
        assert not any(text.startswith("wrong") for text in seen.values()), (constant.name, seen)


@pytest.mark.parametrize("where", ["node", "op_type", "value", "graph", "note", "domain"])
def test_names_that_are_no_text(model, saved, where):
    token = "QQQQ"
    if where == "value":
        model.graph.node[3].output[0] = model.graph.node[4].input[0] = token
        model.graph.node[8].input[1] = token
    elif where == "graph":
        model.graph.name = token
    elif where == "note":
        model.metadata_props.add(key=token, value=token)
    else:
        field = {"node": "name"}.get(where, where)
        setattr(model.graph.node[0], field, token)
    path = saved(model)
    path.write_bytes(path.read_bytes().replace(token.encode(), b"\xff\xfe\xc0\xaf"))
    refused(path, "UTF-8")
    with pytest.raises(ActivsparseError, match="UTF-8"):
        read_model(path)


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((1, 3, 2**31, 8), "GiB"),
        ((1, 3, 2**32, 6), "GiB"),
        ((1, 3, 2**16, 2**16), "GiB"),
        ((2**62, 3, 8, 8), "GiB"),
        ((1, 3, 2**62, 2**62), ""),
        ((1, 3, 0, 8), "size of 0"),
        ((0, 3, 8, 8), "size of 0"),
        ((1,) * 5000, ""),
    ],
)
def test_sizes_beyond_reason(model, saved, shape, word):
    del model.graph.node[1:]
    model.graph.node[0].CopyFrom(helper.make_node("Relu", ["x"], ["y"], name="c1"))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    refused(saved(model), word)


def test_an_input_nobody_reads_costs_nothing(model, saved):
    unused = helper.make_tensor_value_info("unused", TensorProto.FLOAT, (1, 2**30 + 2**29))
    model.graph.input.append(unused)
    session = Session(saved(model), tune=False)
    x = session.random_input()
    assert x["unused"].nbytes == 3 << 31
    assert not x["unused"][0, :: 2**20].any()
    session.run(x)
    session.profile(1)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 1000])
@pytest.mark.parametrize("name", ["bias", "b", "g", "m", "v"])
def test_vectors_of_a_wrong_length(model, saved, name, length):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    right = tensor.dims[0]
    tensor.CopyFrom(numpy_helper.from_array(np.ones(length, np.float32), name))
    # Gemm repeats a bias of one value; everything else has one per channel.
    if length == right or (name == "bias" and length == 1):
        Session(saved(model), tune=False)
    else:
        refused(saved(model), "(")


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 2], [3, 1]])
def test_windows_larger_than_the_image(saved, op, strides):
    node = helper.make_node(op, ["x"], ["y"], name="c1", kernel_shape=[9, 9], strides=strides)
    if op == "Conv":
        node.input.append("w")
    weight = numpy_helper.from_array(np.ones((4, 3, 9, 9), np.float32), "w")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    refused(saved(model), "c1", "1x3x6x6", "larger input")


def test_padding_by_nothing(model, saved):
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int64), "none"))
    padded = copied(model)
    padded.graph.node.insert(4, helper.make_node("Pad", ["r1", "none"], ["padded"]))
    padded.graph.node[5].input[0] = "padded"
    same(model, padded, saved)


@pytest.mark.parametrize("op", ["Expand", "ConstantOfShape", "Tile", "Range"])
def test_constants_that_grow_are_refused(model, saved, op):
    sizes = numpy_helper.from_array(np.array([2**20, 2**20]), "sizes")
    one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
    start, end = (numpy_helper.from_array(np.int64(i), f"at{i}") for i in (0, 2**40))
    step = numpy_helper.from_array(np.int64(1), "step")
    model.graph.initializer.extend([sizes, one, start, end, step])
    inputs = {"ConstantOfShape": ["sizes"], "Range": ["at0", f"at{2**40}", "step"]}
    node = helper.make_node(op, inputs.get(op, ["one", "sizes"]), ["huge"])
    model.graph.node.insert(0, node)
    model.graph.node[-1].input[2] = "huge"
    refused(saved(model), op)


# External data ------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path, saved, monkeypatch):
    """The path of a model with external data, and a way to change its entries."""

    def make(**entries):
        model = templates()["external"]
        weights = templates()["masked"].graph.initializer
        content = b"".join(tensor.raw_data for tensor in weights)
        (tmp_path / EXTERNAL).write_bytes(content)
        for entry in model.graph.initializer[0].external_data:
            entry.value = str(entries.get(entry.key, entry.value))
        return saved(model)

    return make


def test_external_data_is_read(external, model, saved):
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    y = Session(external(), tune=False).run(x)
    np.testing.assert_array_equal(y, Session(saved(model), tune=False).run(x))


@pytest.mark.parametrize(
    "location",
    [
        *("../../../../../../../../etc/passwd", "/etc/passwd", "", ".", "..", "../m.onnx", "none"),
        *("w.bin/x", "a\0b", "x" * 5000, "link", "folder", "pipe", "circle", "folder/../../w.bin"),
    ],
)
def test_external_data_from_elsewhere(external, tmp_path, location):
    path = external(location=location)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(bytes(10_000))
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    refused(path, "external data")
    outside.unlink()


@pytest.mark.parametrize(
    "entries",
    [
        *({"offset": -1}, {"offset": 2**62}, {"offset": "x"}, {"length": -1}, {"length": 2**62}),
        *({"length": 1}, {"length": "nan"}, {"offset": "1" * 5000}, {"offset": 10**6}),
    ],
)
def test_external_data_of_a_wrong_size(external, entries):
    refused(external(**entries))


# Functions ----------------------------------------------------------------------------------------


def test_functions_that_call_themselves(saved):
    model = templates()["function"]
    model.functions[0].node[0].op_type, model.functions[0].node[0].domain = "Twice", "local"
    refused(saved(model), "calls itself")


def test_functions_that_grow_without_bounds(saved):
    model = templates()["function"]
    for i in range(64):
        body = [
            helper.make_node(f"F{i - 1}" if i else "Silu", [a], [b], domain="local")
            for a, b in (("a", "s"), ("s", "r"))
        ]
        opsets = list(model.opset_import)
        function = helper.make_function("local", f"F{i}", ["a"], ["r"], body, opsets)
        model.functions.append(function)
    model.graph.node[0].op_type = "F63"
    refused(saved(model), "functions")


def test_values_written_twice(model, saved):
    model.graph.node[2].output[0] = "n1"
    model.graph.node[3].input[0] = "n1"
    refused(saved(model), "written twice")


def test_every_operator_set_of_foreign_domains(model, saved):
    model.opset_import[0].domain = "com.acme"
    refused(saved(model), "com.acme")
    del model.opset_import[:]
    refused(saved(model), "operator set")


def test_a_mask_s_constant_stays_where_it_is_a_result_too(model, saved):
    result = helper.make_tensor_value_info("shape", TensorProto.INT64, (4,))
    model.graph.output[0].CopyFrom(result)
    masked, _ = mask_model(read_model(saved(model)), 0.3, replace=True)
    assert "shape" in {tensor.name for tensor in masked.graph.initializer}


def test_a_file_beyond_what_one_file_holds(model, saved):
    path = saved(model)
    os.truncate(path, 2**31)
    refused(path, "2.0 GiB")


@pytest.mark.parametrize("door", ["load", "mask", "read_masks", "Session", "convert", "fallback"])
@pytest.mark.parametrize(
    "path", ["a" * 5000, "a\0b", "pipe", ".", "/dev/zero", "/dev/full", "none"]
)
def test_paths_that_are_no_files(tmp_path, monkeypatch, door, path):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(ActivsparseError):
        DOORS[door](path, tmp_path)


def test_a_file_onnx_runtime_cannot_read(model, saved, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no\nreason")

    monkeypatch.setattr("onnxruntime.InferenceSession", fail)
    with pytest.raises(ActivsparseError, match=r"no reason.*verify=False"):
        convert(saved(model), tmp_path / "m.tflite")
    assert convert(saved(model), tmp_path / "m.tflite", verify=False).bytes


@pytest.mark.parametrize("name", ["strides", "dilations", "pads"])
@pytest.mark.parametrize("value", [2**31, 2**40, 2**62, -(2**31), -(2**63)])
def test_attributes_beyond_32_bits(model, saved, name, value):
    node = helper.make_node("Conv", ["x", "a.weight"], ["y"], name="c1", pads=[1, 1, 1, 1])
    values = {"pads": [1, 1, 1, value]}.get(name, [1, value])
    node.attribute.extend([helper.make_attribute(name, values)])
    if name == "pads":
        del node.attribute[0]
    del model.graph.node[:]
    model.graph.node.append(node)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    refused(saved(model), "'c1' (Conv)")


def test_graphs_by_load_have_one_name_per_value(model, saved):
    graph = load(saved(model))
    assert len({name for node in graph.nodes for name in node.outputs}) == len(graph.nodes)


@pytest.mark.parametrize(
    ("wrong", "after"),
    [
        *itertools.product(
            ("bias", "rank", "single", "kernel"), ("nothing", "BatchNormalization", "Mul", "Relu")
        ),
        ("norm", "BatchNormalization"),
    ],
)
def test_vectors_of_another_shape_are_named(tmp_path, wrong, after):
    rng = np.random.default_rng(0)
    bias = {"bias": (5,), "rank": (4, 1, 1, 1), "single": (1,)}.get(wrong, (4,))
    vector = (2, 2) if wrong == "norm" else (4,)
    constants = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "b": rng.standard_normal(bias),
        "v": rng.uniform(0.5, 1, vector),
        "s": rng.standard_normal((4, 1, 1)),
    }
    kernel = [3, 2**62] if wrong == "kernel" else [3, 3]
    end = "h" if after != "nothing" else "y"
    nodes = [helper.make_node("Conv", ["x", "w", "b"], [end], "c", kernel_shape=kernel)]
    if after != "nothing":
        more = {"BatchNormalization": ["v"] * 4, "Mul": ["s"]}.get(after, [])
        nodes.append(helper.make_node(after, ["h", *more], ["y"], "n"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(ActivsparseError) as caught:
        Session(path)
    (line,) = str(caught.value).splitlines()
    assert ("'c'" if wrong != "norm" else "'n'") in line


@pytest.mark.parametrize(
    ("operator", "at", "shape"),
    [
        *(("PRelu", 1, shape) for shape in ((0,), (0, 1, 1))),
        *(("BatchNormalization", at, (0, 4)) for at in range(1, 5)),
        *(("InstanceNormalization", at, (0,)) for at in (1, 2)),
        *(("LayerNormalization", at, (0,)) for at in (1, 2)),
        *((operator, 2, (0,)) for operator in ("Conv", "ConvTranspose")),
    ],
)
def test_tables_without_elements_are_refused_by_name(tmp_path, operator, at, shape):
    b = graphs.Builder(0, 17)
    x = b.conv(b.input(1, 3, 8, 8), 4)
    sizes = {
        "PRelu": [(4, 1, 1)],
        "BatchNormalization": [(4,)] * 4,
        "InstanceNormalization": [(4,)] * 2,
        "LayerNormalization": [(8,)] * 2,
    }.get(operator, [(4, 4, 1, 1), (4,)])
    sizes[at - 1] = shape
    tables = [b.constant(b.uniform(*size)) for size in sizes]
    y = b.node(operator, x, *tables)
    with pytest.raises(ActivsparseError, match=rf"{y}' \({operator}\)"):
        Session(b.save(tmp_path / "m.onnx", y))
