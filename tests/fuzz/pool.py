"""Workers as subprocesses: a crash or a hang costs one case and names it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile

CASE_SECONDS = 120
"""A case that takes longer hangs."""


class Worker:
    """A `fuzz.worker` that is started again when it dies.

    Args:
        optimised: run it under `python -O`, where assertions guard nothing.
    """

    def __init__(self, optimised: bool = False) -> None:
        self._command = [sys.executable, *(["-O"] if optimised else []), "-m", "fuzz.worker"]
        self._process: subprocess.Popen | None = None

    def ask(self, job: dict, seconds: float = CASE_SECONDS) -> dict:
        """The verdict on a job; a crash or a hang is the failure of the door "process"."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._started()
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        message = self._cause(process) if ready else f"hang: no answer within {seconds:.0f} s"
        self.close()
        return {"failures": {"process": message}, "refusals": {}, "passed": [], "oracle": ""}

    def _started(self) -> subprocess.Popen:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the process)
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def _cause(self, process: subprocess.Popen) -> str:
        """Why a process ended, with the Python line a crash happened at."""
        code = process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        where = [line.strip() for line in lines if "activsparse" in line and "File" in line]
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        said = where[0] if where else (lines[-1] if lines else "")
        return f"crash: {cause}: {said}"[:300]

    def close(self) -> None:
        """Stop the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
