"""Plans of whole networks through the C interface."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from builds import environment
from c_programs import LIBRARY, ROOT, build, needs_c, run
from plan_cases import Cases

from activsparse import Session, _native
from activsparse.engine.compile import compile_model

pytestmark = needs_c
ISAS = _native.available_isas()


def test_plans_give_in_c_what_they_give_in_python(exported, open_batch, tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    model = exported("resnet18", "norm", "nearest")
    for isa in ISAS[1:] or ISAS:
        plan = compile_model(model, isa=isa, tune=False)
        cases.add(isa, plan, [x], [Session(model, isa=isa, tune=False).run(x)], [0.0])
    plan = compile_model(open_batch, isa=ISAS[-1], threads=2, input_shapes={"x": (5, 3, 8, 8)})
    assert plan.parts == 5
    x = np.random.default_rng(1).standard_normal((5, 3, 8, 8), np.float32)
    each = Session(open_batch, isa=ISAS[-1], threads=1)
    cases.add(
        "batch", plan, [x], [np.concatenate([each.run(x[i : i + 1]) for i in range(5)])], [0.0]
    )
    program = build(tmp_path / "program", "tests/native/plan_cases.c")
    for threads in (1, 3):
        ran = run(program, cases.folder, threads)
        assert ran.stdout == f"{len(cases.names)} hold, 0 fail\n", ran.stdout + ran.stderr


def write_image(path: Path, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A PPM of noise; returns its pixels (H, W, 3)."""
    pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    header = f"P6\n# noise\n{size[1]} {size[0]}\n255\n"
    path.write_bytes(header.encode() + pixels.tobytes())
    return pixels


def test_the_example_classifies_an_image(exported, tmp_path: Path) -> None:
    model = exported("resnet18", "norm", "zero")
    session = Session(model)
    session.save(tmp_path / "model.plan")
    program = build(tmp_path / "classify", "examples/c/classify.c", "examples/c/image.c")
    pixels = write_image(tmp_path / "image.ppm", np.random.default_rng(1), (64, 64))
    (tmp_path / "labels.txt").write_text("".join(f"class {i}\n" for i in range(1000)))
    ran = run(program, *(tmp_path / n for n in ("model.plan", "image.ppm", "labels.txt")))
    assert ran.returncode == 0, ran.stderr

    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
    x = ((pixels.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]
    scores = session.run(x).ravel()
    best = np.argsort(-scores)[:5]
    rows = [line.split(" ", 2) for line in ran.stdout.splitlines()]
    assert [int(row[0]) for row in rows] == best.tolist()
    np.testing.assert_allclose([float(row[1]) for row in rows], scores[best], rtol=1e-4)
    assert [row[2] for row in rows] == [f"class {i}" for i in best]

    x.tofile(tmp_path / "image.raw")
    raw = run(program, tmp_path / "model.plan", tmp_path / "image.raw")
    assert [int(line.split()[0]) for line in raw.stdout.splitlines()] == best.tolist()


@pytest.mark.slow
def test_the_example_builds_by_the_commands_of_the_readme(exported, tmp_path: Path) -> None:
    path = environment(tmp_path)["PATH"]
    if shutil.which("cmake", path=path) is None or shutil.which("cc") is None:
        pytest.skip("needs cmake and cc")
    blocks = (ROOT / "README.md").read_text().split("```")[1::2]
    (commands,) = [block for block in blocks if "examples/c/" in block]
    # As in a fresh checkout: all of the sources, and nothing that was built.
    folders = "cmake native integrations benchmarks examples src tests"
    for name in ("CMakeLists.txt", *folders.split()):
        (tmp_path / name).symlink_to(ROOT / name)
    session = Session(exported("resnet18"))
    session.save(tmp_path / "tiles.plan")
    write_image(tmp_path / "image.pgm", np.random.default_rng(1), (64, 64))
    ran = subprocess.run(
        ["bash", "-ec", commands],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(tmp_path),
    )
    assert ran.returncode == 0, ran.stderr
    # Between what cmake says, in an order of its own.
    scores = [line for line in ran.stdout.splitlines() if re.match(r"\d+ -?\d", line)]
    assert len(scores) == 10, ran.stdout
    assert scores[:5] == scores[5:]


def test_the_example_says_what_is_wrong(exported, tmp_path: Path) -> None:
    Session(exported("resnet18")).save(tmp_path / "model.plan")
    program = build(tmp_path / "classify", "examples/c/classify.c", "examples/c/image.c")
    write_image(tmp_path / "image.ppm", np.random.default_rng(1), (30, 50))
    assert run(program, tmp_path / "model.plan", tmp_path / "image.ppm").returncode == 0
    (tmp_path / "short.ppm").write_bytes((tmp_path / "image.ppm").read_bytes()[:-1])
    (tmp_path / "short.raw").write_bytes(bytes(40))
    for plan, image in (
        ("none.plan", "image.ppm"),
        ("image.ppm", "image.ppm"),
        ("model.plan", "none.ppm"),
        ("model.plan", "model.plan"),
        ("model.plan", "short.ppm"),
        ("model.plan", "short.raw"),
    ):
        ran = run(program, tmp_path / plan, tmp_path / image)
        assert ran.returncode == 1
        assert len(ran.stderr.splitlines()) == 1
        assert (plan if "none.plan" in plan or image == plan else image) in ran.stderr


def test_the_shared_library_needs_the_c_library_only() -> None:
    shared = LIBRARY.with_suffix(".so")
    dynamic = run("readelf", "-d", shared).stdout
    needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]
    allowed = ("libc.", "libm.", "libpthread.", "ld-linux")
    assert all(name.startswith(allowed) for name in needed), needed
    symbols = run("nm", "-D", "--defined-only", shared).stdout.split()[2::3]
    assert all(name.startswith("as_") for name in symbols), symbols


def test_the_program_of_the_page_about_c_runs(exported, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "c.md").read_text()
    (source,) = re.findall(r"^```c\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "minimal.c").write_text(source)
    session = Session(exported("resnet18"))
    session.save(tmp_path / "model.plan")
    program = build(tmp_path / "minimal", str(tmp_path / "minimal.c"))
    ran = run(program, tmp_path / "model.plan")
    y = session.run(np.zeros(session.get_inputs()[0].shape, np.float32)).ravel()
    (output,) = session.get_outputs()
    assert ran.stdout == f"{output.name}: {y.size} values, the first is {y[0]:g}\n", ran.stderr
    none = run(program, tmp_path / "none.plan")
    assert none.returncode == 1
    assert "none.plan" in none.stderr
