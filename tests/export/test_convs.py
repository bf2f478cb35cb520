import onnx
from onnx_models import build, conv_norm, residual

from activsparse.export.convs import find_convs
from activsparse.masks import ConvShape


def test_names_sites_and_shapes():
    stem, second = find_convs(conv_norm())
    assert (stem.name, stem.role, stem.problem) == ("stem", "stem", None)
    assert (second.name, second.node_name, second.role) == ("second", "second", "layer")
    assert (second.conv_output, second.norm_output) == ("b", "c")
    assert (stem.conv_output, stem.norm_output) == ("a", "a")
    assert second.shape == ConvShape((3, 3), (1, 1), 1, 8, 8, (12, 10))


def test_roles_and_phases_follow_the_residual_additions():
    convs = {conv.name: conv for conv in find_convs(residual())}
    assert {name: conv.role for name, conv in convs.items() if conv.role != "layer"} == {
        "stem": "stem",
        "one.shortcut": "shortcut",
    }
    # The projection is added to the block's last convolution, their holes side by side.
    assert [conv.phase for conv in convs.values()] == [0, 0, 0, 1, 2, 2, 3]
    assert convs["squeeze"].problem == "its output has a single position"
    assert convs["one.a"].shape.stride == (2, 2)
    assert convs["one.a"].shape.output == (8, 8)


def test_without_residual_additions_every_layer_has_its_own_phase():
    assert [conv.phase for conv in find_convs(conv_norm())] == [0, 1]


def test_open_sizes_and_computed_weights_are_no_candidates():
    assert find_convs(conv_norm(size="H, W"))[1].problem == "the size of its output is open"
    computed = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x, float[4, 3, 3, 3] w) => (float[1, 4, 6, 6] y) { y = Conv(x, w) }""",
        {},
    )
    assert find_convs(computed)[0].problem == "its weights are no constant"


def test_sizes_that_are_computed_in_floating_point_are_known():
    """As torchvision's detectors scale and pad images: shape inference follows integers only."""
    model = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 4, H, W] y)
        {
            sizes = Shape(x)
            two = Constant<value = int64[2] {2, 3}>()
            sides = Gather(sizes, two)
            real = Cast<to = 1>(sides)
            half = Constant<value = float {1.5}>()
            large = Mul(real, half)
            whole = Floor(large)
            wanted = Cast<to = 7>(whole)
            front = Constant<value = int64[2] {1, 3}>()
            all = Concat<axis = 0>(front, wanted)
            big = Resize(x, , , all)
            y = Conv(big, stem__weight)
        }""",
        {"stem.weight": (4, 3, 3, 3)},
    )
    (conv,) = find_convs(model)
    assert conv.shape.output == (10, 10)


def test_names_are_unique_and_fall_back_to_nodes_and_outputs():
    model = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
        {
            a = Conv(x, twice__weight)
            [again] b = Conv(a, twice__weight)
            y = Conv(b, other)
        }""",
        {"twice.weight": (4, 4, 1, 1), "other": (4, 4, 1, 1)},
    )
    assert [conv.name for conv in find_convs(model)] == ["twice", "again", "y"]


def test_weights_behind_identity_and_constant_nodes():
    model = conv_norm()
    weight = next(t for t in model.graph.initializer if t.name == "second.weight")
    model.graph.initializer.remove(weight)
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w0"], value=weight))
    model.graph.node.insert(1, onnx.helper.make_node("Identity", ["w0"], ["second.weight"]))
    assert find_convs(model)[1].shape.out_channels == 8


def test_what_a_convolution_reads_of_another():
    sources = {conv.name: conv.source for conv in find_convs(residual())}
    # Sums of several tensors, and what is pooled, are nobody's.
    assert sources == {
        "stem": None,
        "one.a": "stem",
        "one.b": "one.a",
        "one.shortcut": "stem",
        "two.a": None,
        "two.b": "two.a",
        "squeeze": None,
    }
    through = build(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y)
        <float low = {0}, float high = {6}, float one = {1}> {
            a = Conv(x, a__weight)
            a1 = BatchNormalization(a, s, t, m, v)
            a2 = Clip(a1, low, high)
            b = Conv(a2, b__weight)
            b1 = Sigmoid(b)
            b2 = Mul(b, b1)
            c = Conv(b2, c__weight)
            c1 = Clip(c, one, high)
            d = Conv(c1, d__weight)
            d1 = Sigmoid(d)
            y = Conv(d1, e__weight)
        }""",
        {f"{name}.weight": (4, 4, 1, 1) for name in "abcde"} | dict.fromkeys("stmv", (4,)),
    )
    assert [conv.source for conv in find_convs(through)] == [None, "a", "b", None, None]
