"""Now `activsparse.train.sparsify.state`."""

from activsparse.train.sparsify.state import SparsifierState

__all__ = ["SparsifierState"]
