"""Coverage-guided damage to ONNX files: whatever comes, the compiler works or raises one line.

    python -m fuzz.onnx_loader CORPUS... [-max_total_time=60] [-seed=1]

Options are libFuzzer's. It needs atheris; a file that breaks the rule is written beside it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["activsparse"]):
    from activsparse.engine.compile import compile_model

from activsparse import ActivsparseError, _native
from fuzz.hostile import damaged

_LARGEST_FILE = 1 << 16


def mutated(content: bytes, most: int, seed: int) -> bytes:
    """Bytes changed as libFuzzer does, or at times another file damaged by its meaning."""
    if seed % 4 == 0:
        return damaged(seed)[0][:most]
    return atheris.Mutate(content, most)


def try_content(content: bytes, path: Path) -> None:
    """Compile a file of these bytes.

    Raises:
        AssertionError: the error is not one printable line.
    """
    path.write_bytes(content)
    try:
        compile_model(path, isa=_native.available_isas()[0], tune=False)
    except ActivsparseError as error:
        text = str(error)
        if not text.strip() or not text.isprintable():
            raise AssertionError(f"not one line: {text!r}") from error


def main() -> None:
    """Hand over to libFuzzer."""
    warnings.simplefilter("ignore")
    os.environ["ACTIVSPARSE_CACHE"] = "off"
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path = Path(folder) / "model.onnx"
        limits = [f"-max_len={_LARGEST_FILE}", "-timeout=60", "-rss_limit_mb=4096"]
        atheris.Setup(
            [*sys.argv, *limits],
            lambda content: try_content(content, path),
            custom_mutator=mutated,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
