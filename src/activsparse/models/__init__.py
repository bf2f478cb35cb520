"""Networks by name: our own small one, torchvision's, timm's, or any import path."""

from activsparse.models.registry import build_model
from activsparse.models.segmenter import build_segmenter, is_segmenter
from activsparse.models.small_resnet import SmallResNet
from activsparse.models.weights import load_weights
from activsparse.models.yolov5 import YoloV5

__all__ = [
    "SmallResNet",
    "YoloV5",
    "build_model",
    "build_segmenter",
    "is_segmenter",
    "load_weights",
]
