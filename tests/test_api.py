"""The names of `activsparse` itself: masks, export, checks and times in one's own loop."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import activsparse
from activsparse import ActivsparseError, Session
from activsparse.export.mask import mask_model
from activsparse.export.read import read_masks
from activsparse.models import SmallResNet
from activsparse.train import Sparsifier


@pytest.fixture
def network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return SmallResNet(3, 3, widths=(8, 16), blocks=(1, 1)).eval()


@pytest.fixture
def example():
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_a_loop_ends_with_an_export_a_check_and_a_speed(network, example):
    sparsifier = activsparse.sparsify(network, example, 0.3, pattern="lattice")
    assert isinstance(sparsifier, Sparsifier)
    exported = activsparse.export(network, example, "masked.onnx", dense="dense.onnx")
    assert read_masks("masked.onnx").keys() == {x.name for x in sparsifier.layers}
    assert exported.masks.keys() == read_masks("masked.onnx").keys()
    with torch.no_grad():
        expected = network(example).numpy()
    np.testing.assert_allclose(Session("masked.onnx").run(example), expected, atol=1e-4)
    sparsifier.detach()
    with torch.no_grad():
        expected = network(example).numpy()
    np.testing.assert_allclose(Session("dense.onnx").run(example), expected, atol=1e-4)

    rows = activsparse.verify("masked.onnx")
    assert rows
    assert all(row.holds for row in rows)
    assert repr(rows).splitlines() == [str(row) for row in rows]
    assert str(rows[0]).endswith(": holds")
    found = activsparse.benchmark("dense.onnx", "masked.onnx", repeat=1)
    lines = str(found).splitlines()
    assert len(lines) == 4
    assert repr(found) == str(found)
    assert "times as fast as dense" in next(
        x for x in lines if "masked.onnx (float32) in activsparse" in x
    )


def test_masks_for_a_speed_up(network, example, monkeypatch):
    targets = []

    def speedup(dense, plan, **how) -> float:
        targets.append(how["threads"])
        skipped = plan.sparsities().values()
        return 1 / (1 - sum(skipped) / max(len(plan.layers), 1))

    monkeypatch.setattr("activsparse.pipeline.plan.plan_speedup", speedup)
    batches = [(torch.randn(8, 3, 16, 16), torch.randint(3, (8,)))]
    network.train()
    sparsifier = activsparse.sparsify(
        network, example, target_speedup=1.1, batches=batches, quick=True, skip=["stages.0*"]
    )
    assert network.training
    assert set(targets) == {1}
    assert sparsifier.pattern == "plan"
    assert sparsifier.frozen
    assert sparsifier.layers
    assert not any(layer.name.startswith("stages.0") for layer in sparsifier.layers)


def test_mistakes(network, example):
    for options, message in (
        ({"target_speedup": 1.5}, "batches"),
        ({"target_speedup": 1.5, "sparsity": 0.3}, "both choose masks"),
        ({"sparsity": 1.5}, "sparsity"),
    ):
        with pytest.raises(ActivsparseError, match=message):
            activsparse.sparsify(network, example, **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target_speedup": "a"}, "target_speedup='a' is no number"),
        ({"threads": "a"}, "threads='a' is not a whole number"),
        ({"batches": 5}, "in batches"),
        ({"batches": iter(())}, "in batches"),
        ({"batches": [torch.zeros(4, 3, 16, 16)]}, "number 0 has no such pair"),
        ({"batches": [(torch.zeros(4, 3, 8, 8), torch.zeros(4))]}, r"images \(4, 3, 8, 8\)"),
        ({"batches": [(np.zeros((4, 3, 16, 16)), np.zeros(4))]}, "of tensors"),
    ],
)
def test_what_masks_cannot_be_chosen_by_is_told_in_a_line(network, example, given, message):
    batches = [(torch.zeros(4, 3, 16, 16), torch.zeros(4).long())]
    with pytest.raises(ActivsparseError, match=message):
        activsparse.sparsify(
            network, example, **{"target_speedup": 1.1, "batches": batches, "quick": True, **given}
        )


def test_every_module_keeps_its_mode(network, example, monkeypatch):
    """A frozen norm is in evaluation mode while the rest is trained."""
    network.train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[0].eval()
    modes = {name: module.training for name, module in network.named_modules()}
    seen = []

    def stop(model, *_, **__):
        seen.append(model.training)
        raise ActivsparseError("enough")

    monkeypatch.setattr("activsparse.pipeline.plan.find_masks", stop)
    with pytest.raises(ActivsparseError, match="enough"):
        activsparse.sparsify(
            network, example, target_speedup=1.1, batches=iter([(example, torch.zeros(1).long())])
        )
    assert seen == [False]
    activsparse.sparsify(network, example, 0.3)
    activsparse.export(network, example, "masked.onnx")
    now = {name: module.training for name, module in network.named_modules()}
    assert {name: now[name] for name in modes} == modes


def test_a_wrong_output_is_an_error(dense, monkeypatch):
    from activsparse.engine import session

    right = session.Session._run
    monkeypatch.setattr(session.Session, "_run", lambda *a: [y + 1 for y in right(*a)])
    with pytest.raises(ActivsparseError, match="is not ONNX Runtime's"):
        activsparse.verify(dense)


@pytest.mark.parametrize("first", ["", "import activsparse.export.onnx; "])
def test_names_are_there_whatever_was_imported_first(first):
    code = (
        f"import activsparse; {first}"
        "f = activsparse.export; assert callable(f) and f.__name__ == 'activsparse.export'\n"
        "import activsparse.export.onnx\n"
        "assert activsparse.export is f and f.onnx.export_onnx\n"
        "for name in activsparse.__all__: getattr(activsparse, name)\n"
        "assert callable(activsparse.sparsify)\n"
        "try: activsparse.export(1)\n"
        "except TypeError: pass"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_that_are_no_networks_are_refused(example, tmp_path):
    with pytest.raises(ActivsparseError):
        activsparse.sparsify(nn.Linear(3, 3), example, 0.3)


def test_what_is_no_network_no_file_or_no_number_is_told_in_a_line(network, example, tmp_path):
    """Whatever is given in its place, and above all no dump of a model."""
    model = onnx.ModelProto(producer_name="x" * 1000)
    for mistake, message in (
        (lambda: activsparse.sparsify(model, example, 0.3), "a ModelProto is no network"),
        (lambda: activsparse.sparsify("model.onnx", example, 0.3), "a str is no network"),
        (lambda: activsparse.sparsify(network, example.numpy(), 0.3), "is a ndarray, not a tensor"),
        (lambda: activsparse.sparsify(network, example, "0.3"), "sparsity '0.3': is no number"),
        (lambda: activsparse.export(model, example, tmp_path / "m.onnx"), "is no network"),
        (lambda: activsparse.export(network, example, model), "ModelProto: is no path"),
        (lambda: activsparse.verify(model), "ModelProto: is no path"),
        (lambda: activsparse.verify(None), "None: is no path"),
        (lambda: activsparse.Session(model), "ModelProto: is no path"),
        (lambda: activsparse.quantize(model, example), "ModelProto: is no path"),
        (lambda: activsparse.benchmark(model), "ModelProto: is no path"),
        (lambda: activsparse.benchmark("d.onnx", model), "ModelProto: is no path"),
        (lambda: activsparse.benchmark("d.onnx", repeat=0), "repeat=0 is not a whole number"),
        (lambda: activsparse.benchmark("d.onnx", threads="2"), "threads='2' is not a whole"),
        (lambda: activsparse.benchmark("d.onnx", engines="activsparse"), "d.onnx: no such file"),
    ):
        with pytest.raises(ActivsparseError, match=re.escape(message)) as caught:
            mistake()
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)


def test_tensors_calibrate_and_results_print_what_they_are(network, example):
    activsparse.sparsify(network, example, 0.3, pattern="lattice")
    activsparse.export(network, example, "masked.onnx", dense="dense.onnx")
    images = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    quantised = activsparse.quantize("masked.onnx", images)
    same = activsparse.quantize("masked.onnx", {"input": images.numpy()})
    assert quantised.model.SerializeToString() == same.model.SerializeToString()
    text = repr(quantised)
    assert text.startswith("Quantised(7 of 7 layers, 4 masks, by activsparse: output ")
    assert f"{quantised.costs[0].snr_db:.1f} dB with {quantised.costs[0].name} alone" in text

    _, report = mask_model(onnx.load("dense.onnx"), 0.3, pattern="lattice")
    head, *lines = repr(report).splitlines()
    assert head.startswith("MaskReport(4 masked layers: sparsity 0.")
    assert len(lines) == 4 + len(report.dense)
    assert "  conv1: dense, stem" in lines
    for text in (repr(quantised), repr(report)):
        assert max(map(len, text.splitlines())) < 120


def test_quantize_names_the_argument_that_is_no_path(tmp_path):
    with pytest.raises(ActivsparseError, match=r"^out: list: is no path"):
        activsparse.quantize(tmp_path / "m.onnx", [], [np.zeros((1, 3, 8, 8))])
