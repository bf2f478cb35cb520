"""Compiled plans in files: same results as the model, and nothing damaged is ever run."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import parser

from activsparse import ActivsparseError, Session, _native
from activsparse.engine.plan_file import is_plan

# Offsets of header fields; docs/plan-format.md.
BYTE_ORDER, FORMAT, CHECKSUM, ENGINE_VERSION, ISA, BUILD = 8, 12, 16, 40, 56, 72
TABLES = range(112, 208, 8)
HEADER_BYTES = 256
FORMAT_VERSION, MAGIC = _native.PLAN_FORMAT, _native.PLAN_MAGIC


@pytest.fixture
def plan(sparse, tmp_path):
    path = tmp_path / "model.plan"
    Session(sparse).save(path)
    return path


def patch(path, offset: int, content: bytes, resealed: bool = True) -> None:
    """Overwrite bytes; `resealed` makes the checksum fit again."""
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    if resealed:
        data[CHECKSUM : CHECKSUM + 4] = bytes(4)
        data[CHECKSUM : CHECKSUM + 4] = struct.pack("=I", zlib.crc32(data))
    path.write_bytes(data)


def refusal(path) -> str:
    with pytest.raises(ActivsparseError) as caught:
        Session(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize(("site", "fill"), [("norm", "zero"), ("norm", "nearest")])
def test_a_plan_computes_what_its_model_does(exported, tmp_path, isa, site, fill):
    model = exported("resnet18", site, fill)
    compiled = Session(model, isa=isa, threads=2)
    compiled.save(tmp_path / "m.plan")
    loaded = Session(tmp_path / "m.plan")
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    np.testing.assert_array_equal(loaded.run(x), compiled.run(x))
    assert (loaded.inputs, loaded.outputs) == (compiled.inputs, compiled.outputs)
    assert (loaded.isa, loaded.threads, loaded.arena_bytes) == (isa, 2, compiled.arena_bytes)
    assert loaded.explain() == compiled.explain()
    assert all(row.time_ms is not None for row in loaded.profile(1))
    assert Session(tmp_path / "m.plan", threads=1, isa=isa).threads == 1


def test_saving_a_loaded_plan_gives_the_same_file(plan, tmp_path):
    Session(plan).save(tmp_path / "model2.plan")
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / plan.name
    Session(plan).save(again)
    Session(again).save(tmp_path / "third.plan")
    assert is_plan(again)
    np.testing.assert_array_equal(
        np.fromfile(again, np.uint8)[HEADER_BYTES:],
        np.fromfile(tmp_path / "model2.plan", np.uint8)[HEADER_BYTES:],
    )


def test_replacing_the_file_leaves_a_session_alone(plan, sparse):
    session = Session(plan)
    x = np.ones((1, 3, 8, 8), np.float32)
    before = session.run(x)
    Session(sparse, algorithm="reference").save(plan)
    np.testing.assert_array_equal(session.run(x), before)


def test_numpy_is_all_a_plan_needs(plan):
    code = f"""
import sys
for name in ("onnx", "torch", "onnxruntime", "rich", "google", "google.protobuf"):
    sys.modules[name] = None
import numpy as np
from activsparse import Session
session = Session({str(plan)!r})
assert session.run(np.ones((1, 3, 8, 8), np.float32)).shape == (1, 4, 8, 8)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_another_format_is_refused(plan):
    patch(plan, FORMAT, struct.pack("=I", FORMAT_VERSION + 1))
    assert f"format {FORMAT_VERSION + 1}" in refusal(plan)


def test_a_newer_engine_is_refused(plan):
    patch(plan, ENGINE_VERSION, b"99.0.1")
    assert "compiled by activsparse 99.0.1" in refusal(plan)


def test_another_build_is_refused(plan):
    patch(plan, BUILD, b"0123456789abcdef")
    assert "another build of activsparse" in refusal(plan)


def test_the_other_byte_order_is_refused(plan):
    patch(plan, BYTE_ORDER, struct.pack("=I", 0x01020304)[::-1])
    assert "byte order" in refusal(plan)


def test_a_missing_instruction_set_is_refused(plan):
    patch(plan, ISA, b"sve2".ljust(16, b"\0"))
    assert "compiled for 'sve2'" in refusal(plan)


@pytest.mark.parametrize("content", [b"", MAGIC[:3], b"x" * 5000, b"\0" * HEADER_BYTES])
def test_what_is_no_plan_is_read_as_onnx_and_refused(tmp_path, content):
    path = tmp_path / "some.plan"
    path.write_bytes(content)
    assert not is_plan(path)
    refusal(path)


def test_options_that_a_plan_settles(plan):
    other = next((isa for isa in _native.available_isas() if isa != Session(plan).isa), "other")
    for option in ({"isa": other}, {"algorithm": "direct"}, {"input_shapes": {"x": (2, 3, 8, 8)}}):
        with pytest.raises(ActivsparseError, match="cannot change a compiled plan"):
            Session(plan, **option)


