"""Inputs and outputs as `onnxruntime.InferenceSession` describes them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ValueInfo"]


@dataclass(frozen=True)
class ValueInfo:
    """One input or output of a session.

    Attributes:
        name: in the model.
        shape: sizes, all of them known.
        type: of its elements, in ONNX Runtime's words.
    """

    name: str
    shape: list[int]
    type: str = "tensor(float)"
