"""Inverted residuals in strips, on every instruction set, against their stages one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    EPSILON,
    MASKS,
    THREADS,
    ConvCase,
    FloatArray,
    Tensor,
    make_mask,
    nearest_source,
    random_layout,
    read_by,
)

from activsparse import ActivsparseError, _native

ISAS = _native.available_isas()


@dataclass
class Case:
    """Convolutions by prefix, in order; each reads what the one before it wrote."""

    stages: dict[str, ConvCase]
    weights: str = "float32"

    def describe(self) -> str:
        return "; ".join(f"{name}: {stage.describe()}" for name, stage in self.stages.items())

    def spec(self) -> tuple[Any, list[Tensor | FloatArray], Tensor]:
        attributes: dict[str, Any] = {"weights": self.weights}
        arrays: dict[str, Any] = {}
        first, last = (list(self.stages.values())[i] for i in (0, -1))
        inputs, descs = read_by(first, last)
        output = Tensor.empty(last.output_shape, last.layouts[2])
        for name, stage in self.stages.items():
            sides = ("top", "left", "bottom", "right")
            own = {
                "stride_h": stage.stride[0],
                "stride_w": stage.stride[1],
                "dilation_h": stage.dilation[0],
                "dilation_w": stage.dilation[1],
                "group": stage.group,
                **{f"pad_{side}": pad for side, pad in zip(sides, stage.pads, strict=True)},
                **stage.activation,
            }
            attributes |= {f"{name}.{key}": value for key, value in own.items()}
            given = {"weight": stage.weight, "bias": stage.bias, "mask": stage.mask}
            given |= {"skipped_value": stage.skipped_value, "source": stage.source}
            for key, value in given.items():
                if value is not None:
                    array = value.astype(np.uint8) if value.dtype == bool else value
                    arrays[f"{name}.{key}"] = np.ascontiguousarray(array)
        spec = _native.Spec("inverted_residual", attributes, arrays, descs, [output.desc])
        spec.threads = last.threads
        return spec, inputs, output

    def run(self, algorithm: str, isa: str) -> FloatArray:
        spec, inputs, output = self.spec()
        packed = _native.pack(spec, algorithm, isa)
        arguments = [x.argument() if isinstance(x, Tensor) else x for x in inputs]
        _native.run_operator(packed, arguments, [output.argument()])
        output.assert_nothing_else_written()
        return output.values()

    def one_by_one(self) -> FloatArray:
        """The stages as convolutions of their own, by the reference."""
        y = next(iter(self.stages.values())).x
        for stage in self.stages.values():
            stage.x = y
            y = stage.run("reference", "scalar")
        return y


def random_case(
    rng: np.random.Generator, kind: str | None = None, stem: bool = False, filled: float = 0.3
) -> Case:
    """A random inverted residual; all masks of one kind if `kind` is given.

    Args:
        rng: source of all choices.
        kind: of the masks.
        stem: whether the expansion is a network's first convolution, of any kernel, reading NCHW.
        filled: probability that skipped positions of a stage take the values of kept ones.
    """
    c, wide, o = (int(rng.integers(1, limit)) for limit in (40, 100, 60))
    kernel, stride = int(rng.choice([3, 3, 5])), int(rng.integers(1, 3))
    pads = [int(rng.integers(0, kernel // 2 + 1)) for _ in range(4)]
    h, w = (kernel + int(rng.integers(0, 24)) for _ in range(2))
    n = int(rng.choice([1, 1, 2]))
    names = [("expand", "depthwise", "project"), ("expand", "depthwise"), ("depthwise", "project")]
    chosen = names[int(rng.choice(3, p=[0.6, 0.4, 0.0] if stem else [0.6, 0.2, 0.2]))]
    if "expand" not in chosen:
        c = wide
    if "project" not in chosen:
        o = wide
    weights = {
        "expand": (wide, c, 1, 1),
        "depthwise": (wide, 1, kernel, kernel),
        "project": (o, wide, 1, 1),
    }
    if stem:
        # The depthwise convolution must find as many rows and columns as its kernel has.
        reach = [int(rng.choice([1, 3, 5, 7])) for _ in range(2)]
        first_stride, dilation = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2]))
        c = int(rng.integers(1, 5))
        h, w = (first_stride * s + dilation * (r - 1) for s, r in zip((h, w), reach, strict=True))
        weights["expand"] = (wide, c, *reach)
    y = rng.standard_normal((n, c, h, w)).astype(np.float32)
    stages = {}
    for name in chosen:
        weight = rng.standard_normal(weights[name]) / np.sqrt(np.prod(weights[name][1:]))
        stage = ConvCase(
            y,
            weight.astype(np.float32),
            activation=ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))],
        )
        if name == "expand" and stem:
            stage.nchw, stage.stride = True, (first_stride, first_stride)
            stage.dilation = (dilation, dilation)
            stage.pads = tuple(int(rng.integers(0, 4)) for _ in range(4))  # type: ignore[assignment]
        if name == "depthwise":
            stage.stride, stage.group = (stride, stride), wide
            stage.pads = tuple(pads)  # type: ignore[assignment]
        shape = stage.output_shape
        if rng.random() < 0.8:
            stage.bias = rng.standard_normal(shape[1]).astype(np.float32)
        stage.mask = make_mask(kind or str(rng.choice(MASKS)), shape[2:], rng)
        if stage.mask is not None and rng.random() < filled:
            stage.source = nearest_source(stage.mask)
        elif stage.mask is not None and rng.random() < 0.4:
            stage.skipped_value = rng.standard_normal(shape[1]).astype(np.float32)
        stages[name] = stage
        y = np.zeros(shape, np.float32)
    first, last = stages[chosen[0]], stages[chosen[-1]]
    input_layout, output_layout = random_layout(rng), random_layout(rng)
    first.layouts = (input_layout, *first.layouts[1:])
    last.layouts = (last.layouts[0], random_layout(rng), output_layout)
    if chosen[-1] == "project" and last.source is None and rng.random() < 0.5:
        last.residual = rng.standard_normal(last.output_shape).astype(np.float32)
    last.threads = int(rng.choice(THREADS))
    return Case(stages)


def check(case: Case, isa: str, seed: int, expected: FloatArray) -> None:
    actual = case.run("strips", isa)
    # Stages of unit gain: rounding of sums of K products, relative to the largest value.
    k = sum(stage.weight[0].size for stage in case.stages.values())
    tolerance = 30 * np.sqrt(k) * EPSILON * (1 + np.abs(expected).max())
    excess = float(np.abs(actual - expected).max() / tolerance)
    assert excess <= 1, f"{isa}: {excess} times the tolerance, seed {seed}: {case.describe()}"


@pytest.mark.parametrize("seed", range(60))
def test_strips_equal_the_stages_one_by_one(seed: int) -> None:
    case = random_case(np.random.default_rng(seed))
    expected = case.one_by_one()
    np.testing.assert_array_equal(case.run("reference", ISAS[0]), expected, err_msg=str(seed))
    for isa in ISAS:
        check(case, isa, seed, expected)


@pytest.mark.parametrize("seed", range(40))
def test_a_first_convolution_expands(seed: int) -> None:
    case = random_case(np.random.default_rng(seed), stem=True)
    expected = case.one_by_one()
    np.testing.assert_array_equal(case.run("reference", ISAS[0]), expected, err_msg=str(seed))
    for isa in ISAS:
        check(case, isa, seed, expected)


@pytest.mark.parametrize("filled", [0.0, 1.0])
@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str, filled: float) -> None:
    for seed in range(4):
        case = random_case(np.random.default_rng(seed), kind, filled=filled)
        expected = case.one_by_one()
        for isa in ISAS:
            check(case, isa, seed, expected)


def lattice_case(sparsity_of_three: int) -> Case:
    case = random_case(np.random.default_rng(0), "none")
    for stage in case.stages.values():
        y, x = np.indices(stage.output_shape[2:])
        stage.mask = (x + 2 * y) % 3 >= sparsity_of_three
    return case


def test_multiply_adds_fall_with_the_mask() -> None:
    macs = [_native.pack(lattice_case(p).spec()[0], "strips", "scalar").macs for p in (0, 1, 2)]
    assert macs[1] < 0.75 * macs[0]
    assert macs[2] < 0.45 * macs[0]


def test_stages_that_do_not_fit_are_refused() -> None:
    _, inputs, output = lattice_case(1).spec()
    bare = _native.Spec("inverted_residual", {}, {}, [inputs[0].desc], [output.desc])
    with pytest.raises(ActivsparseError, match="inverted_residual"):
        _native.pack(bare, "strips", "scalar")


@pytest.mark.parametrize("algorithm", ["strips", "reference"])
@pytest.mark.parametrize("prefix", ["expand", "depthwise", "project"])
def test_sources_that_are_not_kept_are_refused(prefix: str, algorithm: str) -> None:
    cases = (random_case(np.random.default_rng(seed), "lattice") for seed in range(20))
    case = next(case for case in cases if len(case.stages) == 3)
    for stage in case.stages.values():
        assert stage.mask is not None
        stage.skipped_value = stage.residual = None
        stage.source = nearest_source(stage.mask)
    _native.pack(case.spec()[0], algorithm, "scalar")
    source, mask = case.stages[prefix].source, case.stages[prefix].mask
    assert source is not None
    assert mask is not None
    hole, kept = int(np.flatnonzero(~mask.ravel())[0]), int(np.flatnonzero(mask.ravel())[0])
    for position, value in ((hole, source.size), (hole, -2), (hole, hole), (kept, -1)):
        before, source[position] = source[position], value
        with pytest.raises(ActivsparseError, match="fill source"):
            _native.pack(case.spec()[0], algorithm, "scalar")
        source[position] = before


@pytest.mark.parametrize("seed", range(8))
def test_what_nobody_reads_is_not_filled(seed: int) -> None:
    case = random_case(np.random.default_rng(seed), "lattice", filled=1.0)
    last = list(case.stages.values())[-1]
    assert last.mask is not None
    assert last.source is not None
    expected = case.one_by_one()
    dropped = ~last.mask.ravel() & (np.random.default_rng(seed).random(last.mask.size) < 0.5)
    last.source = np.where(dropped, np.int32(-1), last.source)
    for isa in ISAS:
        actual = case.run("strips", isa)
        actual = np.where(dropped.reshape(last.mask.shape), expected, actual)
        tolerance = 1e-3 * (1 + np.abs(expected).max())
        assert np.abs(actual - expected).max() < tolerance, f"{isa}, seed {seed}: {case.describe()}"