damage = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@damage
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(plan, position, bit):
    sound = plan.read_bytes()
    offset = int(position * len(sound))
    bad = plan.with_name("bad.plan")
    bad.write_bytes(sound[:offset] + bytes([sound[offset] ^ 1 << bit]) + sound[offset + 1 :])
    refusal(bad)


@damage
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_refused(plan, share):
    sound = plan.read_bytes()
    bad = plan.with_name("bad.plan")
    bad.write_bytes(sound[: int(share * len(sound))])
    refusal(bad)


@damage
@given(data=st.data())
def test_tables_out_of_bounds_are_refused_even_under_a_good_checksum(plan, data):
    """Offsets, counts and ids are checked; the packed data of operators is not touched here."""
    bad = plan.with_name("bad.plan")
    bad.write_bytes(plan.read_bytes())
    field = data.draw(st.sampled_from(TABLES), "header field")
    value = data.draw(st.integers(1 << 20, (1 << 64) - 1), "value")
    patch(bad, field, struct.pack("=Q", value))
    refusal(bad)


GOOD = {
    **{"name": "[/]", "kind": "conv", "algorithm": "direct", "kernel": "", "shape": [1, 4, 8, 8]},
    **{"eligible": True, "reason": "", "requested": 0.5, "achieved": 0.5, "macs": 1.0},
    **{"dense_macs": 2.0, "weight_bytes": 3, "index_bytes": 4, "time_ms": None, "candidates": []},
}
NO_REPORTS = (None, 5, "x", {"a": 1}, [[]], [None], [{}], [GOOD] * 99)


def metadata(reports: object) -> str:
    return json.dumps({"model": "m.onnx", "weights": "", "reports": reports})


DAMAGED = [
    *("", "null", "5", "[]", "{}", "[" * 100_000, '{"reports": ' + "1" * 5000 + "}", "\0", "é{"),
    *map(metadata, NO_REPORTS),
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_metadata_are_refused(sparse, tmp_path, monkeypatch, text):
    session = Session(sparse)
    monkeypatch.setattr("activsparse.engine.plan_file.json.dumps", lambda _: text)
    session.save(tmp_path / "m.plan")
    assert "metadata" in refusal(tmp_path / "m.plan")


@pytest.mark.parametrize(
    "fields",
    [
        *({name: 5} for name in ("name", "kind", "algorithm", "kernel", "reason")),
        *({name: "x"} for name in ("shape", "macs", "dense_macs", "weight_bytes", "requested")),
        *({name: math.nan} for name in ("macs", "achieved", "time_ms")),
        *({"macs": 10**400}, {"macs": None}, {"shape": None}, {"shape": 4}, {"extra": 1}),
        *({"candidates": value} for value in (None, 5, [5], ["abc"], [[1, 2]], [["a", "b"]])),
    ],
    ids=lambda fields: "".join(fields),
)
def test_damaged_reports_are_refused(sparse, tmp_path, monkeypatch, fields):
    session = Session(sparse)
    rows = len(session.explain())
    good, bad = (metadata([{**GOOD, **f}] * rows) for f in ({}, fields))
    monkeypatch.setattr("activsparse.engine.plan_file.json.dumps", lambda _: good)
    session.save(tmp_path / "m.plan")
    assert Session(tmp_path / "m.plan").explain()[0].name == "[/]"
    monkeypatch.setattr("activsparse.engine.plan_file.json.dumps", lambda _: bad)
    session.save(tmp_path / "m.plan")
    assert "metadata" in refusal(tmp_path / "m.plan")


def test_saving_into_a_missing_folder(plan):
    with pytest.raises(ActivsparseError, match="cannot be written"):
        Session(plan).save(plan.parent / "none" / "x.plan")


@pytest.mark.parametrize("kind", ["uint8", "int8", "int64", "float16", "double", "float"])
def test_a_plan_says_what_types_its_model_has(tmp_path, kind):
    """Numbered as in `as_dtype` of the C interface."""
    number = {"float": 0, "uint8": 2, "int8": 3, "int64": 4, "float16": 5, "double": 6}[kind]
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g ({kind}[1, 3, 4, 4] x) => ({kind}[1, 3, 4, 4] y, bool[1, 3, 4, 4] z)
        <float half = {{0.5}}>
        {{ f = Cast<to = 1>(x)  r = Relu(f)  y = CastLike(r, x)  z = Greater(f, half) }}"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    Session(tmp_path / "model.onnx", tune=False).save(tmp_path / "model.plan")
    plan = _native.open_plan(str(tmp_path / "model.plan"))
    assert [type_ for *_, type_ in (*plan.inputs, *plan.outputs)] == [number, number, 7]
