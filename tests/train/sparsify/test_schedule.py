from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.train.sparsify.schedule import Schedule, make_schedule


@given(
    total=st.integers(1, 500),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    final=st.floats(0, 0.99),
    initial=st.floats(0, 0.99),
    frequency=st.integers(1, 20),
)
def test_sparsity_rises_from_initial_to_final(total, fractions, final, initial, frequency):
    begin, end = fractions
    schedule = make_schedule(total, begin=begin, end=end, initial=initial, frequency=frequency)
    values = [schedule.sparsity(step, final) for step in range(total + 1)]
    assert all(0 <= value <= final + 1e-12 for value in values)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert values[-1] == pytest.approx(final) or schedule.end > total
    for step in range(total + 1):
        kinds = [
            schedule.is_pruning_step(step),
            schedule.is_dense_step(step),
            schedule.is_over(step),
        ]
        assert sum(kinds) == 1
    if schedule.begin < schedule.end:
        assert schedule.sparsity(schedule.begin, final) == pytest.approx(min(initial, final))


def test_halfway_value():
    schedule = make_schedule(100, begin=0.1, end=0.9)
    # Half the way: 1 - (1/2)^2 of the final sparsity.
    assert schedule.sparsity(50, 0.4) == pytest.approx(0.3)


def test_masks_rise_from_a_tenth_to_nine_tenths_of_training_unless_told_otherwise():
    assert make_schedule(1000) == Schedule(100, 900, 1, 0.0, "polynomial")
    # Without training there is nothing to wait for.
    over = make_schedule(None)
    assert over.is_over(0)
    assert over.sparsity(0, 0.4) == 0.4
    assert Schedule() == over


@pytest.mark.parametrize(
    "options",
    [
        {"begin": 0.0, "end": 0.0},
        {"begin": 1.0, "end": 1.0},
        {"frequency": 1},
        {"initial": 0.0},
        {"initial": 0.999},
        {"total_steps": 1},
    ],
)
def test_the_ends_of_every_range_are_in_it(options):
    make_schedule(**{"total_steps": 100, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"begin": -0.01}, "0 <= begin <= end <= 1"),
        ({"end": 1.01}, "0 <= begin <= end <= 1"),
        ({"begin": 0.6, "end": 0.5}, "0 <= begin <= end <= 1"),
        ({"frequency": 0}, "at least 1"),
        ({"initial": -0.1}, "at least 0 and below 1"),
        ({"initial": 1.0}, "at least 0 and below 1"),
        ({"initial": 1.5}, "at least 0 and below 1"),
        ({"total_steps": 0}, "must be a whole number, at least 1"),
        ({"kind": "linear"}, "is unknown"),
    ],
)
def test_what_is_beyond_them_is_refused(options, message):
    with pytest.raises(ActivsparseError, match=message):
        make_schedule(**{"total_steps": 100, **options})


def test_a_constant_schedule_is_at_its_final_sparsity_at_once():
    schedule = make_schedule(100, begin=0.2, end=0.8, initial=0.1, kind="constant")
    assert [schedule.sparsity(step, 0.4) for step in (19, 20, 50, 80, 99)] == [0.0, *[0.4] * 4]
