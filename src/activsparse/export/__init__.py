"""Networks to files others can run: ONNX with masks, C headers, masks put into existing ONNX files.

`onnx` needs torch; everything else here needs numpy and onnx only. The package itself can be
called: `activsparse.export(model, example_input, path)` is `activsparse.api.export`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package and the function of its name are one attribute of `activsparse`: so it is both."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """See `activsparse.api.export`."""
        from activsparse.api import export

        return export(*args, **options)


sys.modules[__name__].__class__ = _Callable
