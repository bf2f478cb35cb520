"""Makes a model repository for NVIDIA's Triton Inference Server: one network, served in two ways.

    python examples/triton/make_repository.py masked.onnx repository

`classifier` is the file that `activsparse.onnxruntime.rewrite` makes, for Triton's backend
`onnxruntime`, which loads our library of custom operators; `classifier_provider` the unmodified
file with its plan, for the backend `python`, whose ONNX Runtime uses our execution provider.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import activsparse
from activsparse.engine.compile import compile_file
from activsparse.engine.value_info import ValueInfo
from activsparse.onnxruntime import library_path, rewrite

CONFIG = """name: "{name}"
backend: "{backend}"
max_batch_size: 0
{values}
instance_group [ {{ kind: KIND_CPU count: 2 }} ]
{rest}"""
LIBRARY = 'model_operations {{ op_library_filename: "{}" }}\n'
THREADS = 'parameters {{ key: "{}" value: {{ string_value: "1" }} }}\n'


def main(model: str, out: str) -> None:
    """Write both models."""
    session = activsparse.Session(model, tune=False)
    values = "".join(
        f'{what} [ {{ name: "{v.name}" data_type: TYPE_FP32 dims: {v.shape} }} ]\n'
        for what, found in (("input", session.get_inputs()), ("output", session.get_outputs()))
        for v in _float32(found)
    )

    operators = Path(out, "classifier")
    (operators / "1").mkdir(parents=True, exist_ok=True)
    rewrite(model, operators / "1" / "model.onnx")
    library = shutil.copy(library_path(), operators / "1")
    rest = LIBRARY.format(Path(library).resolve())
    rest += THREADS.format("intra_op_thread_count") + THREADS.format("inter_op_thread_count")
    config = CONFIG.format(name="classifier", backend="onnxruntime", values=values, rest=rest)
    (operators / "config.pbtxt").write_text(config)

    provider = Path(out, "classifier_provider")
    (provider / "1").mkdir(parents=True, exist_ok=True)
    shutil.copy(model, provider / "1" / "model.onnx")
    compile_file(provider / "1" / "model.onnx", provider / "1" / "model.plan")
    shutil.copy(Path(__file__).with_name("model.py"), provider / "1")
    config = CONFIG.format(name="classifier_provider", backend="python", values=values, rest="")
    (provider / "config.pbtxt").write_text(config)


def _float32(values: list[ValueInfo]) -> list[ValueInfo]:
    if odd := [value for value in values if value.type != "tensor(float)"]:
        raise SystemExit(f"{odd[0].name} is {odd[0].type}; this example is for float32")
    return values


if __name__ == "__main__":
    main(*sys.argv[1:])
