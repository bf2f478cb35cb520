"""Phases of regular patterns, on the chains that networks are made of."""

from activsparse.masks import assign_phases


def test_blocks_have_phases_of_their_own():
    assert assign_phases([0, 0, 1, 1, 2], [None, 0, None, 2, None], [False] * 5, []) == [
        0,
        0,
        1,
        1,
        2,
    ]


def test_block_after_a_projection_differs_but_for_its_expansion():
    # Projection, then expansion, depthwise and projection of a block that is added to the first.
    blocks, sources = [3, 3, 3, 3, 4], [None, 0, 1, 2, None]
    pointwise = [True, True, False, True, True]
    assert assign_phases(blocks, sources, pointwise, [(0, 3)]) == [3, 3, 4, 4, 5]


def test_pointwise_follows_its_input_without_residual_additions():
    assert assign_phases([0, 1, 2, 3], [None, 0, 1, 2], [False, True, False, True], []) == [
        0,
        0,
        2,
        2,
    ]
