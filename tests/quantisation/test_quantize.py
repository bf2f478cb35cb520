"""`activsparse quantize`: masks, layers in float, what it says, what it refuses."""

from __future__ import annotations

import sys

import graphs
import numpy as np
import onnx
import onnxruntime
import pytest
import quantised as zoo
import torch
from conftest import small_model
from onnx import numpy_helper
from PIL import Image

import activsparse
from activsparse import cli
from activsparse.engine.exact import ExactModel
from activsparse.errors import ActivsparseError
from activsparse.export.insert import find_masks
from activsparse.quantisation.layers import LayerCost, fewest_in_float
from activsparse.quantisation.samples import Preprocessing


def written(path, network: str, seed: int = 0, opset: int = 18):
    b = graphs.Builder(seed, opset)
    return b.save(path, *zoo.ZOO[network](b))


def samples(path, count: int = 12, seed: int = 0) -> np.ndarray:
    (value,) = onnx.load(path).graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    assert shape[0] == 1
    return np.random.default_rng(seed).standard_normal((count, *shape[1:])).astype(np.float32)


def by_onnxruntime(path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (v.name for v in session.get_inputs())
    return session.run(None, {name: x})[0]


@pytest.fixture
def classifier(tmp_path):
    return written(tmp_path / "classifier.onnx", "classifier")


@pytest.mark.parametrize("network", zoo.ZOO)
def test_all_networks_come_close_to_float(tmp_path, network):
    path = written(tmp_path / "m.onnx", network, seed=4)
    out = tmp_path / "q.onnx"
    result = activsparse.quantize(path, samples(path), out, per_layer=False)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    (x,) = samples(path, 1, seed=9)
    truth, got = by_onnxruntime(path, x[None]), by_onnxruntime(out, x[None])
    # A hundredth of the energy would be 20 dB; 8 bits in a few layers give about 38.
    assert np.square(truth - got).sum() < 1e-3 * np.square(truth).sum(), network
    (snr,) = result.difference.snr_db.values()
    assert 30 < snr < 60
    types = {t.name: t.data_type for t in result.model.graph.initializer}
    for node in result.model.graph.node:
        if node.op_type == "QuantizeLinear":
            assert types[node.input[2]] == onnx.TensorProto.UINT8
    assert {entry.domain for entry in result.model.opset_import} == {""}


@pytest.mark.parametrize("network", ["masked", "masked_silu", "filled"])
def test_masks_are_kept_exactly(tmp_path, network):
    path = written(tmp_path / "m.onnx", network, seed=1)
    original = onnx.load(path)
    result = activsparse.quantize(path, samples(path), per_layer=False)
    before, after = find_masks(original.graph), find_masks(result.model.graph)
    assert result.masks == len(before) == len(after)
    constants = [
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
        for m in (original, result.model)
    ]
    exact = ExactModel(result.model)
    (x,) = samples(path, 1, seed=3)
    readers = {name: node for node in result.model.graph.node for name in node.input}
    keep = {q for m in after for q in (readers[m.after].output[0], m.before, *m.nodes[0].input)}
    values = exact.run({exact.inputs[0]: x[None]}, keep=keep)
    for was, found in zip(before, after, strict=True):
        mask = constants[1][found.constant]
        np.testing.assert_array_equal(mask, constants[0][was.constant])
        # Between DequantizeLinear and a pair of the same scale.
        pair = readers[found.after]
        assert pair.op_type == "QuantizeLinear"
        source = next(n for n in result.model.graph.node if found.before in n.output)
        assert source.op_type == "DequantizeLinear"
        assert list(source.input[1:]) == list(pair.input[1:])
        zero, scale = constants[1][pair.input[2]], constants[1][pair.input[1]]
        got = values[pair.output[0]].low
        real = values[found.before].low
        whole = np.rint(real / scale) + zero
        if found.fill == "zero":
            np.testing.assert_array_equal(got[:, :, mask[0, 0] == 0], zero)
            np.testing.assert_array_equal(got, np.where(mask == 0, zero, whole))
        else:
            flat = whole.reshape(*whole.shape[:2], -1)[:, :, mask]
            np.testing.assert_array_equal(got, flat.reshape(whole.shape))


def test_a_mask_that_shares_its_convolution_stays_where_it_is(tmp_path):
    """The unmasked values are read as well: the mask cannot go behind their pair."""
    b = graphs.Builder(0)
    x = b.conv(b.input(1, 3, 9, 9), 8)
    y = b.conv(zoo.lattice(b, x), 8)
    path = b.save(tmp_path / "m.onnx", b.node("Add", x, y))
    result = activsparse.quantize(path, samples(path), per_layer=False)
    (found,) = find_masks(result.model.graph)
    mask = next(t for t in result.model.graph.initializer if t.name == found.constant)
    assert mask.data_type == onnx.TensorProto.FLOAT
    assert min(result.difference.snr_db.values()) > 30


def test_heads_give_real_numbers_and_metadata_stays(classifier):
    model = onnx.load(classifier)
    model.metadata_props.add(key="activsparse.requested", value="{}")
    onnx.save(model, classifier)
    result = activsparse.quantize(classifier, samples(classifier), per_layer=False)
    (head,) = (n for n in result.model.graph.node if n.op_type == "Gemm")
    assert head.output[0] == result.model.graph.output[0].name
    assert [p.key for p in result.model.metadata_props] == ["activsparse.requested"]
    assert result.difference.agreement is not None
    assert result.difference.accuracy is None


def test_layers_stay_in_float_by_name(tmp_path, classifier):
    result = activsparse.quantize(classifier, samples(classifier), keep_float="*v3*")
    (kept,) = result.in_float
    assert result.layers == 3
    assert {cost.name for cost in result.costs} | {kept} == {
        n.name for n in onnx.load(classifier).graph.node if n.op_type in ("Conv", "Gemm")
    }
    writers = {name: node.op_type for node in result.model.graph.node for name in node.output}
    for node in result.model.graph.node:
        if node.op_type == "Conv":
            read = [writers.get(name) for name in node.input[:2]]
            assert (read[1] == "DequantizeLinear") == (node.name != kept), node.name
    with pytest.raises(ActivsparseError, match="no layer is called keep_float='fc'; its layers"):
        activsparse.quantize(classifier, samples(classifier), keep_float=["fc"])
    with pytest.raises(ActivsparseError, match="keeps all layers in float"):
        activsparse.quantize(classifier, samples(classifier), keep_float=["*"])


def test_costs_are_worst_first(classifier):
    costs = activsparse.quantize(classifier, samples(classifier)).costs
    assert len(costs) == 3
    assert [c.snr_db for c in costs] == sorted(c.snr_db for c in costs)


@pytest.mark.parametrize("needed", range(8))
def test_the_fewest_layers_that_suffice_stay_in_float(needed):
    costs = [LayerCost(f"layer{i}", f"node{i}", float(i)) for i in range(7)]
    tried = []

    def lost(nodes):
        tried.append(len(nodes))
        return 1.0 if len(nodes) < needed else 0.25

    kept, left = fewest_in_float(costs, lost, 0.5)
    assert [c.name for c in kept] == [f"layer{i}" for i in range(min(needed, 7))]
    assert left == (0.25 if needed <= 7 else 1.0)
    assert len(tried) == len(set(tried)) <= 7


def test_accuracy_drop_is_met_on_the_samples_held_out(tmp_path, capsys):
    """Weights with an outlier, one scale for all: some samples change their class."""
    path = written(tmp_path / "m.onnx", "classifier", seed=2)
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if list(t.dims) == [32, 16, 3, 3])
    values = numpy_helper.to_array(weight).copy()
    values[0, 0, 0, 0] = 60
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
    x = samples(path, 240)
    labels = np.concatenate([by_onnxruntime(path, one[None]).argmax(1) for one in x])
    data = tmp_path / "data.npz"
    np.savez(data, x=x, labels=labels)
    options = ["--images", "40", "--held-out", "200", "--per-tensor"]
    command = ["quantize", str(path), "--data", str(data), *options, "--out"]
    assert cli.main([*command, str(tmp_path / "a.onnx")]) == 0
    lossy = capsys.readouterr().out
    assert "accuracy: 100.00 % before" in lossy
    assert "(+0.00 points)" not in lossy
    assert cli.main([*command, str(tmp_path / "b.onnx"), "--accuracy-drop", "0.6"]) == 0
    printed = capsys.readouterr().out
    assert "In float32: " in printed
    kept = onnx.load(tmp_path / "b.onnx")
    after = [by_onnxruntime_of(kept, one[None]).argmax(1) for one in held_out(x, 200)]
    truth = [by_onnxruntime(path, one[None]).argmax(1) for one in held_out(x, 200)]
    assert np.mean(np.concatenate(after) == np.concatenate(truth)) >= 0.994


