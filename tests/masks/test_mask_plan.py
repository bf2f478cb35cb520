"""Mask plans: the same bits after a file, and one line for whatever is wrong with one."""

from __future__ import annotations

import random
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from activsparse import ActivsparseError
from activsparse.masks import ConvShape, lattice, make_mask, random_score
from activsparse.masks.exact import DenseMask, LatticeMask, RandomMask, TilesMask
from activsparse.masks.mask_plan import MaskPlan, PlannedLayer
from activsparse.masks.mask_plan_file import plan_of, plan_values, read_mask_plan, write_mask_plan
from activsparse.masks.tiles import RUNS, Kept, kept_mask

pytest.importorskip("yaml")  # which files of plans are written in


def conv(height: int, width: int) -> ConvShape:
    return ConvShape((3, 3), (1, 1), 1, 16, 32, (height, width))


def random_plan(seed: int) -> MaskPlan:
    rng = np.random.default_rng(seed)
    layers = {}
    for number in range(int(rng.integers(1, 9))):
        height, width = (int(n) for n in rng.integers(5, 40, 2))
        q = int(rng.integers(2, 17))
        exact = [
            DenseMask(),
            TilesMask(
                int(rng.integers(1, height + 1)),
                int(rng.integers(1, width + 1)),
                int(rng.choice(RUNS)),
                int(rng.integers(0, 9)),
            ),
            LatticeMask(Fraction(int(rng.integers(1, q)), q), int(rng.integers(0, 40))),
            RandomMask(float(rng.uniform(0, 0.7)), int(rng.integers(1, 4)), int(rng.integers(99))),
        ][int(rng.integers(4))]
        fill = str(rng.choice(["zero", "nearest"]))
        layers[f"layer{number}.conv"] = PlannedLayer(conv(height, width), exact, fill, 0.5, None)
    layers["last"] = PlannedLayer(conv(9, 9), TilesMask(8, 8, 4))
    return MaskPlan((64, 48), layers, "norm", {"target_speedup": 1.5, "machine": "a: b"})


@pytest.mark.parametrize("seed", range(30))
def test_a_file_gives_the_plan_back(seed: int, tmp_path) -> None:
    plan = random_plan(seed)
    write_mask_plan(plan, tmp_path / "plan.yaml")
    again = read_mask_plan(tmp_path / "plan.yaml")
    assert again == plan, seed
    masks, others = plan.masks(), again.masks()
    assert masks.keys() == others.keys() == plan.masked().keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, others[name], err_msg=f"{seed} {name}")


def test_masks_are_those_of_the_patterns() -> None:
    shape, size = (14, 13), (64, 48)
    score = random_score(size, np.random.default_rng([7, 0]))
    for exact, mask in (
        (TilesMask(12, 10, 4, 3), kept_mask(shape, Kept(12, 10, 4), 3)),
        (LatticeMask(Fraction(3, 10), 2), lattice(shape, 0.3, 2)),
        (RandomMask(0.4, 2, 7), make_mask("random", shape, 0.4, score=score, block=2)),
        (DenseMask(), np.ones(shape, bool)),
    ):
        np.testing.assert_array_equal(exact.mask(shape, size), mask)


def test_a_plan_of_another_network_is_refused() -> None:
    plan = random_plan(1)
    convs = {name: layer.conv for name, layer in plan.layers.items()}
    plan.check({**convs, "more": conv(3, 3)}, (64, 48))
    with pytest.raises(ActivsparseError, match="input of 64x48, the network's is 32x32"):
        plan.check(convs, (32, 32))
    with pytest.raises(ActivsparseError, match="layer last is 3x3/1x1 16 -> 32 on 9x9 there"):
        plan.check({**convs, "last": replace(convs["last"], in_channels=8)})
    with pytest.raises(ActivsparseError, match="layer last is none of the network"):
        plan.check({name: c for name, c in convs.items() if name != "last"})
    dense = replace(plan, layers={"last": PlannedLayer(conv(9, 9), DenseMask())})
    with pytest.raises(ActivsparseError, match="every layer is dense"):
        dense.check(convs)
    wider = {name: replace(c, in_channels=8) for name, c in convs.items()}
    plan.of_network(wider).check(wider, (64, 48))


def test_what_keeps_nothing_names_the_layer() -> None:
    plan = MaskPlan((8, 8), {"a": PlannedLayer(conv(2, 2), RandomMask(0.9, 1, 0))})
    with pytest.raises(ActivsparseError, match=r"layer a: random 0\.9 .* keeps no position"):
        plan.masks()


