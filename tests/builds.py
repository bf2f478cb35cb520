"""Building the sources once more, in another folder."""

from __future__ import annotations

import os
from pathlib import Path


def environment(sources: Path) -> dict[str, str]:
    """Variables that make a build in a folder below `sources` much like this installation's.

    It has the cmake that came along, if one did, since versions differ in the order of a compiler's
    options. Then ccache, where it is used, takes the objects that the installation compiled.
    """
    try:
        from cmake import CMAKE_BIN_DIR
    except ImportError:
        path = os.environ["PATH"]
    else:
        path = os.pathsep.join([CMAKE_BIN_DIR, os.environ["PATH"]])
    return {**os.environ, "PATH": path, "CCACHE_BASEDIR": str(sources)}
