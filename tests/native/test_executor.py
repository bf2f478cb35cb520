"""The executor: order, memory, threads, errors; the oracle is torch or plain numpy."""

from __future__ import annotations

import os
import resource
import threading

import numpy as np
import pytest
import torch

from activsparse import ActivsparseError, _native

THREADS = (1, 2, 5)


def desc(n: int, h: int, w: int, c: int, stride: int | None = None) -> _native.TensorDesc:
    return _native.TensorDesc(n, h, w, c, c if stride is None else stride, padded=False)


def conv(
    rng: np.random.Generator, source: _native.TensorDesc, target: _native.TensorDesc
) -> tuple[_native.PackedOperator, np.ndarray, np.ndarray]:
    """A 3x3 convolution with relu: the packed operator, its weight and its bias."""
    weight = rng.standard_normal((target.c, source.c, 3, 3)).astype(np.float32) / 3
    bias = rng.standard_normal(target.c).astype(np.float32)
    pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
    spec = _native.Spec(
        "conv",
        {"activation": "relu", **pads},
        {"weight": weight, "bias": bias},
        [source],
        [target],
    )
    return _native.pack(spec, "reference", "scalar"), weight, bias


class Chain:
    """`depth` convolutions in a row over two arena buffers, and torch's answer."""

    def __init__(self, seed: int, threads: int, depth: int = 4, size: int = 9) -> None:
        rng = np.random.default_rng(seed)
        channels = [5, *(int(c) for c in rng.integers(1, 20, depth - 1)), 7]
        descs = [desc(2, size, size, c) for c in channels]
        room = max(d.extent for d in descs)
        offsets = [-1, *(4 * room * (i % 2) for i in range(depth - 1)), -1]
        self.layers = [conv(rng, descs[i], descs[i + 1]) for i in range(depth)]
        self.executor = _native.Executor(
            list(zip(descs, offsets, strict=True)),
            [(layer[0], [i], [i + 1]) for i, layer in enumerate(self.layers)],
            [0],
            [depth],
            8 * room,
            threads,
        )
        self.x = rng.standard_normal((2, size, size, 5)).astype(np.float32)
        y = torch.from_numpy(self.x).permute(0, 3, 1, 2).double()
        for _, weight, bias in self.layers:
            y = torch.relu(
                torch.nn.functional.conv2d(
                    y, torch.from_numpy(weight).double(), torch.from_numpy(bias).double(), padding=1
                )
            )
        self.expected = y.permute(0, 2, 3, 1).float().contiguous().numpy()

    def run(self) -> np.ndarray:
        y = np.full_like(self.expected, np.nan)
        self.executor.run([self.x], [y])
        return y

    def check(self) -> None:
        np.testing.assert_allclose(self.run(), self.expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("seed", range(3))
def test_chain_equals_torch(seed: int, threads: int) -> None:
    chain = Chain(seed, threads)
    for _ in range(20):
        chain.check()


@pytest.mark.parametrize("threads", THREADS)
def test_profile_computes_and_times_every_step(threads: int) -> None:
    chain = Chain(1, threads)
    y = np.zeros_like(chain.expected)
    times = chain.executor.profile([chain.x], [y], 7)
    assert len(times) == 4
    assert all(t > 0 for t in times)
    np.testing.assert_allclose(y, chain.expected, rtol=1e-5, atol=1e-5)


def in_threads(*bodies: object) -> None:
    """Run the callables at once; fail when one of them failed."""
    errors: list[BaseException] = []

    def guarded(body: object) -> None:
        try:
            body()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.parametrize("threads", THREADS)
def test_two_executors_in_two_python_threads(threads: int) -> None:
    first, second = Chain(3, threads), Chain(4, threads)
    in_threads(
        *(lambda chain=chain: [chain.check() for _ in range(100)] for chain in (first, second))
    )


def test_one_executor_in_two_python_threads() -> None:
    chain = Chain(5, 2)
    in_threads(*[lambda: [chain.check() for _ in range(100)]] * 2)


def test_runs_do_not_accumulate_memory() -> None:
    chain = Chain(6, 2, depth=3, size=4)
    y = np.empty_like(chain.expected)
    for _ in range(100):
        chain.executor.run([chain.x], [y])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        chain.executor.run([chain.x], [y])
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 512


def test_an_idle_executor_uses_no_cpu() -> None:
    chain = Chain(7, 2)
    chain.check()
    threading.Event().wait(0.05)  # workers spin for a moment, then sleep
    before = sum(os.times()[:2])
    threading.Event().wait(0.5)
    assert sum(os.times()[:2]) - before < 0.25


def test_operators_without_tasks() -> None:
    empty = desc(0, 9, 9, 5)
    packed, *_ = conv(np.random.default_rng(0), empty, desc(0, 9, 9, 3))
    for threads in THREADS:
        executor = _native.Executor(
            [(empty, -1), (desc(0, 9, 9, 3), -1)], [(packed, [0], [1])], [0], [1], 0, threads
        )
        x, y = np.zeros((0, 9, 9, 5), np.float32), np.zeros((0, 9, 9, 3), np.float32)
        executor.run([x], [y])
        assert executor.profile([x], [y], 3) == [0.0]


def test_wrong_arrays_are_clear_errors() -> None:
    chain = Chain(8, 1)
    x, y = chain.x, np.empty_like(chain.expected)
    with pytest.raises(ActivsparseError, match=r"input 0 has shape \(1, 9, 9, 5\).*\(2, 9, 9, 5\)"):
        chain.executor.run([x[:1]], [y])
    with pytest.raises(ActivsparseError, match=r"output 0 has shape"):
        chain.executor.run([x], [y[:, :, :, :3].copy()])
    with pytest.raises(ActivsparseError, match="1 inputs and 1 outputs, got 2 and 1"):
        chain.executor.run([x, x], [y])
    with pytest.raises(ActivsparseError, match="float32"):
        chain.executor.run([x.astype(np.float64)], [y])
    with pytest.raises(ActivsparseError, match="C-contiguous"):
        chain.executor.run([x.transpose(0, 2, 1, 3)], [y])
    with pytest.raises(ActivsparseError, match="C-contiguous"):
        chain.executor.run([x], [np.empty((2, 9, 9, 14), np.float32)[..., ::2]])
    with pytest.raises(ActivsparseError, match="repeat"):
        chain.executor.profile([x], [y], 0)


def test_nchw_shape_is_checked() -> None:
    chw = _native.TensorDesc(1, 4, 6, 3, 3, nchw=True)
    executor = _native.Executor([(chw, -1)], [], [0], [], 0, 1)
    executor.run([np.zeros((1, 3, 4, 6), np.float32)], [])
    with pytest.raises(ActivsparseError, match=r"\(1, 3, 6, 4\).*\(1, 3, 4, 6\)"):
        executor.run([np.zeros((1, 3, 6, 4), np.float32)], [])


def test_damaged_plans_are_refused() -> None:
    a, b = desc(1, 9, 9, 5), desc(1, 9, 9, 3)
    packed, *_ = conv(np.random.default_rng(0), a, b)
    good = [(packed, [0], [1])]

    def refused(match: str, tensors=None, steps=good, outputs=(1,), arena=0, threads=1) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(ActivsparseError, match=match):
            _native.Executor(
                tensors or [(a, -1), (b, -1)], steps, [0], list(outputs), arena, threads
            )

    refused("arena", tensors=[(a, -1), (b, 32)], outputs=(), arena=4 * b.extent + 31)
    refused("no arena offset", outputs=())
    refused("names tensor 7", steps=[(packed, [7], [1])])
    refused("names tensor 7", outputs=(7,))
    refused("packed for 1 tensors, got 2", steps=[(packed, [0, 0], [1])])
    refused("packed for a tensor", tensors=[(b, -1), (b, -1)])
    refused("threads", threads=0)


def test_packed_operator_survives_storage() -> None:
    rng = np.random.default_rng(2)
    a, b = desc(1, 6, 6, 5), desc(1, 6, 6, 3)
    packed, *_ = conv(rng, a, b)
    x = rng.standard_normal((1, 6, 6, 5)).astype(np.float32)
    expected = np.empty((1, 6, 6, 3), np.float32)
    _native.run_operator(packed, [x], [expected])
    stored = np.concatenate([np.zeros(64 + 4, np.uint8), packed.data])
    aligned = (-stored.ctypes.data) % 64
    for start in (aligned, aligned + 4):
        data = np.zeros_like(stored)
        data[start : start + packed.nbytes] = packed.data
        again = _native.unpack(
            "conv", "reference", "scalar", data[start : start + packed.nbytes], [a], [b]
        )
        del data
        y = np.zeros_like(expected)
        _native.run_operator(again, [x], [y])
        np.testing.assert_array_equal(y, expected)
    with pytest.raises(ActivsparseError, match="damaged"):
        _native.unpack("conv", "reference", "scalar", packed.data[:128].copy(), [a], [b])


@pytest.mark.parametrize("evict_bytes", [0, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2])
def test_time_operator(threads: int, evict_bytes: int) -> None:
    packed, *_ = conv(np.random.default_rng(0), desc(1, 9, 9, 5), desc(1, 9, 9, 3))
    times = _native.time_operator(packed, 5, threads, evict_bytes)
    assert len(times) == 5
    assert all(t > 0 for t in times)


def test_cpu_info() -> None:
    info = _native.cpu_info()
    assert info["name"]
    assert info["cores"] >= info["usable_cores"] >= info["physical_cores"] >= 1
    assert info["isas"] == _native.available_isas()
    assert all(info[cache] >= 0 for cache in ("l1d", "l2", "l3"))


def test_a_forked_child_gets_an_error_instead_of_a_hang() -> None:
    chain = Chain(9, 2)
    chain.check()
    child = os.fork()
    if child == 0:
        try:
            chain.run()
        except ActivsparseError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    chain.check()