def by_onnxruntime_of(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


def held_out(x: np.ndarray, count: int) -> np.ndarray:
    return x[np.sort(np.random.default_rng(0).permutation(len(x))[:count])]


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_ranges(classifier, method):
    result = activsparse.quantize(classifier, samples(classifier), method=method, per_layer=False)
    assert min(result.difference.snr_db.values()) > 15


@pytest.mark.slow
@pytest.mark.parametrize("network", ["masked", "masked_silu", "filled", "classifier"])
def test_nncf_keeps_masks_too(tmp_path, network):
    pytest.importorskip("nncf")
    path = written(tmp_path / "m.onnx", network, seed=1)
    x = samples(path)
    result = activsparse.quantize(path, x, quantiser="nncf", per_layer=False)
    onnx.checker.check_model(result.model, full_check=True)
    assert any(n.op_type == "DequantizeLinear" for n in result.model.graph.node)
    before, after = find_masks(onnx.load(path).graph), find_masks(result.model.graph)
    assert result.masks == len(before) == len(after)
    initializers = {t.name: t for t in result.model.graph.initializer}
    for mask in after:
        if mask.fill == "zero":
            assert initializers[mask.constant].data_type == onnx.TensorProto.FLOAT
    assert min(result.difference.snr_db.values()) > 25


def test_without_nncf_its_extra_is_named(classifier, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nncf", None)
    np.savez(tmp_path / "x.npz", samples(classifier))
    command = ["quantize", str(classifier), "--data", str(tmp_path / "x.npz")]
    assert cli.main([*command, "--quantiser", "nncf", "--no-per-layer"]) == 2
    assert "pip install 'activsparse[nncf]'" in capsys.readouterr().err


def test_an_old_operator_set_is_brought_up_to_date(tmp_path):
    path = written(tmp_path / "m.onnx", "residual", opset=11)
    result = activsparse.quantize(path, samples(path), per_layer=False)
    assert result.model.opset_import[0].version >= 13
    assert min(result.difference.snr_db.values()) > 30


# Data


def pictures(folder, count: int, mode: str = "RGB", seed: int = 0, ending: str = "png"):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        size = [int(s) for s in rng.integers(18, 40, 2)]
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i}.{ending}")
    return folder


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_images_of_any_mode(tmp_path, classifier, mode):
    data = pictures(tmp_path / "data", 6, mode)
    result = activsparse.quantize(classifier, data, per_layer=False)
    assert result.told == f"4 images of {data}, compared on 2 others"


def test_grey_networks_take_colour_images(tmp_path):
    b = graphs.Builder(0)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.conv(b.input(1, 1, 12, 12), 8)))
    result = activsparse.quantize(path, pictures(tmp_path / "data", 6), per_layer=False)
    assert min(result.difference.snr_db.values()) > 30


