from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse.train.sparsify.schedule import make_schedule


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
