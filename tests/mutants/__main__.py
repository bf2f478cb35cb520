"""`python -m mutants`: a random sample of faults, and which test noticed each.

Every mutant runs in a forked child that has the libraries already, and in it the tests that reach
the function it is in, until one fails. Results are appended to a CSV file, and a run goes on where
the last one stopped.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from mutants.mutate import Mutant, count, mutant
from mutants.reach import Reach, test_files
from mutants.targets import files

SOURCE = Path("src")
EQUIVALENT = Path("tests/mutants/equivalent.csv")
FIELDS = ("file", "line", "code", "change", "outcome", "by")


def preload() -> None:
    """Import what tests need, but nothing of ours."""
    import coverage  # noqa: F401
    import hypothesis  # noqa: F401
    import onnx.reference  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)


def shadow(folder: Path) -> Path:
    """A copy of the source whose files can be given faults."""
    copy = folder / "src"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for library in SOURCE.rglob("*.so"):
        (copy / library.relative_to(SOURCE)).symlink_to(library.absolute())
    return copy


class _FirstFailure:
    """Tells the parent process which test failed."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tell(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._tell(report)

    def _tell(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            os.write(self._pipe, report.nodeid.encode()[:4000])


def run_tests(source: Path, tests: list[str], *plugins: object) -> int:
    """Run tests against a source folder in this process, which is for nothing else; its status."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    others = [p for p in sys.path if Path(p).resolve() != SOURCE.resolve()]
    sys.path[:] = [str(source), *others]
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    sys.dont_write_bytecode = True
    words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    return int(pytest.main(words, plugins=list(plugins)))


def verdict(mutant: Mutant, source: Path, tests: list[str], seconds: float) -> tuple[str, str]:
    """Which test noticed a mutant: ("killed" or "timeout", test), or ("survived", "")."""
    file = source / mutant.file
    original = file.read_text()
    try:
        file.write_text(mutant.source)
        passed, failed = judge(source, tests, seconds)
    finally:
        file.write_text(original)
    if passed is None:
        return "timeout", ""
    return ("survived", "") if passed else ("killed", failed)


def judge(source: Path, tests: list[str], seconds: float) -> tuple[bool | None, str]:
    """Whether tests pass against a source folder (None: no answer in time), and who failed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 98
        try:
            os.close(reader)
            os.setsid()
            status = run_tests(source, tests, _FirstFailure(writer))
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return _told(os.waitstatus_to_exitcode(status), pipe.read(4000).decode())
            time.sleep(0.02)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None, ""


def _told(status: int, failed: str) -> tuple[bool, str]:
    if status in (0, 5):  # 5: no test was selected
        return True, ""
    if not failed and status >= 0:
        raise RuntimeError(f"pytest ended with {status} and no failed test")
    return False, failed or f"signal {-status}"


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="files whose path holds this")
    parser.add_argument("--out", type=Path, default=Path("build/mutants.csv"))
    parser.add_argument(
        "--again", action="store_true", help="survivors and timeouts in the file once more"
    )
    parser.add_argument("--seconds", type=float, default=600, help="per test file")
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", ACTIVSPARSE_CACHE="off")
    targets = {name: tests for name, tests in files(SOURCE).items() if args.only in name}
    sources = {name: (SOURCE / name).read_text() for name in targets}
    every = [(name, i) for name, source in sources.items() for i in range(count(source))]
    drawn = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    sample = [mutant(name, sources[name], i) for name, i in drawn]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = read(args.out)
    excused = set(read(EQUIVALENT))
    preload()
    print(f"{len(every)} mutants in {len(targets)} files; {len(sample)} drawn by seed {args.seed}")
    with tempfile.TemporaryDirectory() as folder:
        source = shadow(Path(folder))
        reach = Reach(source, list(files(SOURCE)), args.out.with_name("mutants-reach.json"))
        for number, fault in enumerate(sample, 1):
            key = fault.key
            old = known.get(key)
            if key in excused or (old and not (args.again and old != "killed")):
                continue
            begin = time.monotonic()
            outcome, by = "survived", ""
            for test in test_files(targets[fault.file]):
                run = partial(run_tests, source, [test])
                tests = reach.tests(fault.file, fault.line, test, run)
                if tests:
                    outcome, by = verdict(fault, source, tests, args.seconds)
                if outcome != "survived":
                    break
            known[key] = outcome
            append(args.out, fault, outcome, by)
            took = time.monotonic() - begin
            print(
                f"{number:4d} {outcome:8s} {fault.file}:{fault.line} {fault.change} "
                f"({by or 'all passed'}, {took:.0f} s)",
                flush=True,
            )
    outcomes = ["equivalent" if m.key in excused else known[m.key] for m in sample]
    killed = sum(o in ("killed", "timeout") for o in outcomes)
    same = outcomes.count("equivalent")
    counted = len(sample) - same
    print(f"{killed} of {counted} killed ({killed / max(1, counted):.1%}); {same} equivalent")
    for fault, outcome in zip(sample, outcomes, strict=True):
        if outcome == "survived":
            print(f"  survived: {fault.file}:{fault.line} {fault.change}")
    return 0 if killed >= 0.9 * counted else 1


def read(path: Path) -> dict[tuple[str, ...], str]:
    """(file, code, change) -> outcome; the last line about a mutant counts."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(r["file"], r["code"], r["change"]): r["outcome"] for r in csv.DictReader(file)}


def append(path: Path, mutant: Mutant, outcome: str, by: str) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(FIELDS)
        writer.writerow([mutant.file, mutant.line, mutant.code, mutant.change, outcome, by])


if __name__ == "__main__":
    raise SystemExit(main())
