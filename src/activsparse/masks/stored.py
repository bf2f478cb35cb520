"""What a mask is called where it is kept: in a module, a state dict, an ONNX file."""

__all__ = ["MASK", "SOURCE", "STATE"]

MASK = "activation_mask"
"""Buffer of a masked layer's host, and the end of an initializer's name: which positions count."""
SOURCE = "activation_source"
"""The same for fill `nearest`: the flat index each position is filled from."""
STATE = "sparsifier_state"
"""The Sparsifier's own state in the masked model."""
