"""Networks to files others can run: ONNX with masks, C headers, masks put into existing ONNX files.

`onnx` needs torch; everything else here needs numpy and onnx only.
"""
