"""Commands that write: killed, on full disks, in folders one may not write to, short of memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults.children import Child, command, fork, one_line
from faults.models import image, network


def commands(folder: Path) -> dict[str, Callable[[Path], list[Any]]]:
    """Every command that writes a file: name -> its words, for the file to write."""
    model, x = network(folder / "model.onnx"), image(folder / "x.npy")
    run = tiny_run(folder / "run")
    dense = ["--dense", model, "--engines", "activsparse,onnxruntime", "--repeat", 2]
    every: dict[str, Callable[[Path], list[Any]]] = {
        "compile": lambda out: ["compile", model, "--out", out],
        "mask": lambda out: ["mask", model, "--sparsity", "0.3", "--out", out],
        "run": lambda out: ["run", model, "--input", x, "--output", out],
        "bench": lambda out: ["bench", *dense, "--json", out],
        "convert": lambda out: ["convert", model, "--tflite", out],
    }
    if run is not None:
        every["export"] = lambda out: ["export", run, "--out", out]
    return every


def tiny_run(out: Path) -> Path | None:
    """A finished training of a minute's size."""
    from faults.training import RECIPE

    recipe = out.with_suffix(".yaml")
    recipe.write_text(RECIPE)
    child = command(
        out.with_suffix(".log"),
        "train",
        "--recipe",
        recipe,
        "--out",
        out,
        "--set",
        "training.epochs=1",
        "dense=null",
    )
    return out if child.wait() == 0 else None


_ENDINGS = {"compile": "plan", "run": "npy", "bench": "json", "convert": "tflite"}


def target(folder: Path, name: str) -> Path:
    return folder / f"out.{_ENDINGS.get(name, 'onnx')}"


def kills_of_writing(folder: Path, count: int, seed: int) -> list[str]:
    """Kill commands at random moments; the file they replace is the old one or the new one."""
    rng, faults, killed = random.Random(seed), [], 0
    every = commands(folder)
    for name in ("compile", "mask", "export"):
        if name not in every:
            faults.append(f"{name}: there is no run to export")
            continue
        out = target(folder, name)
        lasts = 0.0
        for _ in range(2):  # the first run finds files nobody has read yet
            begin = time.monotonic()
            status = (child := command(folder / "log", *every[name](out))).wait()
            lasts = time.monotonic() - begin
        if status != 0:
            faults.append(f"{name}: fails undisturbed: {child.said[-200:]}")
            continue
        good = {digest(out)}
        for _ in range(count):
            out.write_bytes(b"old")
            killed += command(folder / "log", *every[name](out)).kill_after(rng.uniform(0, lasts))
            if out.read_bytes() != b"old" and not complete(name, out, good):
                faults.append(f"{name}: a half-written file of {out.stat().st_size} bytes")
        out.unlink()
    total = 3 * count
    print(
        f"kill -9 of compile, mask, export: {total} commands, {killed} killed; {len(faults)} faults"
    )
    return faults


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def complete(name: str, path: Path, good: set[str]) -> bool:
    """Whether a file is what the command writes when nobody disturbs it."""
    if digest(path) in good:
        return True
    from activsparse import Session

    try:
        Session(path)
    except Exception:  # damaged, whatever the reason
        return False
    return True


def full_disk(folder: Path) -> list[str]:
    """Every command on a disk that is full: one line that names the file, exit 2."""
    every = commands(folder)
    faults = []
    with small_disk(folder / "disk", "size=64k") as disk:
        if disk is None:
            print("full disk: not tried, for mounting a small one takes root")
            return []
        fill(disk / "filling")
        for name, words in every.items():
            out = target(disk, name)
            faults += clear(name, command(folder / "log", *words(out)), out.name)
            left = [file for file in disk.iterdir() if file.name != "filling"]
            if left:
                faults.append(f"{name}: leaves {[file.name for file in left]} behind")
            for file in left:
                file.unlink()
        faults += clear("train", command(folder / "log", *training(folder, disk / "run")), "run")
        shutil.rmtree(disk / "run", ignore_errors=True)
    print(f"full disk: {len(every) + 1} commands; {len(faults)} faults")
    return faults


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path | None]:
    """A file system in memory at `place`, as long as the block lasts; None without the rights."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    mounted = subprocess.run(words, capture_output=True).returncode == 0
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def fill(path: Path) -> None:
    """Write to a file until nothing more fits."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass


def training(folder: Path, out: Path) -> list[Any]:
    from faults.training import RECIPE

    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    return ["train", "--recipe", recipe, "--out", out]


def clear(name: str, child: Child, *words: str) -> list[str]:
    """What is wrong with how a command ended that cannot succeed."""
    status = child.wait()
    if status != 2:
        return [f"{name}: exit status {status}, not 2: {child.said[-300:]}"]
    if not one_line(child.said):
        return [f"{name}: no single line: {child.said[-300:]}"]
    missing = [word for word in words if word not in child.said]
    return [f"{name}: does not name {missing[0]}: {child.said[-300:]}"] if missing else []


def read_only(folder: Path) -> list[str]:
    """Every command in a folder one may not write to: one line that names it, exit 2."""
    every = commands(folder)
    with small_disk(folder / "closed", "ro") as closed:
        if closed is None:  # whoever may not mount is bound by permissions
            closed = folder / "closed"
            closed.chmod(0o555)
        faults = []
        for name, words in every.items():
            child = command(folder / "log", *words(target(closed, name)))
            faults += clear(name, child, "closed")
        faults += clear(
            "train", command(folder / "log", *training(folder, closed / "run")), "closed"
        )
    print(f"read-only folder: {len(every) + 1} commands; {len(faults)} faults")
    return faults


def little_memory(folder: Path) -> list[str]:
    """Every command within ever more address space: it ends well, or in one line; no crash."""
    every = commands(folder)
    network(folder / "large.onnx", layers=6, channels=512, size=96)
    words = {name: make(target(folder, name)) for name, make in every.items()}
    words["compile a large one"] = ["compile", folder / "large.onnx", "--out", folder / "l.plan"]
    words["verify"] = ["verify", folder / "model.onnx"]
    words["explain"] = ["explain", folder / "large.onnx"]
    faults, tries, short = [], 0, 0

    def limited(words: list[Any], more: int) -> Callable[[], int]:
        def action() -> int:
            from activsparse.cli import main

            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * os.sysconf("SC_PAGE_SIZE") + more
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            return main([str(word) for word in words])

        return action

    for name, given in words.items():
        for more in (8 << 20, 24 << 20, 64 << 20, 160 << 20, 400 << 20):
            child = fork(limited(given, more), folder / "log")
            status = child.wait()
            tries += 1
            short += status != 0
            if status not in (0, 2) or (status == 2 and not one_line(child.said)):
                said = child.said.strip().splitlines()
                faults.append(
                    f"{name} with {more >> 20} MiB: exit status {status}: "
                    f"{said[-1][:200] if said else ''}"
                )
    print(f"little memory: {tries} commands, {short} ran out of it; {len(faults)} faults")
    return faults


def as_users_do(folder: Path) -> list[str]:
    """The same through a shell, to see that children stand for real commands."""
    model = network(folder / "model.onnx")
    done = subprocess.run(
        [sys.executable, "-m", "activsparse", "compile", model, "--out", "/proc/no.plan"],
        capture_output=True,
        text=True,
    )
    return [] if done.returncode == 2 and one_line(done.stderr) else [done.stderr[-300:]]
