"""Random graphs through every door of the engine, against unoptimised ONNX Runtime.

`python -m fuzz --minutes 30` (`make fuzz`); docs/testing.md says what it covers.
"""
