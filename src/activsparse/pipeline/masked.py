"""The masked network: the dense one, trained on with the masks of the plan and taught by itself."""

from __future__ import annotations

from activsparse.export.onnx import export_onnx
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.pipeline.dense import train_or_resume
from activsparse.pipeline.work import Work
from activsparse.train.recipes.read import with_plan

__all__ = ["make_masked"]


def make_masked(work: Work) -> None:
    """Fill the run folder `masked` and write `masked.onnx`.

    Raises:
        ActivsparseError: see `activsparse.train.trainer.train` and `export_onnx`.
    """
    start = {"dense": None, "init_from": str(work.path("dense"))}
    config = with_plan(work.config.model_copy(update=start), read_mask_plan(work.path("plan.yaml")))
    train_or_resume(work, config, work.path("masked"))
    run = work.run("masked")
    layers = [] if run.sparsifier is None else run.sparsifier.layers
    requested = {layer.name: layer.requested for layer in layers}
    export_onnx(run.model, run.example_input, work.path("masked.onnx"), requested=requested)
