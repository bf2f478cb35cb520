"""All files compared with ONNX Runtime before anything is said of them."""

from __future__ import annotations

import json
from dataclasses import asdict

from activsparse.engine.verify import require_agreement
from activsparse.pipeline.work import Work

__all__ = ["make_checks"]


def make_checks(work: Work) -> None:
    """Write `verify.json`.

    Raises:
        MismatchError: an output is wrong.
    """
    found = {}
    for path in work.networks.values():
        rows = require_agreement(path, work.session(path))
        found[path.name] = [asdict(row) for row in rows]
    work.write("verify.json", json.dumps(found, indent=1) + "\n")
