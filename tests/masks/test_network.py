"""Roles, sources and phases of small networks, however they are written down."""

from __future__ import annotations

import sys

import pytest

from activsparse.masks import ConvShape
from activsparse.masks.network import find_convolutions
from activsparse.masks.operations import Kind, Operation

MAP = (1, 8, 16, 16)


class Net:
    """Lists operations; values are numbers, 0 is the image."""

    def __init__(self):
        self.operations = []
        self.sizes = {0: (1, 3, 16, 16)}

    def add(self, kind, *inputs, size=MAP, name=None, shape=None):
        value = len(self.sizes)
        self.sizes[value] = size
        self.operations.append(Operation(kind, inputs, (value,), name, shape))
        return value

    def conv(self, name, x, kernel=1, stride=1, group=1, size=MAP):
        shape = ConvShape((kernel, kernel), (stride, stride), group, 8, 8, size[2:])
        return self.add(Kind.CONVOLUTION, x, size=size, name=name, shape=shape)

    def norm(self, x):
        return self.add(Kind.NORM, x)

    def found(self, *outputs):
        found = find_convolutions(self.operations, outputs, self.sizes)
        return {conv.operation.name: conv for conv in found}


def silu(net, x):
    return net.add(Kind.MULTIPLY, x, net.add(Kind.POINT, x))


def hardswish(net, x):
    gate = net.add(Kind.ADD, x)  # a constant, which is no value
    gate = net.add(Kind.POINT, gate)
    return net.add(Kind.MULTIPLY, net.add(Kind.MULTIPLY, x, gate))


def gelu_by_tanh(net, x):
    cube = net.add(Kind.MULTIPLY, net.add(Kind.ZERO, x))
    inner = net.add(Kind.ZERO, net.add(Kind.ADD, x, cube))
    return net.add(Kind.MULTIPLY, net.add(Kind.MULTIPLY, x), net.add(Kind.ADD, inner))


def dropped(net, x):
    return net.add(Kind.ZERO, net.add(Kind.SAME, x))


@pytest.mark.parametrize("activation", [silu, hardswish, gelu_by_tanh, dropped])
def test_spelled_out_activations_are_activations(activation):
    net = Net()
    stem = net.conv("stem", 0, kernel=3, stride=2)
    deep = net.conv("deep", activation(net, net.norm(stem)), kernel=3)
    last = net.conv("last", activation(net, deep), kernel=3, group=8)
    found = net.found(net.add(Kind.POOL, last))
    assert [conv.role for conv in found.values()] == ["stem", "stem", "layer"]
    assert [conv.source for conv in found.values()] == [None, 0, 1]
    # None of their sums is a residual addition, so every convolution has a phase of its own.
    assert [conv.phase for conv in found.values()] == [0, 1, 2]
    assert found["stem"].norm is not None


def test_gates_and_shifts_let_no_zeros_through():
    net = Net()
    x = net.norm(net.conv("stem", 0, kernel=3))
    squeezed = net.conv("gate", net.add(Kind.POOL, x, size=(1, 8, 1, 1)), size=(1, 8, 1, 1))
    a = net.conv("a", net.add(Kind.MULTIPLY, x, net.add(Kind.POINT, squeezed)), kernel=3)
    b = net.conv("b", net.add(Kind.ADD, a), kernel=3)
    c = net.conv("c", net.norm(net.add(Kind.ZERO, b)), kernel=3)
    found = net.found(net.add(Kind.POOL, c))
    assert [conv.source for conv in found.values()] == [None] * 5


@pytest.mark.parametrize("kind", [None, Kind.POOL, Kind.ZERO, Kind.RESIZE])
def test_a_projection_is_one_whatever_stands_before_it(kind):
    net = Net()
    x = net.add(Kind.ZERO, net.conv("stem", 0, kernel=3))
    y = net.norm(net.conv("body", x, kernel=3))
    projected = net.norm(net.conv("projection", net.add(kind, x) if kind else x))
    z = net.add(Kind.ADD, y, projected)
    expanded = net.conv("expand", z)
    z = net.add(Kind.ADD, net.conv("last", expanded), z)
    found = net.found(net.add(Kind.POOL, z))
    roles = [conv.role for conv in found.values()]
    assert roles == ["stem", "layer", "shortcut", "layer", "layer"]
    assert [conv.added for conv in found.values()] == [False, True, True, False, True]


