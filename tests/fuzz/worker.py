"""One process that judges cases it is given on standard input, so that a crash costs one case.

A line in is a JSON object: either {"seed"} or {"path", "options", "doors"}; a line out is the
verdict, with the kind of graph it was.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from fuzz.doors import DOORS, Options, random_options
from fuzz.graphs import random_case
from fuzz.judge import Verdict, judge

_MOST_BYTES = 12 << 30


def answer(job: dict, folder: Path) -> dict:
    """Judge one case; of a seed, its files are written into `folder` first."""
    if "seed" in job:
        case = random_case(job["seed"])
        path, feed = case.save(folder, "case"), case.feed
        options, doors = random_options(job["seed"]), list(DOORS)
    else:
        path = Path(job["path"])
        feed = dict(np.load(path.with_suffix(".npz")))
        options, doors = Options(**job["options"]), job["doors"]
    verdict: Verdict = judge(path, feed, options, doors, folder)
    return verdict.as_dict()


def main() -> None:
    """Serve until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed must not look like a reply
    faulthandler.enable()
    warnings.simplefilter("ignore")
    os.environ.setdefault("ACTIVSPARSE_CACHE", "off")
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            reply = json.dumps(answer(json.loads(line), Path(folder)))
            for left in Path(folder).iterdir():
                left.unlink()
            print(reply, file=replies)


if __name__ == "__main__":
    main()
