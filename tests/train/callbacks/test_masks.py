"""SparsifierCallback in a LightningModule that is not ours."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from small_networks import Net, example
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from activsparse import ActivsparseError
from activsparse.train import SparsifierCallback
from activsparse.train.callbacks import steps
from activsparse.train.run.quiet import quiet_lightning


class Mine(pl.LightningModule):
    """Keeps its layers in itself, logs nothing."""

    def __init__(self, image: torch.Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Net()
        self.example_input_array = image

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

    def train_dataloader(self):
        images = torch.cat([example(4, seed=s) for s in range(6)])
        return DataLoader(TensorDataset(images, torch.arange(24) % 5), 4)


def fit(module, callback, epochs, folder, checkpoint=None, **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )
    with quiet_lightning():
        trainer.fit(module, ckpt_path=checkpoint)
    return trainer


def test_options_alone_are_enough(tmp_path):
    module = Mine(example())
    callback = SparsifierCallback(sparsity=0.3, pattern="random", end=0.5)
    fit(module, callback, 2, tmp_path)
    assert callback.sparsifier.schedule.end == 6, "12 steps were counted by the trainer"
    assert callback.sparsifier.current_step == 12
    assert callback.sparsifier.frozen
    assert callback.sparsifier.state.best_step >= 1
    assert "net.blocks.0.bn1.activation_mask" in module.state_dict()


def test_accumulated_batches_are_one_step(tmp_path):
    callback = SparsifierCallback(example_input=example(), pattern="random")
    fit(Mine(), callback, 2, tmp_path, accumulate_grad_batches=3)
    assert callback.sparsifier.current_step == 4


def test_resuming_from_a_checkpoint(tmp_path):
    options = {"sparsity": 0.3, "pattern": "random", "total_steps": 18, "end": 0.8}
    whole = SparsifierCallback(**options)
    module = Mine(example())
    fit(module, whole, 3, tmp_path)

    half = Mine(example())
    fit(half, SparsifierCallback(**options), 2, tmp_path).save_checkpoint(tmp_path / "half.ckpt")
    rest = SparsifierCallback(**options)
    resumed = Mine(example())
    fit(resumed, rest, 3, tmp_path, str(tmp_path / "half.ckpt"))
    for key, value in module.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    for name, mask in whole.sparsifier.masks().items():
        np.testing.assert_array_equal(rest.sparsifier.masks()[name], mask)


def trainer_for(callback, folder, epochs=1):
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


class Whole(Mine):
    """With all stages."""

    def validation_step(self, batch, batch_idx):
        self.seen = self(batch[0])

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self(batch[0])


def masks_of(module):
    return {k: v for k, v in module.state_dict().items() if k.endswith("activation_mask")}


def test_each_model_gets_masks_of_its_own(tmp_path):
    callback = SparsifierCallback(sparsity=0.3, pattern="random", end=0.5)
    made = []
    for _ in range(2):
        module = Mine(example())
        fit(module, callback, 1, tmp_path)
        made.append(callback.sparsifier)
        assert made[-1].model is module
        assert made[-1].frozen
        assert len(masks_of(module)) == len(made[-1].layers)
    fit(module, callback, 1, tmp_path)
    assert callback.sparsifier is made[1], "the same network goes on"
    assert callback.sparsifier.current_step == 12
    with pytest.raises(ActivsparseError, match="does not hold the network of this"):
        fit(Mine(example()), SparsifierCallback(made[0]), 1, tmp_path)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_stages_leave_the_module_as_it_is(tmp_path, stage):
    options = {"sparsity": 0.3, "pattern": "random", "end": 0.5}
    loader = Mine().train_dataloader()
    with quiet_lightning():
        module, callback = Whole(example()), SparsifierCallback(**options)
        before = {k: v.clone() for k, v in module.state_dict().items()}
        getattr(trainer_for(callback, tmp_path), stage)(module, loader)
        assert module.state_dict().keys() == before.keys(), "no masks before training"

        trainer = fit(module, callback, 1, tmp_path)
        trained = {k: v.clone() for k, v in module.state_dict().items()}
        getattr(trainer_for(callback, tmp_path), stage)(module, loader)
        assert all(torch.equal(v, trained[k]) for k, v in module.state_dict().items())

        trainer.save_checkpoint(tmp_path / "whole.ckpt")
        fresh, other = Whole(example()), SparsifierCallback(**options)
        file = str(tmp_path / "whole.ckpt")
        getattr(trainer_for(other, tmp_path), stage)(fresh, loader, ckpt_path=file)
        assert fresh.state_dict().keys() == trained.keys()
        assert all(torch.equal(v, trained[k]) for k, v in fresh.state_dict().items())
        assert other.sparsifier.frozen


def test_steps_are_counted_once_and_looked_at_where_needed(tmp_path, monkeypatch):
    seen = []
    agree = steps.agree
    monkeypatch.setattr(steps, "agree", lambda *a, **k: seen.append(a) or agree(*a, **k))
    first = SparsifierCallback(sparsity=0.3, pattern="random", begin=0.25, end=0.5)

    class Listener(steps.StepCallback):
        heard = 0

        def on_optimizer_step(self, trainer, pl_module, step):
            self.heard += 1
            assert trainer.global_step == self.heard == first.sparsifier.current_step

    second = Listener()
    module = Mine(example())
    trainer = trainer_for(first, tmp_path, epochs=2)
    trainer.callbacks.append(second)
    with quiet_lightning():
        trainer.fit(module)
    assert second.heard == 12
    assert [args[3] for args in seen] == [3, 4, 5], "the pruning steps"


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ActivsparseError, match="has no example_input_array"):
        fit(Mine(), SparsifierCallback(), 1, tmp_path)
    with pytest.raises(ActivsparseError, match=r"no end.*max_epochs"):
        fit(Mine(example()), SparsifierCallback(), -1, tmp_path)
    with pytest.raises(ActivsparseError, match="call fit first"):
        _ = SparsifierCallback().sparsifier
    callback = SparsifierCallback(example_input=example())
    fit(Mine(), callback, 1, tmp_path)
    with pytest.raises(ActivsparseError, match="not both"):
        SparsifierCallback(callback.sparsifier, sparsity=0.5)
