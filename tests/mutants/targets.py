"""Which files are given faults, and which tests ought to notice, the quickest first."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

_COMPILER = (
    *("tests/engine/test_passes.py", "tests/engine/test_views.py", "tests/engine/test_load.py"),
    *("tests/engine/test_join_branches.py", "tests/engine/test_join_stem_pool.py"),
    *("tests/engine/test_inverted_residual.py", "tests/engine/test_matmul.py"),
    *("tests/fuzz/test_fuzz.py", "tests/engine/test_fallback.py"),
    *("tests/engine/test_opsets.py", "tests/engine/test_ranks.py", "tests/engine/test_results.py"),
    *("tests/engine/test_masks_in_a_row.py", "tests/engine/test_lay_out.py"),
    *("tests/engine/test_pooling.py", "tests/engine/test_evaluate.py"),
    *("tests/engine/test_random_graphs.py", "tests/engine/test_detectors.py"),
    "tests/engine/test_models.py",
)
_MASKS = (
    *("tests/masks", "tests/train/plan/test_planner.py", "tests/engine/test_calibrate.py"),
    *("tests/export/test_mask_model.py", "tests/train/sparsify/test_sparsifier.py"),
)
_PLANNER = (
    *("tests/train/plan/test_planner.py", "tests/train/plan/test_planned_masks.py"),
    *("tests/train/plan/test_sensitivity.py", "tests/train/test_search_recipe.py"),
)
_SCHEDULE = ("tests/train/sparsify/test_schedule.py", "tests/train/sparsify/test_paper.py")
TARGETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("activsparse/engine/passes/*.py", _COMPILER),
    ("activsparse/engine/passes/*/*.py", _COMPILER),
    ("activsparse/masks/*.py", _MASKS),
    ("activsparse/train/sparsify/schedule.py", _SCHEDULE),
    ("activsparse/train/plan/*.py", _PLANNER),
)


def files(source: Path) -> dict[str, list[str]]:
    """Files below the source folder -> the tests for them, those that exist."""
    found: dict[str, list[str]] = {}
    for path in sorted(source.rglob("*.py")):
        name = str(path.relative_to(source))
        for pattern, tests in TARGETS:
            if fnmatch(name, pattern) and pattern.count("/") == name.count("/"):
                own = sorted(map(str, Path("tests").rglob(f"test_{path.stem.strip('_')}.py")))
                every = dict.fromkeys([*own, *tests])
                found[name] = [test for test in every if Path(test).exists()]
                break
    return found
