"""The `paper` recipe's procedure against an independent implementation, step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from paper_oracle import PaperOracle
from small_networks import example, make_net
from torch import nn

from activsparse.masks import propagate
from activsparse.masks.maker import score_map
from activsparse.train import Sparsifier
from activsparse.train.recipes.read import load_config

STEPS = 30
SECTION = load_config("paper_resnet18_flowers102").sparsity
PAPER = {
    name: getattr(SECTION, name)
    for name in ("pattern", "block", "fill", "site", "schedule", "skip_stem", "skip_kernel_sizes")
}


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize(
    ("criterion", "frequency", "initial", "sparsity"),
    [("lnorm", 1, 0.0, 0.3), ("lnorm", 3, 0.05, 0.25), ("random", 2, 0.0, 0.5)],
)
def test_every_step_equals_the_oracle(seed, criterion, frequency, initial, sparsity):
    model = make_net(seed)
    ours = Sparsifier(
        model,
        example(),
        sparsity,
        criterion=criterion,
        frequency=frequency,
        initial_sparsity=initial,
        begin=0.1,
        end=0.8,
        total_steps=STEPS,
        seed=seed,
        **PAPER,
    )
    shapes = {layer.name: layer.shape for layer in ours.layers}
    assert shapes == {
        "stem": (19, 15),
        "blocks.0.conv1": (19, 15),
        "blocks.0.conv2": (19, 15),
        "blocks.1.conv1": (10, 8),
        "blocks.1.conv2": (10, 8),
        "last": (8, 6),
    }
    oracle = PaperOracle(shapes, (37, 29), sparsity, 3, 24, frequency, initial, seed, criterion)
    losses = np.random.default_rng(seed).random(STEPS)
    sparse_outputs = _record_outputs(model)
    for step in range(STEPS):
        where = f"seed {seed} step {step}"
        assert ours.frozen == (oracle.frozen is not None), where
        for name, mask in ours.masks().items():
            np.testing.assert_array_equal(mask, oracle.masks[name], err_msg=f"{where} {name}")
        if oracle.frozen is None and not oracle.dense:
            now = oracle.sparsity(step)
            for layer in ours.layers:
                count = layer.shape[0] * layer.shape[1]
                assert layer.achieved == pytest.approx(round(now * count) / count, abs=1e-12), where
            if criterion == "lnorm":
                drawn = score_map((37, 29), seed, step)
                for name, expected in oracle.maps(step).items():
                    pooled = propagate(drawn, shapes[name])
                    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-7, err_msg=where)
        for training in (True, False):
            model.train(training)
            with torch.no_grad():
                model(example())
            for name, output in sparse_outputs.items():
                zero = (output == 0).all(dim=(0, 1)).numpy()
                dense = training and oracle.dense
                expected = np.zeros_like(zero) if dense else ~oracle.masks[name]
                np.testing.assert_array_equal(zero, expected, err_msg=f"{where} {name} {training}")
        if oracle.best[1] is not None and criterion == "lnorm":
            best = ours.state.best_step
            expected = np.random.default_rng([seed, best]).random((37, 29), dtype=np.float32)
            np.testing.assert_array_equal(ours.score_map, expected)
        ours.step(losses[step])
        oracle.finish(losses[step])
    for layer in ours.layers:
        count = layer.shape[0] * layer.shape[1]
        assert layer.achieved == pytest.approx(round(sparsity * count) / count, abs=1e-12), layer


def _record_outputs(model: nn.Module) -> dict[str, torch.Tensor]:
    """Outputs of the masked convolutions in the latest forward pass."""
    outputs: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.register_forward_hook(lambda m, a, y, name=name: outputs.__setitem__(name, y))
    return outputs


def test_without_losses_the_latest_map_is_kept():
    ours = Sparsifier(make_net(), example(), total_steps=20, begin=0.0, end=0.5, **PAPER)
    for _ in range(10):
        latest = ours.masks()
        ours.step()
    assert ours.frozen
    oracle_map = np.random.default_rng([0, 9]).random((37, 29), dtype=np.float32)
    np.testing.assert_array_equal(ours.score_map, oracle_map)
    # The sparsity still rose a little from step 9 to the end, so kept positions can only go.
    assert all((mask <= latest[name]).all() for name, mask in ours.masks().items())


def test_a_loss_that_is_not_a_number_is_never_the_best():
    ours = Sparsifier(make_net(), example(), total_steps=10, begin=0.0, end=0.9, **PAPER)
    for loss in [float("nan"), 2.0, float("nan"), 1.0, 1.5]:
        ours.step(loss)
    assert ours.state.best_step == 3
