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
        ({"target_speedup": "a"}, "target_speedup='a': is no number"),
        ({"target_speedup": float("nan")}, "target_speedup=nan: is no number"),
        ({"threads": "a"}, "threads='a': must be a whole number"),
        ({"batches": torch.zeros(4, 3, 16, 16)}, "in batches"),
        ({"batches": [(torch.zeros(4, 3, 16, 16), [0, 1, 2, 0])]}, "number 0 has no such pair"),
        ({"batches": [(torch.zeros(0, 3, 16, 16), torch.zeros(0))]}, r"images \(0, 3, 16, 16\)"),
        ({"batches": [(torch.zeros(4, 3, 16, 16).half(), torch.zeros(4))]}, "does not run on"),
        ({"batches": [(torch.zeros(4, 3, 16, 16), torch.zeros(4))]}, "loss: gives no number"),
        ({"batches": [(torch.zeros(1, 3, 16, 16), torch.tensor([77]))]}, "loss: gives no number"),
        ({"loss": 5}, "loss=5: give a function"),
        ({"loss": lambda outputs, targets: None}, "loss: gives no number for batch 0"),
        ({"loss": lambda outputs, targets: outputs}, "loss: gives no number for batch 0"),
        ({"loss": lambda outputs: outputs.mean()}, "loss: gives no number for batch 0"),
        ({"loss": lambda outputs, targets: outputs.sum() * torch.nan}, "loss: is nan on batch 0"),
        ({"target_speedup": None}, "batches is what masks are chosen by for a speed-up"),
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
        (lambda: activsparse.export(network, example, model), "ModelProto is no path"),
        (lambda: activsparse.verify(model), "ModelProto is no path"),
        (lambda: activsparse.verify(None), "path: None is no path"),
        (lambda: activsparse.Session(model), "model: holds no ONNX graph"),
        (lambda: activsparse.quantize(model, example), "ModelProto is no path"),
        (lambda: activsparse.benchmark(model), "ModelProto is no path"),
        (lambda: activsparse.benchmark("d.onnx", model), "ModelProto is no path"),
        (lambda: activsparse.benchmark("d.onnx", repeat=0), "repeat=0: must be a whole number"),
        (lambda: activsparse.benchmark("d.onnx", threads="2"), "threads='2': must be a whole"),
        (lambda: activsparse.benchmark("d.onnx", engines="activsparse"), "d.onnx: no such file"),
        (lambda: activsparse.benchmark("d.onnx", engines=5), "engines=5: names no engine"),
        (lambda: activsparse.benchmark("d.onnx", engines=[]), "engines=[]: names no engine"),
        (lambda: activsparse.benchmark("d.onnx", input_shapes="x=1"), "input_shapes='x=1': give"),
        (lambda: activsparse.benchmark("d.onnx", session=[1]), "session=[1]: give a dict"),
        (lambda: activsparse.benchmark("d.onnx", seed=-1), "seed=-1: must be a whole number"),
        (lambda: activsparse.benchmark("d.onnx", 5), "masked: 5 is no path"),
        (lambda: activsparse.benchmark(["d.onnx"]), "dense: list is no path"),
        (lambda: activsparse.verify("d.onnx", seed="a"), "seed='a': must be a whole number"),
        (lambda: activsparse.export(network, example, "m.onnx", dense=5), "dense: 5 is no path"),
        (lambda: activsparse.quantize("d.onnx", example, 5), "out: 5 is no path"),
        (lambda: Sparsifier(network, example, plan=5), "plan: 5 is no path"),
        (lambda: Sparsifier(network, example, 0.3, skip=5), "skip=5: give a list such as"),
        (lambda: Sparsifier(network, example, 0.3, only=[1]), "only=[1]: give a list such as"),
        (lambda: Sparsifier(network, example, 0.3, kernel_sizes="3"), "kernel_sizes='3': give"),
        (lambda: Sparsifier(network, example, 0.3, per_layer=[0.3]), "per_layer=[0.3]: give a"),
        (lambda: Sparsifier(network, example, 0.3, total_steps="a"), "total_steps='a': must be"),
        (lambda: Sparsifier(network, example, 0.3, total_steps=1, begin="a"), "begin='a': is no"),
        (lambda: Sparsifier(network, example, 0.3, seed=None), "seed=None: must be a whole"),
        (lambda: Sparsifier(network, example[:0], 0.3), "of shape (0, 3, 16, 16) holds no values"),
        (lambda: Sparsifier(network, example.to("meta"), 0.3), "is on the meta device"),
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


class Odd(nn.Module):
    """A network that gives something else than a tensor of numbers."""

    def __init__(self, network, result):
        super().__init__()
        self.network, self.result = network, result

    def forward(self, x):
        return self.result(self.network(x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"example_input": None}, "example_input: a NoneType holds no tensor"),
        ({"example_input": np.zeros((1, 3, 16, 16))}, "example_input: a ndarray holds no tensor"),
        ({"example_input": (1, 3, 16, 16)}, "example_input: a tuple holds no tensor"),
        ({"example_input": {"x": torch.zeros(1, 3, 16, 16)}}, "torch exports no dict of inputs"),
        ({"example_input": torch.zeros(0, 3, 16, 16)}, "example_input: holds an empty tensor"),
        ({"example_input": torch.zeros(1, 3, 16, 16, device="meta")}, "on the meta device"),
        ({"example_input": torch.zeros(1, 3, 16, 16).half()}, "does not run on .*float16"),
        ({"example_input": torch.zeros(1, 4, 16, 16)}, r"does not run on \(1, 4, 16, 16\)"),
        ({"example_input": torch.full((1, 3, 16, 16), torch.nan)}, "values that are no numbers"),
        ({"opset": "a"}, "opset='a': must be a whole number"),
        ({"dense": "no/folder.onnx"}, "folder.onnx: cannot be written"),
        ({"dense": "./masked.onnx"}, "is to hold the masked network; name another file as dense"),
        ({"path": "."}, "is a folder"),
        ({"path": "", "dense": "dense.onnx"}, "path: is empty"),
    ],
)
def test_an_export_that_fails_leaves_nothing(network, example, tmp_path, given, message):
    arguments = {"example_input": example, "path": "masked.onnx", **given}
    with pytest.raises(ActivsparseError, match=message):
        activsparse.export(network, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_networks_without_a_result_are_told_in_a_line(network, example, tmp_path):
    for odd, message in (
        (Odd(network, lambda y: None), "Odd gives a NoneType, no tensor"),
        (Odd(network, lambda y: y / 0 * 0), "Odd gives values that are no numbers"),
    ):
        with pytest.raises(ActivsparseError, match=message):
            activsparse.export(odd.eval(), example, "odd.onnx")
    with pytest.raises(ActivsparseError, match=r"float32 with \.float\(\)"):
        activsparse.export(network.double(), example.double(), "double.onnx")
    assert list(tmp_path.iterdir()) == []
