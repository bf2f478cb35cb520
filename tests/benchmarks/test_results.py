"""What becomes of the benchmark's figures: the CSV file, the targets, the published tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import publish
import pytest
import results
import targets
from results import Variant

MACHINE = {
    "cpu": "Some CPU (R) 1",
    "cores": 2,
    "affinity": [1],
    "instruction_sets": ["scalar", "avx2"],
    "caches": {},
}
VARIANTS = {"d.onnx": Variant(), "s.onnx": Variant("auto", 0.3, 0.31)}


def row(model: str, engine: str, threads: int, ms: float) -> dict[str, Any]:
    variant = "dense" if model == "d.onnx" else "sparse"
    return {
        **{"model": model, "engine": engine, "version": "1", "variant": variant},
        **{"threads": threads, "median_ms": ms, "mad_ms": 0.1, "visits_ms": [ms]},
    }


def measured(threads: int, sparse_ms: float = 4.0) -> list[results.Result]:
    rows = [
        row("d.onnx", "activsparse", threads, 6.0),
        row("d.onnx", "slow", threads, 12.0),
        row("d.onnx", "fast", threads, 9.0),
        row("s.onnx", "activsparse", threads, sparse_ms),
    ]
    comparison = {"machine": MACHINE, "rows": rows, "best_dense": rows[2]}
    return results.from_comparison(comparison, "resnet18", VARIANTS, date="2026-01-02", repeat=5)


def test_a_line_holds_mask_and_ratios():
    line = measured(1)[3]
    assert (line.pattern, line.requested, line.achieved) == ("auto", 0.3, 0.31)
    assert (line.vs_best_dense_peer, line.vs_own_dense) == (9 / 4, 6 / 4)


def test_a_file_is_read_as_written_and_runs_replace_their_like(tmp_path: Path):
    path = results.file_of(MACHINE, tmp_path)
    assert path.name == "some-cpu-r-1-2-cores-avx2.csv"
    results.merge(path, measured(2))
    results.merge(path, measured(1))
    results.merge(path, measured(1, sparse_ms=3.0))
    assert results.read(path) == [*measured(1, sparse_ms=3.0), *measured(2)]


def test_targets_are_met_or_missed_as_printed():
    checks = targets.check([*measured(1), *measured(2, sparse_ms=5.0)])
    found = {(c.requested, c.threads, c.yardstick): (c.target, c.met) for c in checks}
    assert found == {
        (0.0, 1, "best peer"): (1.45, True),
        (0.0, 2, "best peer"): (pytest.approx(1.305), True),
        (0.3, 1, "best peer"): (2.2, True),
        (0.3, 2, "best peer"): (pytest.approx(1.98), False),
        (0.3, 1, "own dense"): (1.42, True),
    }


def test_masks_that_miss_the_sparsity_are_named():
    assert targets.off_sparsity(measured(1)) == []
    VARIANTS["s.onnx"] = Variant("auto", 0.3, 0.34)
    try:
        assert [line.achieved for line in targets.off_sparsity(measured(1))] == [0.34]
    finally:
        VARIANTS["s.onnx"] = Variant("auto", 0.3, 0.31)


def test_publishing_replaces_what_is_between_the_marks(tmp_path: Path, monkeypatch):
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/performance.md"):
        (tmp_path / name).write_text(f"before\n{publish.BEGIN}\nold\n{publish.END}\nafter\n")
    path = tmp_path / "machine.csv"
    results.merge(path, [*measured(1), *measured(2)])
    monkeypatch.setattr("sys.argv", ["publish.py", str(path), "--root", str(tmp_path)])
    publish.main()
    drawn = (tmp_path / "docs/speed.svg").read_bytes()
    publish.main()
    assert (tmp_path / "docs/speed.svg").read_bytes() == drawn
    readme = (tmp_path / "README.md").read_text()
    assert "old" not in readme
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "| resnet18 | fast, 9.00 ms | auto | 1.50 | 2.25 |" in readme
    assert "4.00 (2.25; 1.50; 0.31)" in (tmp_path / "docs/performance.md").read_text()


def test_machines_of_one_name_are_told_apart_and_the_own_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    machines = [{**MACHINE, "cpu": f"AMD EPYC (family {n}, model 2)"} for n in (25, 26)]
    old, new = (results.file_of(machine) for machine in machines)
    assert [old.name, new.name] == [
        f"amd-epyc-family-{n}-model-2-2-cores-avx2.csv" for n in (25, 26)
    ]
    monkeypatch.setattr(publish, "describe_machine", lambda: machines[1])
    results.merge(old, measured(1))
    with pytest.raises(SystemExit, match="family-25"):
        publish.chosen(None)
    results.merge(new, measured(1))
    assert publish.chosen(None) == new
    assert publish.chosen(old) == old
