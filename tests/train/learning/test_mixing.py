"""Mixed images and labels (`training.mixup`, `cutmix`) against their definitions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from activsparse.train.recipes.config import TrainingSection
from activsparse.train.tasks.classification import Classifier

SIZE, CLASSES = 12, 5


class Recorder(nn.Module):
    """Gives free logits, and keeps the images it sees."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(batch, CLASSES))
        self.seen: torch.Tensor | None = None

    def forward(self, images):
        self.seen = images
        return self.logits


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_images_are(kind, seed, monkeypatch):
    torch.manual_seed(seed)
    images, labels = torch.randn(6, 1, SIZE, SIZE), torch.arange(6) % CLASSES
    model = Recorder(len(labels))
    options = TrainingSection(**{kind: 1.0}, label_smoothing=0.0)
    module = Classifier(model, options, (1, SIZE, SIZE), CLASSES, 1)
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    module.training_step((images, labels), 0).backward()

    # The mean cross-entropy's gradient by logits of zero is (1 / classes - target) / images.
    targets = 1 / CLASSES - model.logits.grad * len(labels)
    # Each image is mixed with its neighbour in the batch.
    others = images.roll(1, 0)
    if kind == "cutmix":
        pasted = (model.seen == others).all(1)
        assert ((model.seen == images).all(1) | pasted).all()
        kept = 1 - pasted[0].float().mean()
    else:
        kept = ((model.seen - others) / (images - others))[0, 0, 0, 0]
        torch.testing.assert_close(
            model.seen, kept * images + (1 - kept) * others, rtol=1e-4, atol=1e-4
        )
    expected = kept * one_hot(labels, CLASSES) + (1 - kept) * one_hot(labels.roll(1), CLASSES)
    torch.testing.assert_close(targets, expected, rtol=1e-3, atol=1e-4, msg=f"{kind} seed {seed}")
