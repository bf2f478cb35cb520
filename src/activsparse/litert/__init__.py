"""This engine inside LiteRT (TensorFlow Lite): a delegate, and .tflite files for it.

activsparse.litert.convert("masked.onnx", "masked.tflite")
interpreter = activsparse.litert.interpreter("masked.tflite", threads=2)
"""

from activsparse.litert.convert import Converted, convert

__all__ = ["Converted", "convert"]
