"""Mean average precision of a detector whose answers are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from activsparse.detect.data import DetectionData
from activsparse.detect.module import Detector
from activsparse.detect.sample import Sample
from activsparse.models.yolov5 import YoloV5
from activsparse.train.recipes.config import TrainingSection

pytest.importorskip("pycocotools")
BOX = torch.tensor([[8.0, 16, 28, 36], [36, 20, 56, 40]])


class Known(nn.Module):
    """Finds the first `count` objects of each picture, moved to the right by `shift` pixels."""

    def __init__(self, shift: float, count: int) -> None:
        super().__init__()
        centres = (BOX[:, :2] + BOX[:, 2:]) / 2 + torch.tensor([shift, 0.0])
        # Centre, size, objectness, then both classes: the labels are 0 and 1.
        rows = torch.cat([centres, BOX[:, 2:] - BOX[:, :2], torch.ones(2, 1), torch.eye(2)], 1)
        self.rows = torch.cat([rows[:count], torch.zeros(6, 7)])

    def forward(self, x):
        return self.rows.expand(len(x), -1, -1)


# 20 pixels wide: a shift of s leaves an overlap of (20 - s) / (20 + s). One of two classes found
# is half; COCO's thresholds are 0.5, 0.55, ..., 0.95.
@pytest.mark.parametrize(
    ("shift", "count", "map50", "mean"),
    [(0, 2, 1, 1), (0, 1, 0.5, 0.5), (3, 2, 1, 0.5), (7.5, 2, 0, 0)],
)
def test_figures_follow_from_what_is_found(shift, count, map50, mean, monkeypatch):
    pictures = [Sample(torch.zeros(3, 64, 64).byte(), BOX, torch.tensor([0, 1]))] * 3
    data = DetectionData(pictures, pictures, None, 2, (64, 64), 2)
    learner = Detector(YoloV5(2, width=0.125), TrainingSection(epochs=1), (3, 64, 64), 2, 1)
    learner.model = Known(shift, count)
    logged = {}
    monkeypatch.setattr(learner, "log", lambda name, value: logged.update({name: float(value)}))
    for _ in range(2):  # the second time nothing of the first is left
        for index, batch in enumerate(data.val_dataloader()):
            learner.validation_step(batch, index)
        learner.on_validation_epoch_end()
        assert logged == pytest.approx({"val_map50": map50, "val_map": mean}, abs=1e-6)
