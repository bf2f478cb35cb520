"""The search beyond the paper: halving, candidates, importance, recalibrated norms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_networks import example, make_net
from torch import nn

from activsparse import ActivsparseError
from activsparse.masks.maker import CANDIDATES, mix_scores
from activsparse.models import build_model
from activsparse.train import Sparsifier
from activsparse.train.sparsify.candidates import halve, rounds, search_masks
from activsparse.train.sparsify.importance import measure_importance
from activsparse.train.sparsify.norms import batch_statistics, recalibrate_norms

LOSS = nn.functional.cross_entropy


def _batches(count: int, size: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(example(size, seed=50 + at), torch.arange(size) % 5) for at in range(count)]


def test_rounds_cost_about_the_same():
    assert rounds(16, 16) == [(16, 2), (8, 4), (4, 8), (2, 16)]
    assert rounds(5, 16) == [(5, 4), (3, 8), (2, 16)]
    assert rounds(1, 4) == []
    assert all(seen >= 1 for _, seen in rounds(64, 2))


@pytest.mark.parametrize("seed", range(5))
def test_halving_finds_the_best_where_noise_is_small(seed):
    rng = np.random.default_rng(seed)
    true = rng.permutation(16).astype(float)
    noise = rng.uniform(-0.4, 0.4, (16, 16))
    asked: list[tuple[int, int]] = []

    def measure(candidate: int, batch: int) -> float:
        asked.append((candidate, batch))
        return float(true[candidate] + noise[candidate, batch])

    choice = halve(16, 16, measure)
    assert choice.winner == int(np.argmin(true))
    assert len(asked) == len(set(asked)) < 16 * 16 / 2
    assert choice.batches[choice.winner] == 16
    for at, seen in enumerate(choice.batches):
        assert {b for c, b in asked if c == at} == set(range(seen))


@pytest.mark.parametrize(
    "options",
    [
        {"pattern": "random"},
        {"pattern": "random", "criterion": "random", "fill": "nearest"},
        {"pattern": "lattice", "fill": "auto"},
        {"pattern": "tiles"},
    ],
)
def test_the_chosen_masks_have_the_least_held_out_loss(options):
    net, batches = make_net(), _batches(4)
    sparsifier = Sparsifier(net, example(), 0.4, seed=3, **options)
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k or "num" in k}
    choice = search_masks(sparsifier, batches, LOSS, candidates=6)
    assert sparsifier.frozen
    chosen = sparsifier.masks()
    for key, value in before.items():
        torch.testing.assert_close(net.state_dict()[key], value, rtol=0, atol=0)

    def loss_of(step: int) -> float:
        other = make_net()
        Sparsifier(other, example(), 0.4, seed=3, **options).settle(step)
        other.train()
        with torch.no_grad():
            return float(np.mean([float(LOSS(other(x), y)) for x, y in batches]))

    steps = [0, *(CANDIDATES + at for at in range(1, 6))]
    finalists = [at for at, seen in enumerate(choice.batches) if seen == 4]
    assert choice.winner == min(finalists, key=lambda at: loss_of(steps[at]))
    assert choice.losses[choice.winner] == pytest.approx(loss_of(steps[choice.winner]), rel=1e-6)

    # The choice is part of the network's state.
    again = make_net(seed=1)
    resumed = Sparsifier(again, example(), 0.4, seed=3, **options)
    again.load_state_dict(net.state_dict())
    resumed.settle(resumed.source_step)
    for name, mask in resumed.masks().items():
        np.testing.assert_array_equal(mask, chosen[name])


def test_searched_phases_are_those_of_a_block():
    net = make_net()
    sparsifier = Sparsifier(net, example(size=(32, 32)), 0.34, pattern="lattice")
    different = set()
    for at in range(1, 9):
        sparsifier.settle(CANDIDATES + at)
        masks = sparsifier.masks()
        np.testing.assert_array_equal(masks["blocks.0.conv1"], masks["blocks.0.conv2"])
        different.add(masks["blocks.0.conv1"].tobytes() + masks["blocks.1.conv1"].tobytes())
    assert len(different) > 3


@pytest.mark.parametrize(("phases", "same"), [("one", True), ("layer", False)])
def test_phases_by_layer_or_none(phases, same):
    masks = Sparsifier(
        make_net(), example(size=(32, 32)), 0.34, pattern="lattice", phases=phases
    ).masks()
    first, second = masks["blocks.0.conv1"], masks["blocks.0.conv2"]
    assert (first == second).all() == same


@pytest.mark.parametrize("share", [True, False])
def test_blocks_can_share_tiles(share):
    model = build_model("small_resnet", 10, in_channels=1)
    masks = Sparsifier(
        model, torch.zeros(1, 1, 28, 28), 0.3, pattern="tiles", share_in_block=share
    ).masks()
    pairs = [(masks[f"{b}.conv1"], masks[f"{b}.conv2"]) for b in ("stages.0.1", "stages.1.1")]
    assert all((first == second).all() for first, second in pairs) == share
    assert sum(m.mean() for m in masks.values()) / len(masks) == pytest.approx(0.7, abs=0.05)


def test_importances_are_what_they_say():
    net = make_net()
    sparsifier = Sparsifier(net, example(), 0.4, pattern="random", importance_weight=0.5)
    masks = sparsifier.masks()
    magnitude = measure_importance(sparsifier, _batches(3), LOSS, "magnitude")
    taylor = measure_importance(sparsifier, _batches(3), LOSS, "taylor")
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(mask, masks[name])

    # By hand, on a network that never had masks, for the last convolution (no norm behind it).
    plain = make_net().train()
    sums = [np.zeros(taylor["last"].shape) for _ in range(2)]
    for x, y in _batches(3):
        kept: list[torch.Tensor] = []
        handle = plain.last.register_forward_hook(lambda m, a, out, kept=kept: kept.append(out))
        loss = LOSS(plain(x), y, reduction="sum")
        handle.remove()
        (slope,) = torch.autograd.grad(loss, kept)
        sums[0] += kept[0].detach().abs().mean(1).sum(0).numpy()
        sums[1] += (kept[0] * slope).detach().sum(1).abs().sum(0).numpy()
    np.testing.assert_allclose(magnitude["last"], sums[0], rtol=1e-4)
    np.testing.assert_allclose(taylor["last"], sums[1], rtol=1e-3, atol=1e-5)


def test_importance_decides_in_proportion_to_its_weight():
    rng = np.random.default_rng(0)
    for weight, share in ((1.0, 1.0), (0.0, None), (0.9, 0.8)):
        net = make_net()
        weighs = {"importance_weight": weight} if weight else {}
        sparsifier = Sparsifier(net, example(), 0.5, pattern="random", **weighs)
        before = sparsifier.masks()
        maps = {x.name: rng.random(x.shape, dtype=np.float32) for x in sparsifier.layers}
        if not weight:
            with pytest.raises(ActivsparseError, match="importance_weight"):
                sparsifier.set_importance(maps)
            continue
        sparsifier.set_importance(maps)
        for name, mask in sparsifier.masks().items():
            best = np.argsort(maps[name], axis=None)[-int(mask.sum()) :]
            assert mask.ravel()[best].mean() >= share
        # It survives a round trip.
        again = make_net()
        other = Sparsifier(again, example(), 0.5, pattern="random", **weighs)
        again.load_state_dict(copy.deepcopy(net.state_dict()))
        other.settle(other.source_step)
        for name, mask in other.masks().items():
            np.testing.assert_array_equal(mask, sparsifier.masks()[name])
            assert (mask != before[name]).any()


def test_mixed_scores_are_ranks():
    score = np.array([[10.0, 20.0], [40.0, 30.0]], dtype=np.float32)
    importance = np.array([[4.0, 3.0], [2.0, 1.0]], dtype=np.float32)
    mixed = mix_scores(score, importance, 0.25)
    np.testing.assert_allclose(mixed, [[0.1875, 0.3125], [0.625, 0.375]])


def test_recalibrated_statistics_are_the_mean_over_batches():
    net = make_net()
    Sparsifier(net, example(), 0.4, pattern="lattice")
    weights = {k: v.clone() for k, v in net.named_parameters()}
    modes = {n: m.training for n, m in net.named_modules()}
    images = [x for x, _ in _batches(5)]
    recalibrate_norms(net, images)
    first = net.blocks[0].bn1
    with torch.no_grad():
        inputs = [net.blocks[0].conv1(torch.relu(net.stem(x))) for x in images]
    mean = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(first.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, variance, rtol=1e-4, atol=1e-5)
    assert first.momentum == 0.1
    assert modes == {n: m.training for n, m in net.named_modules()}
    for name, value in net.named_parameters():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_batch_statistics_leave_no_trace():
    net = make_net()
    state = copy.deepcopy(net.state_dict())
    with batch_statistics(net):
        assert not net.training
        net(example())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_errors():
    sparsifier = Sparsifier(make_net(), example(), 0.4)
    with pytest.raises(ActivsparseError, match="needs one of each"):
        search_masks(sparsifier, [], LOSS)
    with pytest.raises(ActivsparseError, match="magnitude"):
        measure_importance(sparsifier, _batches(1), LOSS, "magnitud")
    with pytest.raises(ActivsparseError, match="no scores to weigh"):
        Sparsifier(make_net(), example(), 0.4, importance_weight=0.5)
    with pytest.raises(ActivsparseError, match="phases 'blocks': is unknown; did you mean"):
        Sparsifier(make_net(), example(), 0.4, phases="blocks")
