"""The networks of the benchmark, and the files the engines read them from.

Weights are random: times do not depend on their values, but for int8 on AVX2, where pairs that may
overflow take further steps. The statistics of batch normalisations come
from one batch of noise, so that activations keep a sensible size and a wrong result shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from activsparse.bench.engines import is_installed
from activsparse.export.mask import mask_model
from activsparse.export.model_file import read_model, write_model

PATTERNS = ("auto", "lattice", "tiles", "random")
SPARSITIES = (0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Network:
    """A network of `build_model`, and the options of `mask_model` that say what is masked.

    Attributes:
        model: name for `build_model`; empty where it is the key in `NETWORKS`.
    """

    model: str = ""
    features_only: bool = False
    classes: int = 1000
    size: int = 224
    mask: dict[str, Any] = field(default_factory=dict)


ONLY_3X3 = {"kernel_sizes": [(3, 3)]}
ALL_BUT_STEM = {"skip_shortcuts": False}

NETWORKS = {
    "resnet18": Network(mask=ONLY_3X3),
    "resnet50": Network(),
    "mobilenet_v2": Network(mask=ALL_BUT_STEM),
    "efficientnet_b0": Network(mask=ALL_BUT_STEM),
    # Its fully connected layers, a hundred million weights, would only measure the memory.
    "vgg16_bn": Network(features_only=True, mask=ONLY_3X3),
    "squeezenet1_1": Network(),
    "efficientnet_lite0": Network(model="timm:tf_efficientnet_lite0", mask=ALL_BUT_STEM),
    "mobilenet_v3_large": Network(mask=ALL_BUT_STEM),
    "mobilenetv4_conv_small": Network(model="timm:mobilenetv4_conv_small", mask=ALL_BUT_STEM),
    "yolov5n": Network(classes=80, size=640),
}


def export(name: str, folder: Path, engines: list[str]) -> Path:
    """Write a network, batch 1: `.onnx`, and what engines that do not read ONNX need.

    Files that exist are kept.

    Args:
        name: a key of `NETWORKS`.
        folder: where to.
        engines: xnnpack gets a `.pte`, inductor a `.pt2`.

    Returns:
        The path of the ONNX file.
    """
    path = folder / f"{name}.onnx"
    wanted = {".onnx"}
    wanted |= {".pte"} if "xnnpack" in engines and is_installed("xnnpack") else set()
    wanted |= {".pt2"} if "inductor" in engines else set()
    missing = {suffix for suffix in wanted if not path.with_suffix(suffix).exists()}
    if not missing:
        return path

    import torch

    from activsparse.export.onnx import export_onnx

    size = NETWORKS[name].size
    model, example = _build(name), torch.zeros(1, 3, size, size)
    if ".onnx" in missing:
        export_onnx(model, example, path)
    if missing - {".onnx"}:
        program = torch.export.export(model, (example,))
        if ".pt2" in missing:
            torch.export.save(program, path.with_suffix(".pt2"))
        if ".pte" in missing:
            from activsparse.bench.engines.xnnpack import write_pte

            write_pte(program, path.with_suffix(".pte"))
    return path


def _build(name: str) -> Any:
    import torch

    from activsparse.models import build_model

    torch.manual_seed(0)
    model: Any = build_model(NETWORKS[name].model or name, NETWORKS[name].classes)
    if NETWORKS[name].features_only:
        model = model.features
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, NETWORKS[name].size, NETWORKS[name].size))
    return model.eval()


def masked(name: str, dense: Path, pattern: str, sparsity: float) -> tuple[Path, float]:
    """Write a masked copy beside the dense file.

    Returns:
        Its path, and the mean sparsity its masks achieve, each layer counted once.
    """
    path = dense.with_name(f"{name}-{pattern}-{sparsity}.onnx")
    options = NETWORKS[name].mask
    model, report = mask_model(
        read_model(dense), sparsity, pattern=pattern, name=str(dense), **options
    )
    write_model(model, path)
    return path, report.each_once
