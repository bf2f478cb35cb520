"""Arena offsets: nothing alive at the same time overlaps, and memory is really shared."""

from hypothesis import given
from hypothesis import strategies as st

from activsparse.engine.memory import ALIGNMENT, Lifetime, assign_offsets


@st.composite
def lifetimes(draw):
    first = draw(st.integers(0, 20))
    return Lifetime(draw(st.integers(0, 500)), first, first + draw(st.integers(0, 6)))


@given(st.lists(lifetimes(), max_size=25))
def test_live_blocks_never_overlap(blocks):
    offsets, total = assign_offsets(blocks)
    for i, a in enumerate(blocks):
        assert offsets[i] % ALIGNMENT == 0
        assert offsets[i] + a.floats <= total
        for j, b in enumerate(blocks[:i]):
            apart = offsets[i] + a.floats <= offsets[j] or offsets[j] + b.floats <= offsets[i]
            assert apart or not a.overlaps(b) or not a.floats or not b.floats


@given(st.lists(lifetimes(), max_size=25))
def test_arena_is_at_least_the_busiest_step_and_at_most_the_sum(blocks):
    _, total = assign_offsets(blocks)
    sizes = [-(-b.floats // ALIGNMENT) * ALIGNMENT for b in blocks]
    busiest = max(
        (
            sum(s for s, b in zip(sizes, blocks, strict=True) if b.first <= t <= b.last)
            for t in range(30)
        ),
        default=0,
    )
    assert busiest <= total <= sum(sizes)


def test_a_chain_needs_two_buffers():
    chain = [Lifetime(160, i, i + 1) for i in range(10)]
    assert assign_offsets(chain)[1] == 320


def test_the_smallest_gap_is_taken():
    # Two holes are left between blocks that stay; the small block goes into the small one.
    blocks = [
        Lifetime(1600, 0, 9),
        Lifetime(480, 0, 1),
        Lifetime(470, 0, 9),
        Lifetime(320, 0, 1),
        Lifetime(310, 0, 9),
        Lifetime(64, 5, 6),
    ]
    offsets, _ = assign_offsets(blocks)
    assert offsets[5] == offsets[3]
