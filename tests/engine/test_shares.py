"""How evenly operators cut their work for many threads, by what their tasks cost."""

from __future__ import annotations

import math

import pytest
import quantised

from activsparse import Session
from activsparse.engine.plan import compile_plan

THREADS = (4, 8, 16)

# Waiting for each other takes threads as long as so many multiply-adds, some two microseconds: what
# is lost by less is not worth cutting finer.
NOT_WORTH_IT = 1e5


def uneven(path, isa: str, threads: int) -> list[str]:
    """Operators whose longest share is more than 1.2 times the mean."""
    plan = compile_plan(path, isa, threads=threads)
    found = []
    for (operator, _, _), row in zip(plan.steps, plan.reports, strict=True):
        over = operator.longest_share(threads) - 1
        mean = (operator.macs or 8 * math.prod(row.shape)) / threads
        if over > 0.2 and over * mean > NOT_WORTH_IT:
            found.append(f"{row.name} ({row.algorithm}, {row.shape}): {1 + over:.2f}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 224),
        ("resnet50", 224),
        ("mobilenet_v2", 224),
        ("efficientnet_b0", 224),
        ("yolov5n", 640),
    ],
)
def test_every_thread_gets_its_share(tmp_path, name, size):
    for path in exported_at(tmp_path, name, size):
        every_share_is_even(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b0"])
def test_every_thread_gets_its_share_of_bytes(tmp_path, name):
    for path in exported_at(tmp_path, name, 224):
        int8 = path.with_suffix(".int8.onnx")
        quantised.by_onnxruntime(quantised.typed(path), int8, quantised.Style(), count=1)
        every_share_is_even(int8)


def exported_at(folder, name: str, size: int):
    """A network and what pattern `auto` makes of it, at that image size."""
    import torch

    from activsparse.export.mask import mask_model
    from activsparse.export.model_file import read_model, write_model
    from activsparse.export.onnx import export_onnx
    from activsparse.models import build_model

    dense, masked = folder / "dense.onnx", folder / "masked.onnx"
    model = build_model(name, 80 if size == 640 else 10).eval()
    export_onnx(model, torch.zeros(1, 3, size, size), dense, verify=False)
    write_model(mask_model(read_model(dense), sparsity=0.3)[0], masked)
    return dense, masked


def every_share_is_even(path) -> None:
    for isa in ("avx512", "avx2", "neon"):
        for threads in THREADS:
            assert not uneven(path, isa, threads), (path.name, isa, threads)


def test_shares_are_reported_for_the_threads_of_the_session(exported):
    path = exported("resnet18")
    assert all(row.longest_share == 1 for row in Session(path, threads=1).explain())
    shares = [row.longest_share for row in Session(path, threads=2, tune=False).explain()]
    assert 1 <= min(shares) < max(shares) <= 2