def test_what_is_added_to_an_identity_is_no_projection():
    net = Net()
    x = net.conv("stem", 0, kernel=3)
    found = net.found(net.add(Kind.POOL, net.add(Kind.ADD, x, net.conv("only", x))))
    assert found["only"].role == "layer"


def test_phases_count_the_additions_on_the_way_not_those_beside_it():
    net = Net()
    x = net.conv("stem", 0, kernel=3)
    left = net.add(Kind.ADD, x, net.conv("left", x, kernel=3))
    right = net.conv("right", x, kernel=3)
    found = net.found(net.conv("last", net.add(Kind.OTHER, left, right), kernel=3))
    assert found["right"].phase == found["left"].phase
    assert found["last"].phase == found["right"].phase + 1


@pytest.mark.parametrize(
    ("after", "head"),
    [
        ((), True),
        ((Kind.RESIZE,), True),
        ((Kind.POOL,), False),
        ((Kind.RESHAPE, Kind.CONVOLUTION), True),
        ((Kind.PERMUTE, Kind.OTHER, Kind.PERMUTE, Kind.CONVOLUTION), False),
        ((Kind.POINT, Kind.OTHER), True),
    ],
)
def test_heads(after, head):
    net = Net()
    x = net.conv("head", net.conv("stem", 0, kernel=3))
    turns = after.count(Kind.PERMUTE) > 1
    for place, kind in enumerate(after):
        inside = turns and place < 2
        away = kind is Kind.RESHAPE or inside
        size = (1, 16, 16, 8) if inside else (1, 2048) if away else MAP
        if kind is Kind.CONVOLUTION:
            x = net.conv("last", x, kernel=3, size=size)
        else:
            x = net.add(kind, x, size=size)
    assert (net.found(x)["head"].role == "head") == head


def test_parts_that_nothing_needs_do_not_count():
    net = Net()
    x = net.conv("stem", 0, kernel=3, stride=2)
    net.add(Kind.POINT, x)  # a product of it was contracted, or nobody reads it
    deep = net.conv("deep", x, kernel=3)
    assert net.found(net.add(Kind.POOL, deep))["deep"].role == "stem"


def test_the_work_grows_with_the_network_only():
    """Twice the network takes twice the steps of the interpreter, by less than a tenth more."""

    def steps(blocks):
        net = Net()
        x = net.conv("stem", 0, kernel=3)
        for i in range(blocks):
            y = silu(net, net.norm(net.conv(f"a{i}", x)))
            y = net.norm(net.conv(f"b{i}", y))
            x = net.add(Kind.ADD, y, net.conv(f"p{i}", net.add(Kind.ZERO, x)))
        x = net.add(Kind.POOL, x) if blocks % 2 else x
        count = 0

        def trace(frame, event, arg):
            nonlocal count
            if "activsparse" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            net.found(x)
        finally:
            sys.settrace(before)
        return count

    assert steps(80) < 2.1 * steps(40)


def test_a_pooling_written_as_sums_of_parts_is_no_residual_addition():
    net = Net()
    x = net.conv("a", net.conv("stem", 0, kernel=3), kernel=3)
    parts = [net.add(Kind.SLICE, x) for _ in range(4)]
    pooled = net.add(Kind.ADD, net.add(Kind.ADD, parts[0], parts[1]), parts[2])
    pooled = net.add(Kind.ADD, pooled, net.add(Kind.SLICE, parts[3]))
    found = net.found(net.conv("b", net.add(Kind.ZERO, pooled), kernel=3))
    # No residual additions: each layer has a phase of its own.
    assert [found[name].phase for name in ("stem", "a", "b")] == [0, 1, 2]
    assert not found["a"].added
