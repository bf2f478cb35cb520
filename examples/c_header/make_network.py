"""Write a small masked network three times: as ONNX, as a compiled plan, and as C headers.

    python make_network.py FOLDER

FOLDER gets network.onnx, network.plan, masks.h (what `activsparse export --header` writes of a
trained network) and weights.h. inference.c computes the network from the two headers alone.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from activsparse.engine.compile import compile_file
from activsparse.export.header import header_text
from activsparse.export.mask import mask_model
from activsparse.masks import sparsity_of

CHANNELS = (3, 8, 16, 16)
SIZE, CLASSES = 32, 10


def network(rng: np.random.Generator) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Three 3x3 convolutions, each followed by ReLU, the mean over positions, a linear layer."""
    weights: dict[str, np.ndarray] = {}
    nodes, value = [], "x"
    for i, (c, o) in enumerate(itertools.pairwise(CHANNELS), 1):
        weight = rng.standard_normal((o, c, 3, 3)) * np.sqrt(2 / (9 * c))
        weights[f"conv{i}.weight"] = weight.astype(np.float32)
        weights[f"conv{i}.bias"] = rng.normal(0, 0.1, o).astype(np.float32)
        names = [value, f"conv{i}.weight", f"conv{i}.bias"]
        nodes.append(helper.make_node("Conv", names, [f"c{i}"], f"conv{i}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    weights["classify.weight"] = rng.standard_normal((CLASSES, CHANNELS[-1])).astype(np.float32)
    weights["classify.bias"] = rng.standard_normal(CLASSES).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"]))
    linear = ["features", "classify.weight", "classify.bias"]
    nodes.append(helper.make_node("Gemm", linear, ["y"], "classify", transB=1))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS[0], SIZE, SIZE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9), weights


def masks_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The masks in an ONNX file by layer: the constants named `<layer>.activation_mask`."""
    end = ".activation_mask"
    return {
        constant.name.removesuffix(end): numpy_helper.to_array(constant)[0, 0] != 0
        for constant in model.graph.initializer
        if constant.name.endswith(end)
    }


def weights_header(weights: dict[str, np.ndarray]) -> str:
    """C arrays of the weights; a convolution's is [output][row][column][input]."""
    parts = ["/* Written by make_network.py. */"]
    for name, array in weights.items():
        if array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        values = ", ".join(f"{float(v):.9g}f" if v % 1 else f"{float(v):.1f}f" for v in array.flat)
        sizes = "".join(f"[{size}]" for size in array.shape)
        parts.append(f"static const float {name.replace('.', '_')}{sizes} = {nest(array, values)};")
    return "\n".join(parts) + "\n"


def nest(array: np.ndarray, values: str) -> str:
    """Braces around the values, as many as C wants for the array's shape."""
    parts = values.split(", ")
    for size in array.shape[:0:-1]:
        parts = ["{" + ", ".join(parts[i : i + size]) + "}" for i in range(0, len(parts), size)]
    return "{" + ", ".join(parts) + "}"


def main(folder: Path) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    dense, weights = network(np.random.default_rng(0))
    masked, _ = mask_model(dense, 0.4, pattern="random", skip_stem=False)
    masks = masks_of(masked)
    onnx.save(masked, folder / "network.onnx")
    compile_file(folder / "network.onnx", folder / "network.plan", tune=False)
    (folder / "masks.h").write_text(header_text(masks), encoding="ascii")
    (folder / "weights.h").write_text(weights_header(weights), encoding="ascii")
    for name, mask in masks.items():
        print(f"{name}: {sparsity_of(mask):.0%} of {mask.size} positions are not computed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
