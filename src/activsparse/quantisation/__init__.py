"""From a float32 network, masked or not, to an int8 one: `activsparse quantize`.

ONNX Runtime's quantiser does the arithmetic; here is what it does not know: masks stay masks,
which layers are better left in float, and what it costs.
"""
