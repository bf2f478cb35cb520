"""Now `activsparse.train.callbacks.masks`."""

from activsparse.train.callbacks.masks import SparsifierCallback

__all__ = ["SparsifierCallback"]
