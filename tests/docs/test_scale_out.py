"""docs/scale-out.md: its commands run, on loopback and with small networks."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import activsparse
from activsparse import Session
from activsparse.models import SmallResNet
from activsparse.pictures import IMAGENET_MEAN, IMAGENET_STD

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scale-out.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(activsparse.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}


def command(start: str) -> list[str]:
    """The words of the one line of the page that starts so."""
    (line,) = [line for line in COMMANDS if line.startswith(start)]
    return shlex.split(line)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with masked.onnx, three photos, and the examples."""
    torch.manual_seed(0)
    model = SmallResNet(5, 3, widths=(8, 16), blocks=(1, 1)).eval()
    example = torch.randn(1, 3, 24, 24)
    activsparse.sparsify(model, example, 0.3, pattern="lattice")
    activsparse.export(model, example, tmp_path / "masked.onnx")
    rng = np.random.default_rng(0)
    (tmp_path / "photos" / "some").mkdir(parents=True)
    # The photos have the network's size: Ray scales others in its own way.
    sizes = {"photos/a.png": 24, "photos/b.png": 24, "photos/some/c.png": 24, "photo.png": 40}
    for name, size in sizes.items():
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scores(picture: Path) -> np.ndarray:
    image = Image.open(picture).convert("RGB").resize((24, 24))
    pixels = (np.asarray(image, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return Session("masked.onnx").run(pixels.transpose(2, 0, 1)[None].astype(np.float32)).ravel()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_the_page_with_fastapi(place):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    model, *words = command("MODEL=")
    port = str(free_port())
    words = [port if word == "8000" else word for word in words]
    assert words[0] == "uvicorn"
    server = subprocess.Popen(
        [sys.executable, "-m", *words], env={**ENVIRONMENT, "MODEL": model.split("=")[1]}
    )
    try:
        *_, address = command("curl")
        request = urllib.request.Request(
            address.replace("8000", port),
            (place / "photo.png").read_bytes(),
            {"Content-Type": "application/octet-stream"},
        )
        for _ in range(600):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    found = json.load(answer)
                break
            except (ConnectionError, urllib.error.URLError):
                assert server.poll() is None
                time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(30)
    expected = scores(place / "photo.png")
    assert found["class"] == expected.argmax()
    assert found["score"] == pytest.approx(expected.max(), rel=1e-4)


@pytest.mark.slow
def test_the_folder_with_ray(place):
    pytest.importorskip("ray")
    _, *words = command("python examples/ray_batch.py")
    done = subprocess.run(
        [sys.executable, *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with Path("classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.png", "c.png"]
    for row in rows:
        expected = scores(Path(row["path"]))
        assert int(row["class"]) == expected.argmax()
        assert float(row["score"]) == pytest.approx(expected.max(), rel=1e-4)


def repository(place: Path) -> Path:
    _, *words = command("python examples/triton/make_repository.py")
    subprocess.run([sys.executable, *words], env=ENVIRONMENT, check=True, timeout=300)
    return place / "repository"


def test_triton_s_models_run_as_it_would_run_them(place, monkeypatch):
    import onnxruntime

    made = repository(place)
    x = np.random.default_rng(1).standard_normal((1, 3, 24, 24), np.float32)
    (expected,) = onnxruntime.InferenceSession("masked.onnx").run(None, {"input": x})

    # The backend `onnxruntime`: the file and the library, nothing of ours in Python.
    options = onnxruntime.SessionOptions()
    config = (made / "classifier" / "config.pbtxt").read_text()
    (library,) = re.findall(r'op_library_filename: "(.*)"', config)
    options.register_custom_ops_library(library)
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made / "classifier" / "1" / "model.onnx", options)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], expected, atol=1e-4)

    # The backend `python`, with what Triton gives it.
    class Tensor:
        def __init__(self, name, array):
            self.name, self.array = name, array

        def as_numpy(self):
            return self.array

    triton = types.ModuleType("triton_python_backend_utils")
    triton.Tensor = Tensor
    triton.InferenceResponse = lambda output_tensors: output_tensors
    triton.get_input_tensor_by_name = lambda request, name: Tensor(name, request[name])
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", triton)
    folder = made / "classifier_provider"
    spec = importlib.util.spec_from_file_location("served", folder / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served = module.TritonPythonModel()
    served.initialize({"model_repository": str(folder), "model_version": "1"})
    ((output,), (again,)) = served.execute([{"input": x}, {"input": x}])
    assert output.name == again.name == "output"
    np.testing.assert_allclose(output.array, expected, atol=1e-4)


def test_triton_reads_the_configurations(place):
    pytest.importorskip("tritonclient")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelConfig

    made = repository(place)
    for name, backend in (("classifier", "onnxruntime"), ("classifier_provider", "python")):
        config = text_format.Parse((made / name / "config.pbtxt").read_text(), ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == (name, backend, 0)
        ((x,), (y,)) = config.input, config.output
        assert (x.name, list(x.dims), x.data_type) == ("input", [1, 3, 24, 24], TYPE_FP32)
        assert (y.name, list(y.dims), y.data_type) == ("output", [1, 5], TYPE_FP32)
        assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    listed = re.findall(r"repository/(\S+?),?\s", TEXT)
    assert {*listed, "classifier_provider/1/model.plan"} == files


@pytest.mark.slow
def test_training_on_two_machines(place):
    port, out = str(free_port()), str(place / "run")
    machines = []
    for number in (0, 1):
        words = command(f"torchrun --nnodes 2 --node-rank {number}")[1:]
        other = {"192.0.2.1": "127.0.0.1", "29500": port, "/shared/runs/digits": out}
        words = [other.get(word, word) for word in words]
        small = ["--set", "training.epochs=1", "dense=null", "data.limit=64"]
        machines.append(
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *words, *small],
                env={**ENVIRONMENT, "GLOO_SOCKET_IFNAME": "lo"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for machine in machines:
        _, said = machine.communicate(timeout=400)
        assert machine.returncode == 0, said[-3000:]
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert summary["epochs"] == 1
