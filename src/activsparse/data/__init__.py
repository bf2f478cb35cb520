"""Images by name, as Lightning data modules."""

from activsparse.data.batches import BatchData
from activsparse.data.module import ImageData
from activsparse.data.registry import build_data

__all__ = ["BatchData", "ImageData", "build_data"]
