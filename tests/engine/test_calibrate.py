"""Tables of times: measured, kept, chosen."""

from __future__ import annotations

import json
from importlib import resources
from itertools import pairwise

import pytest

from activsparse import ActivsparseError, _native
from activsparse.cli import main
from activsparse.engine import calibrate as calibration
from activsparse.masks import ConvShape
from activsparse.masks.latency import dense_ms, layer_cost
from activsparse.masks.possible import possible_masks
from activsparse.masks.time_table import (
    choose_table,
    default_table,
    read_table,
    shipped_tables,
)

ISA = _native.available_isas()[-1]
CONV = ConvShape((3, 3), (1, 1), 1, 32, 32, (14, 14))
WIDE = ConvShape((3, 3), (1, 1), 1, 64, 32, (14, 14))
DEPTHWISE = ConvShape((3, 3), (2, 2), 32, 32, 32, (14, 14))


def test_a_table_holds_what_was_measured(tmp_path):
    rows = calibration.measure_rows([CONV, DEPTHWISE], ISA, 1, 60, rounds=1)
    calibration.write_rows(rows, tmp_path / "t.json", ISA, 1, 2.5e-7)
    table = read_table(tmp_path / "t.json")
    assert table.fill_ms == 2.5e-7
    assert set(table.lines) == {CONV, DEPTHWISE}
    assert table.isa == ISA
    assert "direct" in table.lines[CONV]
    assert "direct" not in table.lines[DEPTHWISE]
    for name, points in rows[CONV].items():
        assert len(points) == len(calibration.SPARSITIES) - (name == "active_taps")
    assert "active_taps" in rows[CONV]
    # Estimates of dense layers are the least of what was measured, up to the fit.
    best = min(p[0][1] for name, p in rows[CONV].items() if name != "active_taps")
    assert 0.3 * best < layer_cost(CONV, table).ms(1.0) < 3 * best


def test_every_beginning_of_a_round_is_spread():
    order = calibration._spread(list(default_table().lines))
    assert sorted(order, key=str) == sorted(default_table().lines, key=str)
    names = list(default_table().lines)
    first = sorted(names.index(conv) for conv in order[:8])
    assert max(b - a for a, b in pairwise(first)) <= len(names) // 4


def test_calibration_is_kept_and_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACTIVSPARSE_ISA", ISA)
    before, line = calibration.this_table(ISA)
    assert before in shipped_tables().values()
    monkeypatch.setattr(calibration, "busy_cores", lambda: 1.7)
    assert main(["calibrate", "--seconds", "0.2"]) == 2
    assert "machine is busy (1.7 cores at work)" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
    assert main(["calibrate", "--seconds", "0.2", "--force"]) == 0
    path = calibration.calibrated_file(ISA, 1)
    assert str(path) in capsys.readouterr().out
    table, line = calibration.this_table(ISA)
    assert "measured on this machine" in line
    assert 1 <= len(table.lines) < 30
    assert default_table() in shipped_tables().values()

    path.write_text('{"layers": [{"times": 3}]}')
    with pytest.raises(ActivsparseError, match="is no table of times, or damaged"):
        calibration.this_table(ISA)


def test_nowhere_to_keep_and_no_such_instruction_set(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path))
    assert main(["calibrate", "--isa", "avx9"]) == 2
    assert "has no avx9" in capsys.readouterr().err
    monkeypatch.setenv("ACTIVSPARSE_CACHE", "off")
    assert main(["calibrate"]) == 2
    assert "set it to a folder" in capsys.readouterr().err


def test_shipped_times_are_those_of_a_quiet_machine():
    """Fewer positions take no longer, but for what partial tiles add and a little noise.

    A table of a machine with busy neighbours had Winograd's times at 7 times what they were beside.
    """
    folder = resources.files("activsparse.masks").joinpath("tables")
    for file in folder.iterdir():
        rises = [
            after[1] / before[1]
            for row in json.loads(file.read_text("utf-8"))["layers"]
            for times in row["times"].values()
            for before, after in pairwise(times)
        ]
        assert max(rises) < 1.4, file.name
        assert sum(rise > 1.25 for rise in rises) <= 2, file.name


def test_the_nearest_table_is_said_to_be_an_estimate():
    for table in shipped_tables().values():
        found, line = choose_table(table.machine, table.isa, table.threads)
        assert found is table
        assert "estimated" not in line
    machine = default_table().machine
    table, line = choose_table(machine, "neon", 1)
    assert "estimated from those of another machine" in line
    assert "activsparse calibrate" in line


def test_default_masks_do_not_depend_on_the_machine(tmp_path):
    """Another table changes what masks cost and nothing of what is taken by default."""
    rows = calibration.measure_rows([CONV, WIDE], ISA, 1, 60, rounds=1)
    for times in rows.values():
        for points in times.values():
            points[:] = [[done, 100 * ms] for done, ms in points]
    calibration.write_rows(rows, tmp_path / "t.json", ISA, 1, 0.0)
    table = read_table(tmp_path / "t.json")
    assert dense_ms(CONV, table) > 20 * dense_ms(CONV)
    default = possible_masks(CONV, "auto", 0)
    assert max(p.cost for p in possible_masks(CONV, "auto", 0, table)) > default[0].cost
    assert possible_masks(CONV, "auto", 0) == default
    text = json.loads((tmp_path / "t.json").read_text())
    assert text["isa"] == ISA
