"""What a Sparsifier promises: layers, exact sparsity, state, copies, export, errors."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from small_networks import Net, example, make_net, train
from torch import nn

from activsparse import ActivsparseError
from activsparse.export.mask import mask_model
from activsparse.export.onnx import convert
from activsparse.train import Sparsifier

VARIANTS = [
    {"pattern": "random", "fill": "zero", "site": "conv", "skip_stem": False},
    {"pattern": "random", "fill": "nearest", "site": "norm"},
    {"pattern": "tiles", "fill": "zero", "site": "norm"},
    {"pattern": "lattice", "fill": "nearest", "site": "conv"},
]


def test_layers_are_found_in_order_with_norms_and_blocks():
    sparsifier = Sparsifier(make_net(), example(), 0.3, pattern="random", skip_shortcuts=False)
    found = [(layer.name, layer.host, layer.shape) for layer in sparsifier.layers]
    assert found == [
        ("blocks.0.conv1", "blocks.0.bn1", (19, 15)),
        ("blocks.0.conv2", "blocks.0.bn2", (19, 15)),
        ("blocks.0.short", "blocks.0.short", (19, 15)),
        ("blocks.1.conv1", "blocks.1.bn1", (10, 8)),
        ("blocks.1.conv2", "blocks.1.bn2", (10, 8)),
        ("blocks.1.short", "blocks.1.short", (10, 8)),
        ("last", "last", (8, 6)),
    ]
    assert sparsifier.skipped == {"stem": "stem"}
    # 3x19x15 positions of 4 -> 8 and 8 -> 8 channels, and so on, by hand.
    assert [layer.macs for layer in sparsifier.layers[:3]] == [82080, 164160, 9120]


def test_blocks_share_a_mask_and_neighbours_do_not():
    masks = Sparsifier(
        make_net(), example(size=(32, 32)), 0.34, pattern="lattice", skip_shortcuts=False
    ).masks()
    np.testing.assert_array_equal(masks["blocks.0.conv1"], masks["blocks.0.conv2"])
    np.testing.assert_array_equal(masks["blocks.0.conv1"], masks["blocks.0.short"])
    other = masks["blocks.1.conv1"]
    assert (masks["blocks.0.conv1"][: other.shape[0], : other.shape[1]] != other).any()


def test_shortcut_projections_stay_dense_by_default():
    sparsifier = Sparsifier(make_net(), example(), 0.3, pattern="random")
    reason = "shortcut projection"
    assert {name for name, why in sparsifier.skipped.items() if why == reason} == {
        "blocks.0.short",
        "blocks.1.short",
    }


@pytest.mark.parametrize("network", ["resnet18", "resnet50", "mobilenet_v2", "squeezenet1_1"])
def test_the_same_masks_as_for_an_onnx_file(network):
    """Layers, phases and masks agree with `activsparse mask` on the exported network."""
    model = torchvision.models.get_model(network).eval()
    sparsifier = Sparsifier(copy.deepcopy(model), example(1, (64, 64)), 0.3, pattern="auto")
    dense = convert(model, example(1, (64, 64)), verify=False).model
    masked, report = mask_model(dense, 0.3, pattern="auto")
    assert [layer.name for layer in report.layers] == list(sparsifier.masks())
    assert [layer.achieved for layer in report.layers] == [
        layer.achieved for layer in sparsifier.layers
    ]
    arrays = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in masked.graph.initializer
    }
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(arrays[f"{name}.activation_mask"][0, 0] != 0, mask, name)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.3, 0.5, 0.9])
def test_random_masks_have_exactly_the_requested_sparsity(sparsity):
    sparsifier = Sparsifier(make_net(), example(), sparsity, pattern="random")
    for layer, mask in zip(sparsifier.layers, sparsifier.masks().values(), strict=True):
        assert (~mask).sum() == round(sparsity * mask.size), layer
        assert layer.requested == sparsity
        assert layer.achieved == pytest.approx(round(sparsity * mask.size) / mask.size)
    masks, macs = sparsifier.masks(), {x.name: x.macs for x in sparsifier.layers}
    dropped = sum(macs[name] * np.mean(~mask) for name, mask in masks.items())
    assert sparsifier.achieved_sparsity == pytest.approx(dropped / sum(macs.values()))


@pytest.mark.parametrize("pattern", ["lattice", "tiles", "auto"])
@pytest.mark.parametrize("sparsity", [0.2, 0.3, 0.5])
def test_regular_masks_come_near_the_requested_sparsity(pattern, sparsity):
    sparsifier = Sparsifier(make_net(), example(size=(112, 80)), sparsity, pattern=pattern)
    mean = np.mean([layer.achieved for layer in sparsifier.layers])
    assert abs(mean - sparsity) <= 0.03, [layer.achieved for layer in sparsifier.layers]


def test_blocks_are_dropped_whole():
    sparsifier = Sparsifier(make_net(), example(), 0.3, pattern="random", block=2)
    for mask in sparsifier.masks().values():
        even = mask[: mask.shape[0] // 2 * 2, : mask.shape[1] // 2 * 2]
        squares = even.reshape(even.shape[0] // 2, 2, -1, 2)
        assert (squares == squares[:, :1, :, :1]).all()
        assert abs((~mask).sum() - 0.3 * mask.size) <= 2.5


def test_per_layer_and_skips():
    sparsifier = Sparsifier(
        make_net(),
        example(),
        0.3,
        pattern="random",
        per_layer={"blocks.*": 0.5, "blocks.1.conv1": 0.0},
        skip=["*.short"],
        skip_stem=False,
    )
    requested = {layer.name: layer.requested for layer in sparsifier.layers}
    assert requested == {
        "stem": 0.3,
        "blocks.0.conv1": 0.5,
        "blocks.0.conv2": 0.5,
        "blocks.1.conv1": 0.0,
        "blocks.1.conv2": 0.5,
        "last": 0.3,
    }
    assert sparsifier.masks()["blocks.1.conv1"].all()
    only = Sparsifier(make_net(), example(), skip_types=["Block"], skip_kernel_sizes=[(3, 5)])
    assert [layer.name for layer in only.layers] == ["last"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": ["block.0*"]}, r"skip 'block.0\*' matches no convolution; did you mean blocks"),
        ({"per_layer": {"stam": 0.1}, "skip_stem": False}, "per_layer 'stam'.*did you mean stem"),
        ({"per_layer": {"stem": 0.1}}, "only layers left dense .stem: stem."),
        ({"skip_types": ["Blok"]}, "did you mean Block"),
        ({"sparsity": 1.0}, r"outside \[0, 1\)"),
        ({"sparsity": -0.1}, r"outside \[0, 1\)"),
        ({"sparsity": float("nan")}, r"outside \[0, 1\)"),
        *(
            (
                {"sparsity": 0.995, "pattern": pattern},
                r"0.995 keeps no position of: blocks.1.conv1 \(10x8\), .*last \(8x6\); lower it or",
            )
            for pattern in ("random", "tiles", "lattice", "auto")
        ),
        (
            {"sparsity": 0.97, "pattern": "lattice"},
            r"lattice cannot skip sparsity 0.97, .* of: blocks.0.conv1 .*; choose at most 0.96875",
        ),
        (
            {"per_layer": {"last": 0.99}, "pattern": "tiles"},
            r"0.99 keeps no position of: last \(8x6\); lower",
        ),
        (
            {"block": 6, "pattern": "random", "sparsity": 0.8, "skip": ["blocks*"]},
            r"0.8 keeps no position of: last \(8x6\)",
        ),
        ({"block": 7, "pattern": "random"}, "layer last: block 7 is larger than its map of 8x6"),
        ({"block": 2, "pattern": "tiles"}, "block 2"),
        ({"skip": ["*"]}, "no convolution is left to mask .*loosen skip"),
        ({"pattern": "latice"}, "did you mean lattice"),
        ({"fill": "nearst"}, "did you mean nearest"),
        ({"site": "norms"}, "did you mean norm"),
        ({"criterion": "l2norm"}, "did you mean lnorm"),
        ({"schedule": "cubic"}, "choose from polynomial"),
        ({"begin": 0.6, "end": 0.5}, "begin <= end"),
        ({"frequency": 0}, "at least 1"),
        ({"total_steps": 0}, "total_steps=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_options_are_named(options, message):
    model = make_net()
    keys = set(model.state_dict())
    with pytest.raises(ActivsparseError, match=message):
        Sparsifier(model, example(), **options)
    assert set(model.state_dict()) == keys, "the model must be left as it was"


def test_an_input_of_another_size_or_kind_is_named():
    model = make_net()
    with pytest.raises(ActivsparseError, match="does not run on an example input of shape"):
        Sparsifier(model, torch.zeros(1, 2, 8, 8))
    with pytest.raises(ActivsparseError, match="runs no Conv2d"):
        Sparsifier(nn.Flatten(), example())
    Sparsifier(model, example())
    with pytest.raises(ActivsparseError, match="masks belong to one input size"):
        model(example(size=(64, 64)))
    with pytest.raises(ActivsparseError, match="has masks already"):
        Sparsifier(model, example())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_resumed_run_is_bit_equal(variant, stop):
    def build(seed):
        model = make_net(seed)
        options = {"total_steps": 12, "frequency": 2, "begin": 0.1, "end": 0.8}
        sparsifier = Sparsifier(model, example(), 0.4, seed=3, **options, **variant)
        return model, sparsifier, torch.optim.Adam(model.parameters(), 1e-2)

    model, sparsifier, optimizer = build(0)
    train(model, optimizer, sparsifier, 0, 12)

    first, half, half_optimizer = build(0)
    train(first, half_optimizer, half, 0, stop)
    file = io.BytesIO()
    torch.save([first.state_dict(), half_optimizer.state_dict()], file)
    file.seek(0)
    resumed, rest, rest_optimizer = build(1)
    weights, moments = torch.load(file, weights_only=True)
    resumed.load_state_dict(weights)
    rest_optimizer.load_state_dict(moments)
    assert rest.current_step == stop
    train(resumed, rest_optimizer, rest, stop, 12)

    assert sparsifier.frozen
    assert rest.frozen
    assert model.state_dict().keys() == resumed.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_and_averages_keep_their_masks(variant):
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.4, total_steps=8, begin=0.0, end=0.5, **variant)
    average = torch.optim.swa_utils.AveragedModel(model)
    train(model, torch.optim.SGD(model.parameters(), 0.01), sparsifier, 0, 4)
    average.update_parameters(model)
    twin = copy.deepcopy(model).eval()
    model.eval()
    torch.testing.assert_close(twin(example()), model(example()), rtol=0, atol=0)
    torch.testing.assert_close(
        average.module.eval()(example()), model(example()), rtol=1e-6, atol=1e-6
    )
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    train(model, torch.optim.SGD(model.parameters(), 0.1), sparsifier, 4, 6)
    assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())

    both = copy.deepcopy(sparsifier)
    both.step()
    assert both.current_step == 7
    assert sparsifier.current_step == 6
    assert both.model is not model
    thawed = pickle.loads(pickle.dumps(twin))
    torch.testing.assert_close(thawed(example()), twin(example()), rtol=0, atol=0)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("exponential", [False, True])
def test_averages_of_weights_get_the_present_masks(use_buffers, exponential):
    model = make_net()
    options = {"pattern": "random", "fill": "nearest", "total_steps": 8, "begin": 0.0, "end": 0.9}
    sparsifier = Sparsifier(model, example(), 0.4, **options)
    averaging = torch.optim.swa_utils.get_ema_multi_avg_fn(0.5) if exponential else None
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=averaging, use_buffers=use_buffers
    )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(8):
        train(model, optimizer, sparsifier, step, step + 1)
        average.update_parameters(model)
    sparsifier.copy_masks_to(average)
    for key, value in model.state_dict().items():
        if "activation_" in key or "sparsifier_state" in key:
            assert torch.equal(average.module.state_dict()[key], value), key
    twin = make_net()
    expected = Sparsifier(twin, example(), 0.4, **options)
    twin.load_state_dict(average.module.state_dict())
    assert expected.frozen
    average.eval()
    twin.eval()
    torch.testing.assert_close(average(example()), twin(example()), rtol=0, atol=0)
    with pytest.raises(ActivsparseError, match="make it by copying the model"):
        sparsifier.copy_masks_to(make_net())


def test_a_loss_that_is_no_scalar_is_named():
    sparsifier = Sparsifier(make_net(), example(), 0.3, total_steps=5, begin=0)
    sparsifier.step(torch.tensor([0.5]))
    with pytest.raises(ActivsparseError, match=r"shape \(4,\) is no scalar; pass its mean"):
        sparsifier.step(torch.ones(4))


def test_replaced_layers_are_noticed():
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.3)
    sparsifier.check_attached()
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with pytest.raises(ActivsparseError, match=r"blocks.0.conv1.*before making the Sparsifier"):
        sparsifier.check_attached()


def test_frozen_norms_do_not_end_the_dense_steps():
    """A masked norm in evaluation mode, in a model that is trained."""
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.5, total_steps=10, begin=0.5)
    dense = make_net()
    for net in (model, dense):
        net.train()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    assert torch.equal(model(example()), dense(example()))
    assert sparsifier.phase == "dense"
    for _ in range(5):
        sparsifier.step()
    assert sparsifier.phase == "sparse"
    sparsifier.freeze()
    assert sparsifier.phase == "frozen"
    assert not torch.equal(model(example()), dense(example()))


def test_a_model_in_evaluation_mode_stays_in_it():
    model = make_net().eval()
    Sparsifier(model, example(), 0.5, total_steps=10, begin=0.0, schedule="constant")
    other = make_net().eval()
    Sparsifier(other, example(), 0.5, total_steps=None)
    assert torch.equal(model(example()), other(example()))


def test_a_copy_made_on_a_dense_step_follows_its_own_sparsifier():
    model = make_net()
    sparsifier = Sparsifier(
        model, example(), 0.4, total_steps=8, begin=0, end=1, frequency=2, skip=["last"]
    )
    sparsifier.step()
    twin = copy.deepcopy(model)
    sparsifier.step()
    assert not sparsifier.state.bypass
    assert twin.sparsifier_state.bypass
    assert twin.blocks[0].bn1.__dict__["activation_state"] is twin.sparsifier_state


def test_half_precision_keeps_the_state():
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.3, total_steps=9, pattern="random", begin=0)
    sparsifier.step(0.123456)
    masks = sparsifier.masks()
    model.bfloat16().eval()
    assert model(example().bfloat16()).dtype == torch.bfloat16
    assert sparsifier.state.best_loss == pytest.approx(0.123456)
    assert all((mask == masks[name]).all() for name, mask in sparsifier.masks().items())


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_a_state_saved_in_half_precision_goes_on(variant):
    def build(seed):
        model = make_net(seed)
        return model, Sparsifier(model, example(), 0.4, total_steps=8, seed=3, **variant)

    model, sparsifier = build(0)
    train(model, torch.optim.SGD(model.parameters(), 0.01), sparsifier, 0, 5)
    file = io.BytesIO()
    state = model.state_dict()
    half = {k: v.half() for k, v in state.items()}
    torch.save(half, file)
    file.seek(0)
    other, again = build(1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert again.current_step == 5
    assert again.state.best_step == sparsifier.state.best_step
    assert again.state.best_loss == sparsifier.state.best_loss
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(again.masks()[name], mask)
    for key, value in other.state_dict().items():
        assert torch.equal(value, half[key].to(value.dtype)), key
    sparsifier.freeze()
    again.freeze()
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(again.masks()[name], mask)


def test_autocast_keeps_the_lower_precision():
    model = make_net()
    Sparsifier(model, example(), 0.3)
    seen = []
    model.blocks[0].bn1.register_forward_hook(lambda m, a, y: seen.append((a[0].dtype, y.dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        model(example())
    assert seen == [(torch.bfloat16, torch.bfloat16)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_export_is_standard_onnx(variant):
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.4, **variant)
    model.eval()
    program = torch.onnx.export(model, (example(1),), dynamo=True, verbose=False)
    exported = program.model_proto
    onnx.checker.check_model(exported, full_check=True)
    assert {node.domain for node in exported.graph.node} == {""}
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in exported.graph.initializer}
    if variant["fill"] == "zero":
        used = [
            constants[name]
            for node in exported.graph.node
            if node.op_type == "Mul"
            for name in node.input
            if name in constants
        ]
        assert len(used) == len(sparsifier.layers)
        for found, mask in zip(used, sparsifier.masks().values(), strict=True):
            np.testing.assert_array_equal(found, mask[None, None].astype(np.float32))
    else:
        gathers = [node for node in exported.graph.node if node.op_type == "Gather"]
        assert len(gathers) == len(sparsifier.layers)
    session = onnxruntime.InferenceSession(exported.SerializeToString())
    x = example(1, seed=5)
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(result, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_nearest_fill_copies_the_nearest_kept_value():
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.5, pattern="lattice", fill="nearest", site="conv")
    mask = sparsifier.masks()["last"]
    outputs = {}
    model.last.register_forward_hook(lambda m, args, y: outputs.update(x=args[0], y=y))
    model.eval()(example())
    dense = nn.functional.conv2d(outputs["x"], model.last.weight, model.last.bias)
    kept = np.argwhere(mask)
    for y, x in np.ndindex(*mask.shape):
        distance = np.abs(kept - [y, x]).sum(1)
        near = kept[distance == distance.min()] if not mask[y, x] else [[y, x]]
        got = outputs["y"][:, :, y, x]
        assert any(torch.equal(got, dense[:, :, i, j]) for i, j in near), (y, x)


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
def test_torch_compile_trains_the_same_network(backend):
    """Dense, sparse and frozen steps; new masks need no new compilation but for those modes."""

    def build():
        model = make_net()
        options = {"total_steps": 10, "begin": 0, "end": 0.7, "frequency": 2, "pattern": "random"}
        return model, Sparsifier(model, example(), 0.4, **options)

    model, sparsifier = build()
    train(model, torch.optim.SGD(model.parameters(), 0.05), sparsifier, 0, 10)
    torch._dynamo.reset()
    twin, other = build()
    compiled = torch.compile(twin, backend=backend)
    optimizer = torch.optim.SGD(twin.parameters(), 0.05)
    train(compiled, optimizer, other, 0, 6)
    compilations = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    train(compiled, optimizer, other, 6, 10)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compilations
    assert other.frozen
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(other.masks()[name], mask)
    tolerance = 0 if backend == "eager" else 1e-4
    for key, value in model.state_dict().items():
        torch.testing.assert_close(
            twin.state_dict()[key],
            value,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, k=key: k + m,
        )


def test_a_sequential_model_still_runs():
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4)]
    model = nn.Sequential(*layers)
    sparsifier = Sparsifier(
        model, example(), 0.5, pattern="random", skip_stem=False, skip_head=False
    )
    assert [layer.host for layer in sparsifier.layers] == ["1", "3"]
    dropped = ~torch.from_numpy(sparsifier.masks()["3"])
    assert (model(example())[:, :, dropped] == 0).all()


def test_detach_gives_the_dense_network_back():
    model = make_net()
    expected = copy.deepcopy(model).eval()(example())
    sparsifier = Sparsifier(model, example(), 0.5)
    assert not torch.equal(model.eval()(example()), expected)
    sparsifier.detach()
    assert torch.equal(model(example()), expected)
    assert set(model.state_dict()) == set(Net().state_dict())
    Sparsifier(model, example())


def test_constant_schedule_is_sparse_from_begin():
    model = make_net()
    sparsifier = Sparsifier(
        model, example(), 0.5, pattern="lattice", schedule="constant", begin=0.5, total_steps=10
    )
    assert sparsifier.achieved_sparsity == 0.0
    for _ in range(5):
        sparsifier.step()
    assert sparsifier.achieved_sparsity == pytest.approx(0.5, abs=0.03)
    assert not sparsifier.frozen


def test_polynomial_schedule_raises_regular_masks_step_by_step():
    sparsifier = Sparsifier(
        make_net(), example(size=(112, 112)), 0.5, pattern="lattice", begin=0, total_steps=20
    )
    seen = []
    for _ in range(20):
        seen.append(sparsifier.achieved_sparsity)
        sparsifier.step()
    assert seen[0] == 0.0
    assert np.diff(seen).min() > -0.05
    assert seen[-1] == pytest.approx(0.5, abs=0.03)
    assert sparsifier.frozen


def test_reprs_list_the_masked_layers_and_dump_no_model():
    model = make_net()
    sparsifier = Sparsifier(model, example(), 0.3, pattern="lattice")
    exported = convert(model, example())
    for text in (repr(sparsifier), repr(model), repr(exported)):
        for layer in sparsifier.layers:
            assert f"{layer.name} {layer.shape[0]}x{layer.shape[1]}" in text
        assert len(text) < 4000
    assert "frozen, masked: " in repr(copy.deepcopy(model))
    assert "frozen, masked: " in repr(pickle.loads(pickle.dumps(model)))
