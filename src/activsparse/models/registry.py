"""One function for all sources of networks."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from activsparse.errors import ActivsparseError, Setting
from activsparse.models.features import PREFIX, FeatureClassifier
from activsparse.models.small_resnet import SmallResNet
from activsparse.models.stem import adapt_stem
from activsparse.models.weights import fill_in, load_weights
from activsparse.models.yolov5 import yolov5n, yolov5s
from activsparse.names import suggest

__all__ = ["build_model"]

_OWN: dict[str, Callable[..., nn.Module]] = {
    "small_resnet": SmallResNet,
    "yolov5n": yolov5n,
    "yolov5s": yolov5s,
}


def build_model(
    name: str,
    num_classes: int,
    weights: str | None = None,
    *,
    in_channels: int = 3,
    small_images: bool = False,
    **options: Any,
) -> nn.Module:
    """Build a classifier or a detector.

    Args:
        name: `small_resnet`, `yolov5n`, `yolov5s`, a torchvision model, `timm:` and a timm model,
            or an import path `package.module:factory` of a callable that takes `num_classes`, where
            its network has any.
        num_classes: size of the new head.
        weights: a file (see `load_weights`), or `default` for the published weights, which are
            downloaded. The head is replaced where its number of classes differs.
        in_channels: channels of the images.
        small_images: fit the stem to images of about 32 pixels: see `stem.adapt_stem`.
        options: passed to the model's constructor. `features_only` of a timm model gives a
            classifier on its features, with `out_indices=[i]` on those of stage i.

    Raises:
        ActivsparseError: an unknown name or option, or weights that cannot be had.
    """
    if name.startswith("timm:"):
        model = _timm(name, num_classes, in_channels, options)
    elif ":" in name:
        model = _imported(name, num_classes, in_channels, options)
    elif name in _OWN:
        model = _call(_OWN[name], name, num_classes=num_classes, in_channels=in_channels, **options)
    else:
        model = _torchvision(name, num_classes, options)
        adapt_stem(model, in_channels, small_images)
    if small_images:
        adapt_stem(model, in_channels, small_images)
    if weights == "default":
        fill_in(model, _published(name, options), f"published weights of {name}")
    elif weights is not None:
        load_weights(model, weights)
    return model


def _call(factory: Callable[..., Any], model_name: str, /, **options: Any) -> nn.Module:
    try:
        model = factory(**options)
    except ActivsparseError:
        raise
    except Exception as error:  # a factory may be anybody's code
        raise ActivsparseError(
            f"model {model_name}: cannot be built ({_cause(error)}); check ",
            Setting("model.options"),
            *([" and the factory"] if ":" in model_name else []),
        ) from error
    if isinstance(model, nn.Module):
        lazy = [
            type(part).__name__ for part in model.modules() if isinstance(part, LazyModuleMixin)
        ]
        if lazy:
            raise ActivsparseError(
                f"model {model_name}: has a {lazy[0]}, whose size is not known before it runs; "
                "use the layer with its size given"
            )
    else:
        raise ActivsparseError(
            f"model {model_name}: gives a {type(model).__name__}, not a torch.nn.Module; "
            "name a class or function that returns one"
        )
    return model


def _cause(error: Exception) -> str:
    """What an error says; of those of which that alone is no sentence, their kind, too."""
    told = isinstance(error, (TypeError, ValueError, AssertionError)) and str(error)
    return str(error) if told else f"{type(error).__name__}: {error}"


def _torchvision(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ActivsparseError(
            f"model {name!r} is unknown; {suggest(name, [*_OWN, *known])} "
            "(or timm:NAME, or package.module:factory)"
        )
    return _call(models.get_model, name, name=name, num_classes=num_classes, **options)


def _timm(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    import timm

    short = name.removeprefix("timm:")
    if not timm.is_model(short):
        nearest = suggest(short, timm.list_models(), limit=3, prefix="timm:")
        raise ActivsparseError(f"model {name!r} is unknown; {nearest} (timm.list_models() has all)")
    features = bool(options.get("features_only", False))
    head = {} if features else {"num_classes": num_classes}
    model = _call(
        timm.create_model, name, model_name=short, in_chans=in_channels, **head, **options
    )
    return FeatureClassifier(model, num_classes) if features else model


def _imported(name: str, num_classes: int, in_channels: int, options: dict[str, Any]) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # as `python -m` does, which not every start is
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ActivsparseError(
            f"model {name}: cannot be imported ({error}); write package.module:factory"
        ) from error
    except Exception as error:  # a module may be anybody's code
        raise ActivsparseError(
            f"model {name}: cannot be imported ({_cause(error)}); mend {module_name}"
        ) from error
    if not callable(factory) or isinstance(factory, nn.Module):
        kind = "network" if isinstance(factory, nn.Module) else type(factory).__name__
        raise ActivsparseError(
            f"model {name}: is a {kind}, not a function or class that gives one; "
            "write package.module:factory"
        )
    try:
        taken = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of compiled code, which does not tell
        return _call(factory, name, num_classes=num_classes, **options)
    given = {"in_channels": in_channels, **options} if "in_channels" in taken else options
    # A network that gives pictures has no classes.
    if "num_classes" in taken or any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        given = {"num_classes": num_classes, **given}
    return _call(factory, name, **given)


def _published(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """State dict of the published weights, downloaded."""
    try:
        if name.startswith("timm:"):
            import timm

            model = timm.create_model(name.removeprefix("timm:"), pretrained=True, **options)
            prefix = PREFIX if options.get("features_only", False) else ""
            return {prefix + key: value for key, value in model.state_dict().items()}
        from torchvision import models

        if name in models.list_models(module=models):
            return dict(models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=False))
    except (OSError, RuntimeError, KeyError) as error:
        raise ActivsparseError(
            f"published weights of {name} cannot be downloaded ({error}); pass a file of weights "
            "as ",
            Setting("model.weights"),
            ", or none to start from random ones",
        ) from error
    raise ActivsparseError(f"model {name} has no published weights; pass a file or none")
