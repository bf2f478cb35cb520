"""The command line in forked children: the libraries are loaded once, runs take seconds."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Child:
    """A forked process and where its standard error goes."""

    pid: int
    log: Path
    begin: float

    def wait(self, seconds: float = 300) -> int:
        """Its exit status; minus the signal if one ended it, a hang being ended by SIGKILL."""
        end = self.begin + seconds
        while True:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)

    def kill_after(self, seconds: float) -> bool:
        """Send SIGKILL that long after the start; whether it was still running then."""
        time.sleep(max(0.0, self.begin + seconds - time.monotonic()))
        os.kill(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text(errors="replace")


def fork(action: Callable[[], int | None], log: Path) -> Child:
    """Run `action` in a child; what it returns is the exit status, 99 a traceback."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log, time.monotonic())
    status = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = action() or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # whatever it is, a user would see it
        traceback.print_exc()
    finally:
        os._exit(status)


def preload() -> None:
    """Import what the commands need; children then start in a moment."""
    import jinja2  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch

    import activsparse.export.onnx
    import activsparse.train.trainer  # noqa: F401

    torch.set_num_threads(1)


def command(log: Path, *words: object) -> Child:
    """Start `activsparse WORDS` in a child."""
    from activsparse.cli import main

    return fork(lambda: main([str(word) for word in words]), log)


def one_line(said: str) -> bool:
    """Whether standard error ends in one clear line instead of a traceback."""
    errors = [line for line in said.splitlines() if "error:" in line]
    return "Traceback" not in said and len(errors) >= 1
