"""What a teacher adds to the loss, against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.train.learning.distill import Teacher
from activsparse.train.phase import make_teacher
from activsparse.train.recipes.read import load_config
from activsparse.train.tasks.classification import Classifier


class Logits(nn.Module):
    """Sums over the plane of each channel; four channels are four classes."""

    def forward(self, x):
        return x.sum((2, 3))


MEAN, STD = [0.5, 0.4, 0.3, 0.2], [0.2, 0.3, 0.4, 0.5]


def divergence(student, teacher, temperature):
    """KL(teacher || student), mean over the batch, in double precision."""
    p = scipy.special.softmax(teacher / temperature, 1)
    q = scipy.special.softmax(student / temperature, 1)
    return (p * (np.log(p) - np.log(q))).sum(1).mean()


@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_the_weighted_divergence(only, temperature):
    generator = torch.Generator().manual_seed(0)
    images, logits = torch.randn(5, 4, 2, 2, generator=generator), torch.randn(5, 4)
    teacher = Teacher(Logits(), MEAN, STD, weight=5.0, only=only, temperature=temperature)
    found = teacher.loss(images, logits, torch.tensor(0.7))
    theirs = images.double().sum((2, 3)).numpy()
    expected = 5.0 * temperature**2 * divergence(logits.double().numpy(), theirs, temperature)
    assert float(found) == pytest.approx(expected + (0 if only else 0.7), rel=1e-5)
    same = Teacher(Logits(), MEAN, STD, only=True).loss(images, images.sum((2, 3)), torch.tensor(9))
    assert float(same) == pytest.approx(0, abs=1e-6)


def test_a_teacher_sees_images_normalised_its_own_way():
    pixels = torch.rand(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    own_mean, own_std = [0.1, 0.2, 0.3, 0.4], [1.0, 0.5, 0.25, 2.0]

    def normalised(mean, std):
        mean, std = (torch.tensor(v)[:, None, None] for v in (mean, std))
        return (pixels - mean) / std

    seen = []
    network = Logits()
    network.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    teacher = Teacher(network, MEAN, STD, own_mean=own_mean, own_std=own_std)
    teacher.loss(normalised(MEAN, STD), torch.zeros(3, 4), torch.tensor(0.0))
    torch.testing.assert_close(seen[0], normalised(own_mean, own_std), rtol=1e-5, atol=1e-5)
    with pytest.raises(ActivsparseError, match=r"each of 4 channels.*distillation.mean"):
        Teacher(network, MEAN, STD, own_mean=[0.5])


def test_a_teacher_is_frozen_and_no_part_of_the_student():
    network = nn.Sequential(nn.Conv2d(4, 4, 1), Logits())
    teacher = Teacher(network, MEAN, STD)
    logits = torch.zeros(2, 4, requires_grad=True)
    teacher.loss(torch.randn(2, 4, 3, 3), logits, torch.tensor(0.0)).backward()
    assert logits.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert not network.training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distillation={}"], "no dense phase to be the teacher"),
        (["distillation.model.name=small_resnet"], "teacher small_resnet has no weights"),
        (["distillation.teacher=/nowhere"], "/nowhere: no such folder"),
        (
            ["distillation={}", "distillation.image_size=12"],
            r"distillation.image_size 12x12 is smaller .* \(16x16\)",
        ),
    ],
)
def test_teachers_that_cannot_be_had_are_named(overrides, message):
    config = load_config("digits_demo", overrides)
    with pytest.raises(ActivsparseError, match=message):
        make_teacher(config, build_data("digits", image_size=16))


def test_a_teacher_may_be_a_network_with_a_file_of_weights(tmp_path):
    data = build_data("digits", image_size=16)
    network = {"name": "small_resnet", "options": {"widths": [4, 8], "blocks": [1, 1]}}
    from activsparse.models import build_model

    trained = build_model("small_resnet", 10, in_channels=1, **network["options"])
    torch.save(trained.state_dict(), tmp_path / "teacher.pt")
    section = {"model": {**network, "weights": str(tmp_path / "teacher.pt")}, "only": True}
    teacher = make_teacher(load_config("digits_demo", [f"distillation={section}"]), data)
    assert teacher.only
    for key, value in teacher.network.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key


def test_the_teacher_sees_the_whole_image_and_the_network_a_smaller_one():
    seen = {}

    def watched(name, classes=10):
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, classes))
        network.register_forward_pre_hook(lambda m, args: seen.update({name: args[0]}))
        return network

    teacher = Teacher(watched("teacher"), [0.5], [0.5])
    training = load_config("digits_demo").training
    learner = Classifier(watched("network"), training, (1, 12, 12), 10, 1, teacher)
    learner.log = lambda *args, **kwargs: None
    images = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    learner.training_step((images, torch.arange(4)), 0)
    assert torch.equal(seen["teacher"], images)
    small = torch.nn.functional.interpolate(images, (12, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen["network"], small)
