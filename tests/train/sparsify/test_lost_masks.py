"""Masks that a change to the model takes away, or an average spoils, are noticed."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from small_networks import example, make_net
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from activsparse import ActivsparseError
from activsparse.train import Sparsifier
from activsparse.train.sparsify.hooks import held_masks


def _fuse(net):
    block = net.blocks[0]
    block.conv1 = nn.utils.fuse_conv_bn_eval(block.conv1.eval(), block.bn1.eval())
    block.bn1 = nn.Identity()


def _to_sync(net):
    nn.SyncBatchNorm.convert_sync_batchnorm(net)


def _replace_conv(net):
    net.blocks[0].conv1 = copy.deepcopy(net.blocks[0].conv1)


def _replace_parent(net):
    net.blocks[0] = copy.deepcopy(net.blocks[0])


def _lose_hooks(net):
    for module in net.modules():
        module._forward_hooks.clear()


def _quantise(net):
    prepared = torch.ao.nn.intrinsic.ConvBn2d(net.blocks[0].conv1, net.blocks[0].bn1)
    net.blocks[0].conv1, net.blocks[0].bn1 = copy.deepcopy(prepared), nn.Identity()


CHANGES = [_fuse, _to_sync, _replace_conv, _replace_parent, _lose_hooks, _quantise]


@pytest.mark.parametrize("site", ["norm", "conv"])
@pytest.mark.parametrize("fill", ["zero", "nearest"])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_models_are_refused(change, fill, site):
    net = make_net()
    sparsifier = Sparsifier(net, example(), 0.3, total_steps=9, fill=fill, site=site)
    sparsifier.step()
    twin = copy.deepcopy(net)
    change(net)
    for use in (sparsifier.step, sparsifier.freeze, lambda: held_masks(net)):
        with pytest.raises(ActivsparseError, match=r"layer blocks.0.conv1: its mask is lost"):
            use()
    assert held_masks(twin).keys() == sparsifier.requested.keys()
    change(twin)
    with pytest.raises(ActivsparseError, match="its mask is lost"):
        held_masks(nn.Sequential(twin))


@pytest.mark.parametrize("parent", ["blocks", ""])
def test_wrappers_are_no_change(parent):
    net = make_net()
    sparsifier = Sparsifier(net, example(), 0.3, total_steps=9)
    if parent:
        setattr(net, parent, torch.compile(getattr(net, parent), backend="eager"))
    sparsifier.step()
    whole = torch.compile(net, backend="eager")
    for wrapped in (whole, nn.DataParallel(net), nn.Sequential(net), copy.deepcopy(net)):
        assert len(held_masks(wrapped)) == len(sparsifier.layers)
    with pytest.raises(ActivsparseError, match="has masks already"):
        Sparsifier(whole, example())
    sparsifier.detach()
    assert held_masks(net) == {}
    with pytest.raises(ActivsparseError, match="its mask is lost"):
        sparsifier.step()


def test_a_part_of_the_model_holds_its_masks():
    net = make_net()
    masks = Sparsifier(net, example(), 0.3).masks()
    part = copy.deepcopy(net.blocks[1])
    held = held_masks(part)
    assert held
    for name, mask in held.items():
        np.testing.assert_array_equal(mask.mask, masks[f"blocks.1.{name}"])


def _swa(net):
    average = AveragedModel(net, use_buffers=True)
    return average.module, lambda: average.update_parameters(net)


def _ema(net):
    rule = get_ema_multi_avg_fn(0.9)
    average = AveragedModel(net, multi_avg_fn=rule, use_buffers=True)
    return average.module, lambda: average.update_parameters(net)


def _yolo(net, decay=0.9):
    average = copy.deepcopy(net).eval()

    def update():
        new = net.state_dict()
        for key, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value *= decay
                value += (1 - decay) * new[key].detach()

    return average, update


def _timm(name, decay):
    def make(net):
        timm = pytest.importorskip("timm.utils")
        average = getattr(timm, name)(net, decay=decay)
        return average.module, lambda: average.update(net)

    return make


AVERAGES = {
    "swa": _swa,
    "ema": _ema,
    "yolo": _yolo,
    "timm v2": _timm("ModelEmaV2", 0.9),
    "timm v2 slow": _timm("ModelEmaV2", 0.9999),
    "timm v3": _timm("ModelEmaV3", 0.9999),
}


@pytest.mark.parametrize("fill", ["zero", "nearest"])
@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averages_hold_the_masks_or_are_refused(kind, schedule, fill):
    net = make_net()
    options = {"fill": fill, "schedule": schedule, "pattern": "random", "total_steps": 12}
    sparsifier = Sparsifier(net, example(), 0.4, **options)
    average, update = AVERAGES[kind](net)
    for _ in range(12):
        sparsifier.step()
        with torch.no_grad():
            update()
    with pytest.raises(ActivsparseError, match=r"an average of several masks.*copy_masks_to"):
        held_masks(average)
    sparsifier.copy_masks_to(average)
    for name, held in held_masks(average).items():
        np.testing.assert_array_equal(held.mask, sparsifier.masks()[name])


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.99999])
def test_averages_of_one_mask_are_that_mask(decay):
    net = make_net()
    sparsifier = Sparsifier(net, example(), 0.4)  # frozen at once
    average, update = _yolo(net, decay)
    with torch.no_grad():
        for _ in range(50):
            update()
    for name, held in held_masks(average).items():
        np.testing.assert_array_equal(held.mask, sparsifier.masks()[name])


def test_state_dicts_of_averages_are_refused_too():
    net = make_net()
    sparsifier = Sparsifier(net, example(), 0.4, total_steps=5)
    average, update = _yolo(net)
    for _ in itertools.repeat(None, 5):
        sparsifier.step()
        with torch.no_grad():
            update()
    net.load_state_dict(average.state_dict())
    with pytest.raises(ActivsparseError, match="copy_masks_to"):
        sparsifier.masks()
