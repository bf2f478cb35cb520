"""Results written over residuals: right in every algorithm that does it, and nowhere else."""

import numpy as np
import onnxruntime
import pytest
from graphs import Builder

from activsparse import Session
from activsparse.engine.compile import compile_model
from activsparse.engine.tolerance import network_bound, sums_of

IN_PLACE = ("winograd2", "winograd4", "winograd6", "pointwise")


def block(path, seed, kernel, masking="", channels=None, ends="sum", size=None):
    """A residual block and a convolution; `ends`: which values are the network's results."""
    b = Builder(seed)
    n, c = int(b.rng.integers(1, 3)), channels or int(b.rng.choice([3, 16, 24, 40]))
    h, w = size or (int(s) for s in b.rng.integers(5, 30, 2))
    pads = (kernel // 2,) * 4

    def conv(x):
        y = b.conv(x, c, (kernel, kernel), pads=pads)
        return b.mask(y) if masking == "mask" else y

    residual = b.node("Relu", conv(b.input(n, c, h, w)))
    total = b.node("Relu", b.node("Add", conv(b.node("Relu", conv(residual))), residual))
    if masking == "fill":
        total = b.fill(total)
    last = b.node("Relu", conv(total))
    return b.save(path, *{"sum": [last], "both": [last, residual], "result": [total]}[ends])


def check(path, **options):
    oracle = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    values = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in oracle.get_inputs()}
    expected = oracle.run(None, values)
    session = Session(path, **options)
    for _ in range(2):
        found = session.run(values)
        for y, e in zip(found if isinstance(found, list) else [found], expected, strict=True):
            assert np.abs(y - e).max() <= network_bound(sums_of(session.explain()), e)


def compiled(path, algorithm, threads=1, isa="avx512"):
    return compile_model(path, isa=isa, algorithm=algorithm, threads=threads)


def shares(plan):
    """Whether some step writes to memory it reads."""
    offsets = [offset for _, offset in plan.tensors]
    return any(
        offsets[i] >= 0 and offsets[i] in {offsets[o] for o in outputs}
        for _, inputs, outputs in plan.steps
        for i in inputs
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("masking", ["", "mask", "fill"])
@pytest.mark.parametrize("algorithm", [*IN_PLACE, "direct"])
def test_residual_and_result_share_memory(tmp_path, algorithm, masking, seed):
    path = block(tmp_path / "m.onnx", seed, 1 if algorithm == "pointwise" else 3, masking)
    assert shares(compiled(path, algorithm)) == (algorithm in IN_PLACE)
    assert not shares(compiled(path, algorithm, threads=3))  # more than images
    check(path, algorithm=algorithm, threads=1)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon", "scalar"])
def test_for_every_instruction_set(tmp_path, isa):
    path = block(tmp_path / "m.onnx", 5, 3)
    assert shares(compiled(path, "winograd4", isa=isa))


def test_a_residual_that_is_read_again_keeps_its_memory(tmp_path):
    path = block(tmp_path / "m.onnx", 1, 3, ends="both")
    assert not shares(compiled(path, "winograd4"))
    check(path, algorithm="winograd4", threads=1)


def test_a_result_of_the_network(tmp_path):
    check(block(tmp_path / "m.onnx", 2, 3, ends="result"), algorithm="winograd2", threads=1)
    check(block(tmp_path / "m.onnx", 2, 3, "mask", size=(1, 1)), threads=1)


def test_an_input_that_only_a_residual_reads(tmp_path):
    b = Builder(4)
    x, residual = b.input(1, 9, 8, 8), b.input(1, 3, 8, 8, name="residual")
    path = b.save(tmp_path / "m.onnx", b.node("Add", b.conv(x, 3), residual))
    check(path, threads=1)


def test_it_saves_a_third_of_the_arena(tmp_path):
    path = block(tmp_path / "m.onnx", 3, 3, channels=32)
    one, three = (compiled(path, "winograd4", threads) for threads in (1, 3))
    assert one.arena_bytes * 3 == three.arena_bytes * 2
