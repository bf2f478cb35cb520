"""This engine inside LiteRT (TensorFlow Lite): a delegate, and .tflite files for it.

    activsparse.litert.convert("masked.onnx", "masked.tflite")
    interpreter = activsparse.litert.interpreter("masked.tflite", threads=2)

The delegate runs the convolutions of any float32 .tflite file, and the operators between them;
positions that are multiplied by a constant zero are not computed.
"""

from activsparse.litert.convert import Converted, convert
from activsparse.litert.delegate import delegate_path, interpreter

__all__ = ["Converted", "convert", "delegate_path", "interpreter"]