CONV = "{kernel: [3, 3], stride: [1, 1], group: 1, in_channels: 8, out_channels: 8, "
CONV += "output: [14, 14], dilation: [1, 1]}"
LAYER = f"conv: {CONV}, fill: zero, mask: "
GOOD = "{pattern: tiles, rows: 12, columns: 12, run: 4, phase: 0}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no mask plan"),
        ("[1, 2]", "no mask plan"),
        ("{a: 1", "not YAML"),
        ("mask_plan: 9", "format 9"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        ("a: &a [1]\nb: *c", "not YAML"),
        ("mask_plan: 1\ncolour: red", "unknown key 'colour'"),
        ("mask_plan: 1\nsite: nowhere", "site: is none of norm, conv"),
        ("mask_plan: 1\nsite: norm\ninput_size: 7", "input_size: is no pair"),
        ("mask_plan: 1\nsite: norm\ninput_size: [7, -1]", "input_size: is no whole number"),
        ("mask_plan: 1\nsite: norm\ninput_size: [7, true]", "input_size: is no whole number"),
        ("mask_plan: 1\nsite: norm\ninput_size: [7, 7]\nlayers: []", "layers: are no mapping"),
        ("mask_plan: 1\nsite: norm\ninput_size: [7, 7]\nnotes: {a: [1]}", "notes"),
    ],
)
def test_hostile_files(text: str, words: str, tmp_path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ActivsparseError) as caught:
        read_mask_plan(tmp_path / "plan.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("7", "layer x: is no mapping"),
        ("{}", "layer x: conv: needs the keys"),
        ("{LAYER {pattern: zigzag}}", "mask: needs a pattern, one of dense, tiles"),
        ("{LAYER {pattern: dense, rows: 3}}", "'rows' is missing or unknown"),
        ("{LAYER {pattern: lattice, fraction: 1/0, phase: 0}}", "fraction: is none"),
        ("{LAYER {pattern: lattice, fraction: 5/17, phase: 0}}", "fraction: is none"),
        ("{LAYER {pattern: lattice, fraction: 0.3, phase: 0}}", "fraction: is none"),
        ("{LAYER {pattern: lattice, fraction: 1/3, phase: -1}}", "phase: is no whole"),
        (
            "{LAYER {pattern: tiles, rows: 15, columns: 15, run: 4, phase: 0}}",
            "rows: is no whole number from 1 to 14",
        ),
        (
            "{LAYER {pattern: tiles, rows: 12, columns: 12, run: 5, phase: 0}}",
            "run: .* one of 6, 4, 2",
        ),
        ("{LAYER {pattern: random, sparsity: .nan, block: 1, seed: 0}}", "sparsity: is no"),
        ("{LAYER {pattern: random, sparsity: 0.2, block: 99, seed: 0}}", "block: is no"),
        ("{LAYER GOOD, loss: high}", "loss: is no number"),
        ("{LAYER GOOD, weight: 1}", "unknown key 'weight'"),
        (
            "{LAYER GOOD}".replace("LAYER", LAYER.replace("zero", "one")),
            "fill: is none of zero, nearest",
        ),
        ("{LAYER GOOD}".replace("LAYER", LAYER.replace("14, 14", "14")), "output: is no pair"),
    ],
)
def test_layers_that_are_none(layer: str, words: str, tmp_path) -> None:
    layer = layer.replace("LAYER", LAYER).replace("GOOD", GOOD)
    text = f"mask_plan: 1\nsite: norm\ninput_size: [7, 7]\nlayers: {{x: {layer}}}"
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ActivsparseError, match=words):
        read_mask_plan(tmp_path / "plan.yaml")


@pytest.mark.parametrize("seed", range(3))
def test_damaged_values_are_refused_or_read(seed: int) -> None:
    """Whatever one value is replaced by, there is a plan or one line."""
    rng = random.Random(seed)
    whole = plan_values(random_plan(seed))
    for _ in range(150):
        values = deepcopy(whole)
        place = values
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or rng.random() < 0.2:
                break
            place = inner
        place[key] = rng.choice([None, -1, 0, 1e308, "x", [], {}, True, 10**30, ["a", {}], 2.5])
        with suppress(ActivsparseError):
            plan_of(values, "plan").masks()


def test_names_are_readable_in_the_file(tmp_path) -> None:
    plan = MaskPlan((64, 48), {"größe.conv": PlannedLayer(conv(9, 9), TilesMask(8, 8, 4))}, "norm")
    write_mask_plan(plan, tmp_path / "plan.yaml")
    assert "größe.conv" in (tmp_path / "plan.yaml").read_text("utf-8")
    assert read_mask_plan(tmp_path / "plan.yaml") == plan
