"""The dense network: taken as it is, or fine-tuned to the classes of the data."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from activsparse.export.onnx import export_onnx
from activsparse.models import build_model, load_weights
from activsparse.pipeline.work import Work
from activsparse.train.phase import make_network
from activsparse.train.recipes.config import Config
from activsparse.train.run.folder import write_network
from activsparse.train.trainer import dense_phase, resume, train

__all__ = ["make_dense", "train_or_resume"]

_log = logging.getLogger(__name__)


def make_dense(work: Work) -> None:
    """Fill the run folder `dense` and write `dense.onnx`.

    Raises:
        ActivsparseError: see `activsparse.train.trainer.train` and `export_onnx`.
    """
    folder = work.path("dense")
    config = dense_phase(work.config)
    if _is_ready(work):
        _log.info("the dense network is taken as it is")
        if not (folder / "config.yaml").is_file():
            network = make_network(config, work.data).eval()
            write_network(folder, network, config, work.data.shape, work.data.num_classes)
    else:
        train_or_resume(work, config, folder)
    run = work.run("dense")
    export_onnx(run.model, run.example_input, work.path("dense.onnx"))


def train_or_resume(work: Work, config: Config, folder: Path) -> dict[str, Any]:
    """Train in a folder, or go on with what was begun there."""
    if (folder / "config.yaml").is_file():
        return resume(folder, config, console=work.console)
    return train(config, folder, console=work.console, check_export=True)


def _is_ready(work: Work) -> bool:
    """Whether the network knows the data's classes: so it is said, or its head has their number."""
    options, section = work.options, work.config.model
    if options.dense_epochs is not None:
        return options.dense_epochs == 0
    if options.weights in (None, "default"):
        return False
    network = build_model(
        section.name,
        work.data.num_classes,
        in_channels=work.data.shape[0],
        small_images=section.small_images,
        **section.options,
    )
    return load_weights(network, str(options.weights))
