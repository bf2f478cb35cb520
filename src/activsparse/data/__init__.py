"""Images by name, as Lightning data modules."""

from activsparse.data.module import ImageData
from activsparse.data.registry import build_data

__all__ = ["ImageData", "build_data"]
