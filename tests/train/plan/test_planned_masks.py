"""Chosen equals achieved: a plan's masks bit for bit in training, in the export, in `mask`."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_networks import example, make_net

from activsparse import ActivsparseError
from activsparse.export.mask_by_plan import mask_by_plan
from activsparse.export.onnx import convert
from activsparse.masks.exact import DenseMask, LatticeMask, RandomMask, TilesMask
from activsparse.masks.mask_plan import MaskPlan, PlannedLayer
from activsparse.masks.mask_plan_file import write_mask_plan
from activsparse.train import Sparsifier
from activsparse.train.plan.masked_network import MaskedNetwork
from activsparse.train.sparsify.candidates import search_masks
from activsparse.train.sparsify.layers import find_layers


def make_plan(net: torch.nn.Module, site: str = "norm") -> MaskPlan:
    """One mask of each kind."""
    layers = {layer.name: layer for layer in find_layers(net, example())}
    masks = {
        "blocks.0.conv1": (TilesMask(12, 11, 4, 1), "zero"),
        "blocks.0.conv2": (LatticeMask(Fraction(2, 5), 3), "nearest"),
        "blocks.1.conv1": (RandomMask(0.4, 2, 5), "zero"),
        "blocks.1.conv2": (DenseMask(), "zero"),
        "last": (LatticeMask(Fraction(1, 3), 0), "zero"),
    }
    planned = {n: PlannedLayer(layers[n].shape, exact, fill) for n, (exact, fill) in masks.items()}
    return MaskPlan((37, 29), planned, site)


def masks_in(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """What the constants of a file say, read without the package."""
    found = {}
    for tensor in model.graph.initializer:
        name, _, kind = tensor.name.rpartition(".")
        values = numpy_helper.to_array(tensor)
        if kind == "activation_mask":
            found[name] = values[0, 0] != 0
        elif kind == "activation_source":
            found[name] = values == np.arange(values.size)
    return found


@pytest.mark.parametrize("total_steps", [None, 10])
def test_the_masks_of_training_export_and_mask_are_the_plans(total_steps, tmp_path):
    net = make_net()
    plan = make_plan(net)
    dense = convert(make_net().eval(), example(1)).model
    write_mask_plan(plan, tmp_path / "plan.yaml")
    sparsifier = Sparsifier(net, example(), plan=tmp_path / "plan.yaml", total_steps=total_steps)
    expected = plan.masks()
    assert len(expected) == 4
    for step in range(10):
        if sparsifier.phase != "dense" or step >= 9:
            for name, mask in sparsifier.masks().items():
                np.testing.assert_array_equal(mask, expected[name], err_msg=f"{name} {step}")
        sparsifier.step(1.0)
    assert sparsifier.frozen
    assert sparsifier.masks().keys() == expected.keys()
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(mask, expected[name], err_msg=name)
    assert {layer.name: layer.requested for layer in sparsifier.layers} == plan.sparsities()

    exported = masks_in(convert(net.eval(), example(1)).model)
    masked, report = mask_by_plan(dense, plan)
    for found in (exported, masks_in(masked)):
        assert found.keys() == expected.keys()
        for name, mask in found.items():
            np.testing.assert_array_equal(mask.reshape(expected[name].shape), expected[name])
    assert {layer.name: layer.achieved for layer in report.layers} == plan.sparsities()
    assert report.dense["stem"] == "mask plan"


@pytest.mark.parametrize("site", ["norm", "conv"])
def test_exchanged_masks_act_as_a_sparsifiers(site):
    net, x = make_net(), example(4, seed=3)
    plan = make_plan(net, site)
    layers = find_layers(net, example())
    fills = {name: layer.fill for name, layer in plan.masked().items()}
    with torch.no_grad():
        dense = net.eval()(x)
        with MaskedNetwork(net, layers, site).attached() as network:
            network.set_masks({n: (mask, fills[n]) for n, mask in plan.masks().items()})
            exchanged = net(x)
            network.set_masks({})
            torch.testing.assert_close(net(x), dense, rtol=0, atol=0)
        torch.testing.assert_close(net(x), dense, rtol=0, atol=0)
        Sparsifier(net, example(), plan=plan)
        torch.testing.assert_close(net(x), exchanged, rtol=0, atol=0)
    assert not torch.equal(exchanged, dense)


def test_a_plan_of_another_network_is_refused():
    net = make_net()
    plan = make_plan(net)
    with pytest.raises(ActivsparseError, match="input of 37x29, the network's is 32x32"):
        Sparsifier(net, example(size=(32, 32)), plan=plan)
    other = replace(plan, layers={**plan.layers, "gone": plan.layers["last"]})
    with pytest.raises(ActivsparseError, match="layer gone is none of the network"):
        Sparsifier(net, example(), plan=other)
    dense = convert(net.eval(), example(1)).model
    with pytest.raises(ActivsparseError, match=r"m\.onnx: mask plan: layer gone"):
        mask_by_plan(dense, other, name="m.onnx")


def test_a_search_among_phases_shifts_them_and_is_remembered():
    net, x = make_net(), example(4, seed=3)
    plan = make_plan(net)
    sparsifier = Sparsifier(net, example(), plan=plan)
    batches = [(x, torch.arange(4) % 5)]
    choice = search_masks(sparsifier, batches, torch.nn.functional.cross_entropy, candidates=6)
    masks = sparsifier.masks()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    again = make_net()
    other = Sparsifier(again, example(), plan=plan)
    again.load_state_dict(state)
    for name, mask in other.masks().items():
        np.testing.assert_array_equal(mask, masks[name])
        assert abs(mask.mean() - plan.masks()[name].mean()) < 0.05
    assert (choice.winner == 0) == all(
        np.array_equal(mask, plan.masks()[name]) for name, mask in masks.items()
    )
    changed = replace(plan, layers={**plan.layers, "last": plan.layers["blocks.1.conv2"]})
    changed = replace(changed, layers={n: v for n, v in changed.layers.items() if n != "last"})
    third = make_net()
    Sparsifier(third, example(), plan=changed)
    with pytest.raises((ActivsparseError, RuntimeError)):
        third.load_state_dict(state)