def test_sub_folders_are_classes_where_there_are_as_many(tmp_path, classifier):
    for part, count in (("train", 3), ("val", 1)):
        for i in range(10):
            pictures(tmp_path / "data" / part / f"class{i}", count, seed=i)
    result = activsparse.quantize(classifier, tmp_path / "data", per_layer=False)
    assert "30 images of " in result.told
    assert "compared on 10 others with labels" in result.told
    assert result.difference.accuracy is not None


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (16, 16)])
def test_images_are_seen_as_training_sees_them(tmp_path, size):
    """The steps of torchvision, but for the rounding of resized pixels."""
    import torch
    from torchvision.transforms import v2

    rng = np.random.default_rng(1)
    low = Image.fromarray(rng.integers(0, 256, (5, 4, 3)).astype(np.uint8))
    image = low.resize(size[::-1], Image.Resampling.BICUBIC)
    image.save(tmp_path / "a.png")
    got = Preprocessing().read(tmp_path / "a.png", (3, 14, 14))
    steps = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(16),
            v2.CenterCrop((14, 14)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    np.testing.assert_allclose(got, steps(image).numpy(), atol=2.1 / 255 / 0.224)


MISTAKES = {
    "no data": (None, "samples are needed to calibrate with; give a folder of images"),
    "no such path": ("missing", "missing: no such file or folder"),
    "an empty folder": ("empty", "empty: holds no images"),
    "a text file": ("text.npz", "no whole .npz file of numbers"),
    "one array": ("one.npz", "a single array, as numpy.save writes it"),
    "a broken image": ("broken", "cannot be read as an image"),
    "one image": ("single", "too few samples"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_data_are_one_line(tmp_path, classifier, mistake, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    pictures(tmp_path / "single", 1)
    (pictures(tmp_path / "broken", 2) / "0.png").write_bytes(b"nothing")
    name, message = MISTAKES[mistake]
    data = [] if name is None else ["--data", str(tmp_path / name)]
    assert cli.main(["quantize", str(classifier), *data]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not list(tmp_path.glob("*.int8.onnx"))
    assert not list(tmp_path.glob(".*"))


ARRAYS = {
    "wrong sizes": ({"x": (5, 3, 20, 20)}, "'x' is of shape 5x3x20x20, and the input takes"),
    "no axis of samples": ({"x": (3, 18, 18)}, "and the input takes samples of 3x18x18"),
    "another name": ({"a": (5, 3, 18, 18), "b": (5,)}, "has no array 'x', but a, b"),
    "none": ({}, "has no array 'x', but none"),
    "one": ({"x": (1, 3, 18, 18)}, "too few samples"),
    "labels": ({"x": (5, 3, 18, 18), "labels": (4,)}, "of shape 4; write a whole number for each"),
}


@pytest.mark.parametrize("mistake", ARRAYS)
def test_arrays_that_do_not_fit(classifier, mistake):
    shapes, message = ARRAYS[mistake]
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with pytest.raises(ActivsparseError, match=message):
        activsparse.quantize(classifier, arrays)


def test_arrays_of_other_values(classifier):
    x = samples(classifier)
    with pytest.raises(ActivsparseError, match="'x' is uint8, not float32; write values as"):
        activsparse.quantize(classifier, x.astype(np.uint8))
    x[3, 0, 0, 0] = np.nan
    with pytest.raises(ActivsparseError, match="not finite"):
        activsparse.quantize(classifier, x)


def test_models_that_cannot_be_quantised(tmp_path, classifier):
    done = tmp_path / "q.onnx"
    activsparse.quantize(classifier, samples(classifier), done, per_layer=False)
    with pytest.raises(ActivsparseError, match="is quantised already; name the float32 model"):
        activsparse.quantize(done, samples(classifier))
    b = graphs.Builder(0)
    bare = b.save(tmp_path / "bare.onnx", b.node("Relu", b.input(1, 3, 8, 8)))
    with pytest.raises(ActivsparseError, match="has no convolution or other layer with weights"):
        activsparse.quantize(bare, samples(bare))
    open_model = small_model(tmp_path / "open.onnx", height="h")
    with pytest.raises(ActivsparseError, match="has open dimensions"):
        activsparse.quantize(open_model, np.zeros((4, 3, 8, 8), np.float32))


def test_classes_are_needed_for_an_accuracy(tmp_path):
    path = written(tmp_path / "m.onnx", "plain")
    with pytest.raises(ActivsparseError, match="names no classes"):
        activsparse.quantize(path, samples(path), accuracy_drop=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mnmax"}, "method 'mnmax': is unknown; .*minmax"),
        ({"quantiser": "ncnf"}, "quantiser 'ncnf': is unknown; .*nncf"),
        ({"images": 0}, "images=0: must be a whole number, at least 1"),
        ({"held_out": 1.5}, "held_out=1.5: must be a whole number"),
        ({"threads": None}, "threads=None: must be a whole number"),
        ({"method": None}, "method None: is unknown"),
        ({"percentile": "a"}, "percentile='a': is no number"),
        ({"accuracy_drop": "a"}, "accuracy_drop='a': is no number"),
        ({"keep_float": 5}, "keep_float=5: give names of layers"),
        ({"keep_float": [1]}, r"keep_float=\[1\]: give names of layers"),
        ({"input_shapes": [(1, 3, 8, 8)]}, "input_shapes=.*give a dict"),
        ({"mean": "grey"}, "mean='grey': give a number for each channel"),
        ({"std": ["a"]}, "std='a': is no number"),
        ({"percentile": 3.0}, "percentile=3.0 is no share"),
        ({"accuracy_drop": -1.0}, "accuracy_drop=-1.0 is in points"),
        ({"fit": "pad"}, "fit='pad' is none of crop, stretch"),
        ({"std": [0.0]}, "std must be above 0"),
    ],
)
def test_options_are_checked(classifier, options, message):
    with pytest.raises(ActivsparseError, match=message):
        activsparse.quantize(classifier, samples(classifier), **options)


@pytest.mark.parametrize("data", [5, [], [torch.zeros(1, 3, 8, 8)], iter(()), torch.nn.Identity()])
def test_what_is_no_data_is_told_in_a_line(classifier, data):
    with pytest.raises(ActivsparseError, match=r"^data: a \w+ is none of a folder of images"):
        activsparse.quantize(classifier, data)


def test_tensors_without_values_are_told_in_a_line(classifier):
    values = torch.zeros(4, 3, 8, 8, device="meta")
    with pytest.raises(ActivsparseError, match="data: 'x' is no array"):
        activsparse.quantize(classifier, {"x": values})


def test_labels_beyond_the_classes_are_no_accuracy(classifier):
    images = samples(classifier)
    data = {"x": images, "labels": np.full(len(images), 99)}
    with pytest.raises(ActivsparseError, match="labels: 99 is none of the network's"):
        activsparse.quantize(classifier, data)


def test_a_damaged_image_is_no_fault_of_the_model(classifier, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(ActivsparseError, match=r"^\S+[ab]\.png: cannot be read as an image"):
        activsparse.quantize(classifier, tmp_path)


def test_the_model_is_never_written_over(classifier):
    content = classifier.read_bytes()
    with pytest.raises(ActivsparseError, match="is read here"):
        activsparse.quantize(classifier, samples(classifier), classifier)
    assert classifier.read_bytes() == content


@pytest.mark.slow
def test_a_run_folder_brings_its_images(tmp_path, capsys):
    run = tmp_path / "run"
    shrunk = ["training.epochs=1", "dense.epochs=1", "data.limit=128", "data.batch_size=32"]
    assert cli.main(["train", "--recipe", "digits_tiles", "--out", str(run), "--set", *shrunk]) == 0
    capsys.readouterr()
    assert cli.main(["quantize", str(run), "--images", "40", "--held-out", "50"]) == 0
    printed = capsys.readouterr().out
    assert "40 training images, compared on 50 test images" in printed
    assert "accuracy: " in printed
    assert "Masks: " in printed
    assert find_masks(onnx.load(run / "int8.onnx").graph)
    assert cli.main(["quantize", str(run), "--data", str(tmp_path)]) == 2
    assert "leave --data out" in capsys.readouterr().err
