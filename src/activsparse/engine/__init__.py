"""The engine half: an ONNX file in, a plan of native operators out, and a session that runs it."""
