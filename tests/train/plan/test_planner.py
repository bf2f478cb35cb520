"""The planner: never worse than two steps, resumable, true to what it measured."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import example, make_net

from activsparse import ActivsparseError
from activsparse.masks import ConvShape
from activsparse.masks.latency import dense_ms, layer_ms
from activsparse.masks.plan_options import PlanLayer, macs, plan_options, times
from activsparse.masks.plan_units import UnitOption, plan_units
from activsparse.masks.time_table import default_table
from activsparse.train import Sparsifier
from activsparse.train.plan.losses import LossFile, MeasuredLoss
from activsparse.train.plan.meet_target import SpeedSearch
from activsparse.train.plan.plan_network import loss_of_guessing, planning
from activsparse.train.plan.planner import Planner
from activsparse.train.sparsify.norms import batch_statistics

SIZE = (64, 64)


def synthetic(seed: int) -> tuple[list[PlanLayer], np.ndarray]:
    """Layers as a small ResNet has them, and how much each loses."""
    rng = np.random.default_rng(seed)
    layers: list[PlanLayer] = []
    for number in range(int(rng.integers(3, 9))):
        side = int(rng.choice([7, 14, 28, 56]))
        channels = int(64 * 56 // side * rng.choice([0.5, 1]))
        kernel = int(rng.choice([1, 3]))
        conv = ConvShape((kernel, kernel), (1, 1), 1, channels, channels, (side, side))
        follows = number and layers[-1].conv.output == conv.output and rng.random() < 0.6
        phase = layers[-1].phase if follows else number
        layers.append(PlanLayer(f"l{number}", conv, phase, number - 1 if follows else None))
    return layers, rng.uniform(0.02, 1, len(layers))


def by_layer(layers, options):
    """Units of one layer each, and their options."""
    units = plan_units(layers)
    return units, [[UnitOption((o,), o.sparsity) for o in of_layer] for of_layer in options]


def planner_of(layers, loss, count=4, fills=("zero",)) -> Planner:
    sources = {layer.source for layer in layers}
    options = [
        plan_options(layer, SIZE, count=count, fills=fills, feeds=at in sources)
        for at, layer in enumerate(layers)
    ]
    return Planner(*by_layer(layers, options), each(loss), times)


def each(loss):
    """Losses of variants one by one."""
    return lambda variants, whats, first, advance: [*map(loss, variants, whats)]


def additive(layers, slopes):
    slope = {layer.name: k for layer, k in zip(layers, slopes, strict=True)}
    return lambda options, what="": sum(
        slope[name] * option.sparsity**2 for name, (option, _) in options.items()
    )


@pytest.mark.parametrize("seed", range(12))
def test_no_combination_loses_less(seed):
    layers, slopes = synthetic(seed)
    layers, slopes = layers[:4], slopes[:4]
    loss = additive(layers, slopes)
    planner = planner_of(layers, loss, count=2)
    planner.measure()
    every = list(itertools.product(*(range(len(o)) for o in planner.options)))
    costs = np.array([planner.cost(picks) for picks in every])
    losses = np.array([planner.whole_loss(picks) for picks in every])
    before = -1.0
    for budget in np.linspace(costs.min(), costs.max(), 9):
        picks = planner.solve(budget)
        assert planner.cost(picks) <= budget * (1 + 1e-9), seed
        best = losses[costs <= budget * (1 + 1e-13)].min()
        assert planner.whole_loss(picks) == pytest.approx(best, abs=1e-5), (seed, budget)
        assert before < 0 or planner.whole_loss(picks) <= before + 1e-5
        before = planner.whole_loss(picks)


@pytest.mark.parametrize("seed", range(8))
def test_never_worse_than_choosing_sparsities_and_then_masks(seed):
    """The former way: sparsities by loss and time alone, then masks near them by time alone."""
    layers, slopes = synthetic(seed)
    planner = planner_of(layers, additive(layers, slopes), count=6)
    planner.measure()
    whole = sum(dense_ms(layer.conv) for layer in layers)
    grid = np.arange(0, 0.675, 0.025)
    ms = [np.array([layer_ms(layer.conv, "auto", s) for s in grid]) for layer in layers]
    for target in (1.15, 1.3, 1.5):
        # A fine Lagrangian search stands for the former knapsack.
        for weight in np.geomspace(1e-3, 10, 60):
            wanted = [
                int(np.argmin(k * grid**2 + weight * time))
                for k, time in zip(slopes, ms, strict=True)
            ]
            if sum(time[at] for time, at in zip(ms, wanted, strict=True)) <= whole / target:
                break
        else:
            continue
        picks = []
        for layer, of_unit, at in zip(layers, planner.options, wanted, strict=True):
            options = [option.parts[0] for option in of_unit]
            near = [i for i, o in enumerate(options) if -0.1 <= o.sparsity - grid[at] <= 0.2]
            costs = times(layer, options)[0]
            picks.append(min(near or [0], key=lambda i: costs[i]))
        two_steps = planner.whole_loss(tuple(picks))
        one = planner.solve(planner.cost(tuple(picks)))
        assert one is not None, (seed, target)
        assert planner.whole_loss(one) <= two_steps + 1e-5, (seed, target)


def test_fill_nearest_costs_what_it_copies():
    table = replace(default_table(), fill_ms=1e-4)
    layer = PlanLayer("conv", ConvShape((1, 1), (1, 1), 1, 16, 24, (14, 14)))
    options = plan_options(layer, SIZE, table=table, patterns=("lattice",), by_time=False)
    filled = [option for option in options if option.fill == "nearest"]
    empty = [option for option in options if option.fill == "zero" and option.sparsity]
    assert [option.exact for option in filled] == [option.exact for option in empty] != []
    (ms,), (less,) = times(layer, filled, table=table), times(layer, empty, table=table)
    copied = [option.sparsity * 14 * 14 * 24 for option in filled]
    np.testing.assert_allclose(ms - less, 1e-4 * np.array(copied), rtol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_not_measured_again_is_in_no_best_solution(seed):
    layers, slopes = synthetic(seed)
    asked = []
    loss = additive(layers, slopes)

    def told(options, what):
        asked.append(what)
        return loss(options)

    planner = planner_of(layers, told, fills=("zero", "nearest"))
    planner.measure()
    every = len(asked)
    budgets = np.linspace(planner.least_cost, planner.cost(planner.dense), 12)
    before = [planner.solve(budget) for budget in budgets]
    planner.measure(before[5])
    assert every < len(asked) < 2 * every, seed
    after = [planner.solve(budget) for budget in budgets]
    for one, other, budget in zip(before, after, budgets, strict=True):
        assert planner.cost(other) <= budget * (1 + 1e-9)
        assert planner.whole_loss(other) == pytest.approx(planner.whole_loss(one), abs=1e-5), seed


def test_where_nothing_is_lost_no_more_is_skipped_than_asked():
    conv = ConvShape((3, 3), (1, 1), 1, 32, 32, (12, 12))
    layers = [PlanLayer(f"l{i}", conv, i) for i in range(8)]
    options = [plan_options(x, SIZE, patterns=("lattice",), count=7, by_time=False) for x in layers]
    planner = Planner(
        *by_layer(layers, options), each(lambda o, what: 0.0), lambda x, o, _: macs(x, o)
    )
    planner.measure()
    picks = planner.solve(0.75 * planner.cost(planner.dense))
    assert picks is not None
    assert planner.cost(picks) == pytest.approx(0.75 * planner.cost(planner.dense), rel=0.02)


def test_measuring_again_mends_what_does_not_add_up():
    layers = [
        PlanLayer(f"l{i}", ConvShape((3, 3), (1, 1), 1, 128, 128, (28, 28)), i) for i in range(3)
    ]

    def loss(options, what=""):
        s = [options[f"l{i}"][0].sparsity if f"l{i}" in options else 0.0 for i in range(3)]
        # The first two cost little alone and much together.
        return s[0] ** 2 + s[1] ** 2 + 40 * s[0] * s[1] + 3 * s[2] ** 2

    planner = planner_of(layers, loss)
    planner.measure()
    budget = 0.75 * planner.cost(planner.dense)
    first = planner.solve(budget)
    planner.measure(first)
    second = planner.solve(budget)
    assert planner.whole_loss(second) < planner.whole_loss(first)


def batches():
    return [(example(4, seed=50 + at), torch.arange(4) % 5) for at in range(2)]


LOSS = torch.nn.functional.cross_entropy
FEW = {"count": 2, "by": "macs"}


def test_losses_are_those_of_the_masked_network(tmp_path):
    net = make_net()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    with planning(net, example(), batches(), LOSS, **FEW) as planner:
        found = planner.find(1.4, rounds=1)
    assert net.state_dict().keys() == state.keys()
    assert found.speedup >= 1.4 - 1e-9
    Sparsifier(net, example(), plan=found.plan)
    with torch.no_grad(), batch_statistics(net):
        loss = np.mean([float(LOSS(net(x), y)) for x, y in batches()])
    assert found.loss == pytest.approx(loss, rel=1e-5)


def test_a_target_out_of_reach_is_told_before_a_loss_is_measured():
    def loss(outputs, labels):
        raise AssertionError("measured a loss")

    with (
        pytest.raises(ActivsparseError, match="the fastest masks here reach"),
        planning(make_net(), example(), batches(), loss, **FEW) as planner,
    ):
        planner.find(50.0)


def test_a_slow_measurement_of_the_fastest_masks_is_repeated_before_it_is_believed():
    speeds = iter([1.2, 2.0, 2.1])
    search = SpeedSearch(
        solve=lambda budget: (1,),
        cost=lambda picks: 0.5,
        measure=lambda picks: next(speeds),
        dense_cost=1.0,
        least_cost=lambda: 0.5,
    )
    search.refuse_unreachable(1.9)
    assert next(speeds, None) is None
    assert search.speed((1,)) == 2.0


def test_guessing_is_as_good_as_how_often_each_class_comes_up():
    counts = np.random.default_rng(3).integers(1, 9, 5)
    labels = torch.repeat_interleave(torch.arange(5), torch.as_tensor(counts))
    shares = torch.as_tensor(counts / counts.sum()).log().expand(len(labels), -1)
    expected = float(torch.nn.functional.cross_entropy(shares, labels))
    assert loss_of_guessing([labels[:4], labels[4:]]) == pytest.approx(expected)
    assert loss_of_guessing([torch.zeros(4, 6)]) is None
    assert loss_of_guessing([torch.zeros(4)]) is None


@pytest.mark.parametrize(("dense", "masked", "ruined"), [(0.5, 9, 1), (0.5, 0.6, 0), (9, 10, 0)])
def test_masks_that_leave_less_than_guessing_are_told_of(
    dense, masked, ruined, monkeypatch, caplog
):
    with planning(make_net(), example(), batches(), LOSS, **FEW) as planner:
        assert planner.guessing == loss_of_guessing([y for _, y in batches()])
        assert 0.6 < planner.guessing < 9
        loss = lambda picks, what="": masked if any(picks) else dense  # noqa: E731
        monkeypatch.setattr(planner.planner, "whole_loss", loss)
        planner.find(1.3, rounds=0)
    told = [record.message for record in caplog.records if "worse than guessing" in record.message]
    assert len(told) == ruined


def test_a_plan_notes_what_it_was_chosen_by():
    def estimate(plan):
        layers = plan.layers.values()
        dense = sum(1e-6 * x.conv.macs for x in layers)
        return dense / sum(x.ms for x in layers)

    measured = []

    def measure(plan):
        measured.append(plan)
        return 1 + 0.8 * (estimate(plan) - 1)

    net = make_net()
    with planning(net, example(), batches(), LOSS, where="a table", **FEW) as planner:
        by_estimate = planner.find(1.3, rounds=1)
        assert not measured
        by_measurement = planner.find(1.3, measure, rounds=1, tolerance=0.06)
    with torch.no_grad(), batch_statistics(net):
        dense = np.mean([float(LOSS(net(x), y)) for x, y in batches()])
    for found, kind in (
        (by_estimate, "estimated, convolutions alone"),
        (by_measurement, "measured"),
    ):
        assert found.plan.notes == {
            "target_speedup": 1.3,
            "speedup": round(found.speedup, 3),
            "speedup_is": kind,
            "times": "a table",
            "loss": found.loss,
            "dense_loss": found.dense_loss,
        }
        assert found.dense_loss == pytest.approx(dense, abs=1e-5)
        assert (found.loss, found.dense_loss) == (round(found.loss, 6), round(found.dense_loss, 6))
    assert by_estimate.speedup == pytest.approx(estimate(by_estimate.plan))
    assert by_estimate.speedup >= 1.3 * (1 - 1e-9)
    assert by_measurement.plan.masks().keys() <= measured[-1].layers.keys()
    assert by_measurement.speedup == pytest.approx(1 + 0.8 * (estimate(by_measurement.plan) - 1))
    assert by_measurement.speedup == pytest.approx(1.3, rel=0.06)


class StopError(Exception):
    pass


def test_a_stopped_search_measures_nothing_twice(tmp_path, monkeypatch):
    path = tmp_path / "losses.csv"
    measured = []
    measure = MeasuredLoss._measure

    def counting(self, variants, first, advance):
        if 0 <= limit <= len(measured):
            raise StopError
        measured.extend(self.key(options) for options in variants)
        return measure(self, variants, first, advance)

    monkeypatch.setattr(MeasuredLoss, "_measure", counting)

    def search():
        with planning(make_net(), example(), batches(), LOSS, losses=path, **FEW) as planner:
            return planner.find(1.3, rounds=1)

    limit = 7
    with pytest.raises(StopError):
        search()
    # A kill may cut the last line short.
    text = path.read_text()
    path.write_text(text[:-9])
    limit = -1
    found = search()
    assert len(measured) == len(set(measured)) + 1  # the cut one
    limit = len(measured)
    assert search() == found
    path.unlink()
    limit = -1
    assert search().plan == found.plan

    with (
        pytest.raises(ActivsparseError, match="losses of another network or other images"),
        planning(make_net(3), example(), batches(), LOSS, losses=path, **FEW),
    ):
        pass
    path.write_text("something else")
    with pytest.raises(ActivsparseError, match="delete it, or name another output"):
        LossFile(path, "x")


@pytest.mark.parametrize("seed", range(10))
def test_a_measured_target_is_met_whatever_estimates_get_wrong(seed):
    """Solutions are numbers; the machine takes longer than estimated, and other things time too."""
    rng = np.random.default_rng(seed)
    wrong, rest, bend = rng.uniform(0.6, 1.6), rng.uniform(0, 0.6), rng.uniform(0.7, 1.3)
    calls = []

    def measure(cost):
        calls.append(cost)
        return (wrong + rest) / (wrong * cost**bend + rest)

    search = SpeedSearch(
        solve=lambda budget: round(max(budget, 0.05), 3),
        cost=lambda cost: cost,
        measure=measure,
        dense_cost=1.0,
        least_cost=lambda: 0.05,
    )
    for target in (1.2, 1.5, 2.0):
        if target > 0.98 * measure(0.05):
            with pytest.raises(ActivsparseError, match="masks here reach"):
                search.meet(target)
            continue
        calls.clear()
        _, speed = search.meet(target)
        assert speed == pytest.approx(target, rel=0.025), seed
        assert len(set(calls)) <= 7
    with pytest.raises(ActivsparseError, match="must be above 1"):
        search.meet(1.0)


def test_a_lucky_measurement_is_not_believed():
    """A busy moment of the dense network makes a slow solution look like the target."""
    calls = []

    def measure(cost):
        calls.append(cost)
        return 1.5 if len(calls) == 1 else 1.1 / (cost + 0.1)

    search = SpeedSearch(
        solve=lambda budget: round(budget, 3),
        cost=lambda cost: cost,
        measure=measure,
        dense_cost=1.0,
        least_cost=lambda: 0.05,
    )
    solution, speed = search.meet(1.5)
    assert speed == pytest.approx(1.1 / (solution + 0.1))
    assert speed == pytest.approx(1.5, rel=0.025)
    assert calls.count(solution) == 3


def test_of_few_solutions_the_slowest_that_is_fast_enough_is_taken():
    search = SpeedSearch(
        solve=lambda budget: 1.0 if budget >= 1 else 0.5 if budget >= 0.5 else None,
        cost=lambda cost: cost,
        measure=lambda cost: {1.0: 1.0, 0.5: 1.6}[cost],
        dense_cost=1.0,
        least_cost=lambda: 0.5,
        rounds=1,
    )
    search.measured[1.0] = (1.0, 1.0)
    search._speeds[1.0] = [1.0]
    search._next = lambda target: 1.0
    assert search.meet(1.2) == (0.5, 1.6)


def search_of(measured, solve=lambda budget: round(budget, 3)):
    """A search over numbers that takes as long as they say."""

    def measure(cost):
        measured.append(cost)
        return 1 / cost

    return SpeedSearch(
        solve=solve, cost=lambda cost: cost, measure=measure, dense_cost=1.0, least_cost=lambda: 0.1
    )


def test_what_meets_the_target_ends_the_search():
    measured = []
    solution, speed = search_of(measured).meet(1.6)
    assert speed == pytest.approx(1.6, rel=0.025)
    assert set(measured) == {solution}


def test_where_a_budget_gives_what_was_measured_its_neighbour_is_tried():
    """Of coarse solutions the corrected budget can give one again that misses the target."""
    measured = []
    coarse = search_of(measured, solve=lambda budget: max(0.1, round(budget * 20) / 20))
    coarse.measure = lambda cost: measured.append(cost) or 1 / (cost + 0.04)
    _, speed = coarse.meet(1.5)
    assert speed == pytest.approx(1.5, rel=0.06)
    assert len(set(measured)) > 1


def test_losses_are_measured_again_around_solutions_as_often_as_asked(monkeypatch):
    around = []
    measure = Planner.measure

    def counting(self, picks=None):
        around.append(picks)
        measure(self, picks)

    monkeypatch.setattr(Planner, "measure", counting)
    for rounds in (0, 1):
        around.clear()
        with planning(make_net(), example(), batches(), LOSS, **FEW) as planner:
            planner.find(1.3, rounds=rounds)
        assert around[0] is None
        assert len(around) == 1 + rounds
        assert all(picks is not None for picks in around[1:])


def test_progress_counts_every_measurement():
    told = []
    with planning(make_net(), example(), batches(), LOSS, **FEW) as planner:
        planner.planner._advance = lambda done, total, name: told.append((done, total))
        planner.planner.measure()
    done = [done for done, _ in told]
    assert done == sorted(done)
    assert done[-1] == told[-1][1] <= len(set(done)) + 1
