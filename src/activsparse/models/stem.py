"""The first convolution of a network, fitted to the images it will see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from activsparse.errors import ActivsparseError

__all__ = ["adapt_stem", "fit_stem_weight", "stem_name"]


def stem_name(model: nn.Module) -> str | None:
    """Name of the first convolution, by the order of definition."""
    return next((n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def adapt_stem(model: nn.Module, in_channels: int, small_images: bool) -> None:
    """Make the stem take `in_channels`, and keep the resolution of small images.

    For small images (as in the networks of the CIFAR literature) a stem with a stride gets stride 1
    and a kernel of at most 3x3, and a max pooling between it and the second convolution is left
    out. A stem without stride stays as it is.

    Raises:
        ActivsparseError: the network has no convolution.
    """
    name = stem_name(model)
    if name is None:
        raise ActivsparseError(f"{type(model).__name__} has no convolution to adapt as its stem")
    stem = model.get_submodule(name)
    assert isinstance(stem, nn.Conv2d)
    strided = small_images and stem.stride != (1, 1)
    if in_channels == stem.in_channels and not strided:
        return
    kernel, stride, padding = stem.kernel_size, stem.stride, stem.padding
    if strided:
        kernel, stride = (min(kernel[0], 3), min(kernel[1], 3)), (1, 1)
        padding = (kernel[0] // 2, kernel[1] // 2)
    fitted = nn.Conv2d(
        in_channels,
        stem.out_channels,
        (kernel[0], kernel[1]),
        (stride[0], stride[1]),
        padding if isinstance(padding, str) else (padding[0], padding[1]),
        bias=stem.bias is not None,
    )
    with torch.no_grad():
        fitted.weight.copy_(fit_stem_weight(stem.weight, fitted.weight))
        if stem.bias is not None and fitted.bias is not None:
            fitted.bias.copy_(stem.bias)
    model.set_submodule(name, fitted)
    if strided:
        _leave_out_pooling(model, name)


def fit_stem_weight(weight: Tensor, like: Tensor) -> Tensor:
    """A stem's weight (O, C, KH, KW) in the shape of another: the middle of the kernel.

    Other channel counts get the mean over channels, scaled so that equal channels give what they
    gave before.
    """
    top, left = ((a - b) // 2 for a, b in zip(weight.shape[2:], like.shape[2:], strict=True))
    fitted = weight[:, :, top : top + like.shape[2], left : left + like.shape[3]]
    if weight.shape[1] != like.shape[1]:
        fitted = fitted.sum(1, keepdim=True).repeat(1, like.shape[1], 1, 1) / like.shape[1]
    return fitted


def _leave_out_pooling(model: nn.Module, stem: str) -> None:
    seen_stem = False
    for name, module in model.named_modules():
        if name == stem:
            seen_stem = True
        elif isinstance(module, nn.Conv2d):
            return
        elif seen_stem and isinstance(module, nn.MaxPool2d):
            model.set_submodule(name, nn.Identity())
            return
