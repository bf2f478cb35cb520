"""Which tests run a function: no other can notice a fault in it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

# What tests start as processes of their own is not traced.
_STARTS_PROCESSES = re.compile(r"\bsubprocess\b|\bmultiprocessing\b|\bPopen\b")
# What is cached runs in one test of a file and serves the others.
_CACHES = re.compile(r"^@(functools\.)?(lru_)?cache\b", re.MULTILINE)

Lines = dict[str, dict[str, list[str]]]
"""Source file -> line -> names of the tests in one file that ran it."""


def test_files(tests: Iterable[str]) -> list[str]:
    """Files and folders of tests as files, each once."""
    paths = (Path(test) for test in tests)
    files = (sorted(p.rglob("test_*.py")) if p.is_dir() else [p] for p in paths)
    return list(dict.fromkeys(str(file) for some in files for file in some))


def reached(source: Path, targets: Iterable[str], test: str, run: Callable[[], int]) -> Lines:
    """Lines of the target files below `source` that the tests of one file ran.

    Args:
        source: folder with the package.
        targets: files below it.
        test: a file of tests.
        run: runs them, in a process that did not import the package yet; returns pytest's status.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        pid = os.fork()
        if pid == 0:
            status = 98
            try:
                import coverage

                watch = coverage.Coverage(
                    data_file=str(data),
                    config_file=False,
                    include=[str(source.absolute() / target) for target in targets],
                )
                watch.set_option("run:dynamic_context", "test_function")
                watch.start()
                status = run()
                watch.stop()
                watch.save()
            finally:
                os._exit(status)
        _, ended = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(ended) not in (0, 5):  # 5: no test was selected
            raise RuntimeError(f"{test} fails without any fault; run it by itself")
        from coverage import CoverageData

        found = CoverageData(str(data))
        found.read()
        return {
            target: {
                str(line): sorted({name.rsplit(".", 1)[-1] for name in names})
                for line, names in found.contexts_by_lineno(str(source.absolute() / target)).items()
            }
            for target in targets
        }


class Reach:
    """The tests that run a line's function, noted in a file by digest of what was run."""

    def __init__(self, source: Path, targets: list[str], note: Path) -> None:
        self._source, self._targets, self._note = source, targets, note
        code = b"".join((source / target).read_bytes() for target in targets)
        self._digest = hashlib.sha256(code).hexdigest()
        self._known = json.loads(note.read_text()) if note.exists() else {}

    def tests(self, file: str, line: int, test: str, run: Callable[[], int]) -> list[str]:
        """Those in the file `test` that may notice a fault in a line, as arguments for pytest."""
        around = _function_of((self._source / file).read_text(), line)
        folder = (self._source / file).parent
        cached = any(_CACHES.search(path.read_text()) for path in folder.glob("*.py"))
        if around is None or _STARTS_PROCESSES.search(Path(test).read_text()):
            return [test]
        ran = self._of(test, run).get(file, {})
        names = {name for inner in around for name in ran.get(str(inner), [])}
        if names and (cached or not names <= _functions(test)):
            return [test]
        return [f"{test}::{name}" for name in sorted(names)]

    def _of(self, test: str, run: Callable[[], int]) -> Lines:
        key = hashlib.sha256(Path(test).read_bytes() + self._digest.encode()).hexdigest()
        if key not in self._known:
            self._known[key] = reached(self._source, self._targets, test, run)
            self._note.write_text(json.dumps(self._known))
        lines: Lines = self._known[key]
        return lines


def _functions(test: str) -> set[str]:
    """Names that pytest knows; what ran on import or in a fixture goes by none of them."""
    tree = ast.parse(Path(test).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _function_of(source: str, line: int) -> range | None:
    """The lines of the body of the innermost function around a line; None outside of all."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno <= line <= _end(node)
    ]
    if not functions:
        return None
    inner = max(functions, key=lambda node: node.lineno)
    return range(inner.body[0].lineno, _end(inner) + 1)


def _end(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno
