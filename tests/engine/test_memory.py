"""Arena offsets: nothing alive at the same time overlaps, and memory is really shared."""

from hypothesis import given
from hypothesis import strategies as st

from activsparse.engine.memory import LINE_BYTES, Lifetime, assign_offsets


@st.composite
def lifetimes(draw):
    first = draw(st.integers(0, 20))
    return Lifetime(draw(st.integers(0, 500)), first, first + draw(st.integers(0, 6)))


@given(st.lists(lifetimes(), max_size=25))
def test_live_blocks_never_overlap(blocks):
    offsets, total = assign_offsets(blocks)
    for i, a in enumerate(blocks):
        assert offsets[i] % LINE_BYTES == 0
        assert offsets[i] + a.bytes <= total
        for j, b in enumerate(blocks[:i]):
            apart = offsets[i] + a.bytes <= offsets[j] or offsets[j] + b.bytes <= offsets[i]
            assert apart or not a.overlaps(b) or not a.bytes or not b.bytes


@given(st.lists(lifetimes(), max_size=25))
def test_arena_is_at_least_the_busiest_step_and_at_most_the_sum(blocks):
    _, total = assign_offsets(blocks)
    sizes = [-(-b.bytes // LINE_BYTES) * LINE_BYTES for b in blocks]
    busiest = max(
        (
            sum(s for s, b in zip(sizes, blocks, strict=True) if b.first <= t <= b.last)
            for t in range(30)
        ),
        default=0,
    )
    assert busiest <= total <= sum(sizes)


def test_a_chain_needs_two_buffers():
    chain = [Lifetime(640, i, i + 1) for i in range(10)]
    assert assign_offsets(chain)[1] == 1280


def test_the_smallest_gap_is_taken():
    # Two holes are left between blocks that stay; the small block goes into the small one.
    blocks = [
        Lifetime(6400, 0, 9),
        Lifetime(1920, 0, 1),
        Lifetime(1880, 0, 9),
        Lifetime(1280, 0, 1),
        Lifetime(1240, 0, 9),
        Lifetime(256, 5, 6),
    ]
    offsets, _ = assign_offsets(blocks)
    assert offsets[5] == offsets[3]
