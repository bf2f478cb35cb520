"""Now `activsparse.train.sparsify.layers`."""

from activsparse.train.sparsify.layers import ConvLayer, find_layers

__all__ = ["ConvLayer", "find_layers"]
