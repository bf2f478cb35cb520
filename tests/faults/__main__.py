"""`python -m faults`: every kind of fault in turn, a line of counts each; exit status 1 if any."""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from faults import sharing, training, writing
from faults.children import preload


def kinds(args: argparse.Namespace) -> dict[str, Callable[[Path], list[str]]]:
    return {
        "cycles": lambda folder: sharing.load_cycles(folder, args.cycles),
        "threads": lambda folder: sharing.threads(folder, args.runs),
        "fork": lambda folder: sharing.forks(folder, args.forks),
        "writing": lambda folder: writing.kills_of_writing(folder, args.kills, args.seed),
        "disk": writing.full_disk,
        "read-only": writing.read_only,
        "memory": writing.little_memory,
        "command": writing.as_users_do,
        "training": lambda folder: training.kills_of_training(folder, args.kills, args.seed),
    }


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of training and of each writer")
    parser.add_argument("--cycles", type=int, default=1000, help="of loading a model")
    parser.add_argument("--runs", type=int, default=200, help="per thread")
    parser.add_argument("--forks", type=int, default=20, help="of each sort")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", nargs="+", help="kinds to try")
    args = parser.parse_args()
    os.environ.setdefault("ACTIVSPARSE_CACHE", "off")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"faults: seed {args.seed}", flush=True)
    every, found = kinds(args), 0
    for name in args.only or every:
        if name in ("writing", "disk", "read-only", "memory", "training"):
            preload()
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults") as folder:
            Path(folder).chmod(0o755)
            faults = every[name](Path(folder))
        for fault in faults:
            print(f"  FAULT {name}: {fault}")
        print(f"  ({name}: {time.monotonic() - begin:.0f} s)", flush=True)
        found += len(faults)
    print(f"{found} faults")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
