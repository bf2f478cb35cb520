"""`activsparse train-detector`: train a YOLOv5, dense or with masks, and export it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse train-detector`."""
    parser = subparsers.add_parser(
        "train-detector",
        help="train a YOLOv5, dense or with masks, and export it",
        description="Train a YOLOv5 and write weights, metrics, summary and detector.onnx.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--config", type=Path, metavar="YAML", help="values of DetectionConfig; the rest is default"
    )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override single values, for example training.epochs=10 sparsity.sparsity=0.2",
    )


def run(args: argparse.Namespace) -> int:
    """Train, export, and print the summary."""
    import logging

    import torch
    import yaml
    from pydantic import ValidationError
    from rich.console import Console

    from activsparse.detect.train import DetectionConfig, load_detector, train_detector
    from activsparse.errors import ActivsparseError
    from activsparse.export.onnx import export_onnx
    from activsparse.files import require_file

    try:
        text = require_file(args.config).read_text() if args.config else ""
        values: dict[str, Any] = yaml.safe_load(text) or {}
        for setting in args.set:
            _put(values, setting)
        config = DetectionConfig.model_validate(values)
    except (yaml.YAMLError, ValidationError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(f"{args.config or 'the settings'}: {cause}") from error
    logging.getLogger("activsparse.detect").setLevel(logging.INFO)
    summary = train_detector(config, args.out)
    size = config.image_size
    model = load_detector(args.out, masks=True)
    export_onnx(model, torch.zeros(1, 3, size, size), args.out / "detector.onnx")
    console = Console(highlight=False)
    console.print(
        f"mAP50 {summary['map50']:.3f}, mAP {summary['map']:.3f}, "
        f"{summary['achieved']:.2f} skipped, {summary['seconds']:.0f} s; "
        f"{args.out / 'detector.onnx'}",
        soft_wrap=True,
    )
    return 0


def _put(values: dict[str, Any], setting: str) -> None:
    import yaml

    from activsparse.errors import ActivsparseError

    key, equals, text = setting.partition("=")
    if not equals:
        raise ActivsparseError(f"--set {setting}: write KEY=VALUE")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = yaml.safe_load(text)
