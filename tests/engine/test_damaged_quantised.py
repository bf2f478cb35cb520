"""Quantised files that are wrong: one clear line, or results that exact arithmetic allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import quantised
from onnx import helper, numpy_helper

from activsparse import ActivsparseError, Session
from activsparse.engine.exact import ExactModel

SLACK = 2.0**-9
Damage = Callable[[onnx.ModelProto, np.random.Generator], None]


def constants(model: onnx.ModelProto, operator: str, place: int) -> list[onnx.TensorProto]:
    """The constants that operators of a kind read as their input `place`."""
    tensors = {t.name: t for t in model.graph.initializer}
    read = [
        n.input[place] for n in model.graph.node if n.op_type == operator and len(n.input) > place
    ]
    return [tensors[name] for name in dict.fromkeys(read) if name in tensors]


def change(
    model: onnx.ModelProto,
    rng: np.random.Generator,
    place: int,
    how: Callable[[np.ndarray], np.ndarray],
    operators: tuple[str, ...] = ("QuantizeLinear", "DequantizeLinear"),
) -> None:
    """Change one constant of a kind that some operator reads."""
    found = [t for operator in operators for t in constants(model, operator, place)]
    assert found
    tensor = found[int(rng.integers(len(found)))]
    values = how(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), tensor.name))


def value(x: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda a: np.full_like(a, x)


def scale_is(x: float) -> Damage:
    return lambda model, rng: change(model, rng, 1, value(x))


def longer(a: np.ndarray) -> np.ndarray:
    return np.resize(a, a.size + 1)


def zero_of_other_type(a: np.ndarray) -> np.ndarray:
    other = {"uint8": np.int8, "int8": np.uint8}.get(a.dtype.name, np.int8)
    return np.zeros(a.shape, other)


def other_scales(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """The pair behind a value disagrees: it is quantised by one scale, and read by another."""
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    first, second = (nodes[int(i)] for i in rng.integers(len(nodes), size=2))
    first.input[1], second.input[1] = second.input[1], first.input[1]


def axis_outside(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            kept = [a for a in node.attribute if a.name != "axis"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("axis", 7)])


def no_scale(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    nodes = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    del nodes[int(rng.integers(len(nodes)))].input[1:]


def dangling(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    nodes = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    nodes[int(rng.integers(len(nodes)))].input[0] = "nobody"


def grey_mask(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """A mask that is none: halves among zeros and ones."""
    change(model, rng, 1, lambda a: a * rng.choice([0.5, 1], a.shape).astype(a.dtype), ("Mul",))


def narrow_mask(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    change(model, rng, 1, lambda a: a[..., :-1], ("Mul",))


def far_source(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    change(model, rng, 1, lambda a: a + a.size, ("Gather",))


def chained_source(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """A fill whose sources are skipped themselves."""
    change(model, rng, 1, lambda a: np.roll(a, 1), ("Gather",))


def cut_weight(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    kernels = [t for t in model.graph.initializer if len(t.dims) == 4 and t.data_type == 3]
    tensor = kernels[int(rng.integers(len(kernels)))]
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values[:-1], tensor.name))


def short_data(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    tensors = [t for t in model.graph.initializer if len(t.raw_data) > 4]
    tensor = tensors[int(rng.integers(len(tensors)))]
    tensor.raw_data = tensor.raw_data[:-3]


DAMAGES: dict[str, Damage] = {
    "scale 0": scale_is(0.0),
    "scale negative": scale_is(-0.25),
    "scale nan": scale_is(np.nan),
    "scale inf": scale_is(np.inf),
    "scale denormal": scale_is(1e-42),
    "scale huge": scale_is(3e38),
    "one scale too many": lambda m, rng: change(m, rng, 1, longer),
    "one zero point too many": lambda m, rng: change(m, rng, 2, longer),
    "no scales": lambda m, rng: change(m, rng, 1, lambda a: a.reshape(-1)[:0]),
    "scale in double": lambda m, rng: change(m, rng, 1, lambda a: a.astype(np.float64)),
    "zero point of another type": lambda m, rng: change(m, rng, 2, zero_of_other_type),
    "zero point in float": lambda m, rng: change(m, rng, 2, lambda a: a.astype(np.float32)),
    "scales exchanged": other_scales,
    "axis 7": axis_outside,
    "no scale": no_scale,
    "dangling": dangling,
    "grey mask": grey_mask,
    "narrow mask": narrow_mask,
    "far source": far_source,
    "chained source": chained_source,
    "cut weight": cut_weight,
    "short data": short_data,
}


def opened(path: Path) -> tuple[Session | None, str]:
    """A session, or what is said in its place."""
    try:
        return Session(path), ""
    except ActivsparseError as error:
        return None, str(error)


FILES = {
    "masked": "nncf",
    "filled": "s8s8 per channel",
    "inverted": "u8s8 per channel",
    "residual": "operators u8s8",
}
ONLY = {
    "grey mask": "masked",
    "narrow mask": "masked",
    "far source": "filled",
    "chained source": "filled",
}


@pytest.mark.parametrize(
    ("network", "damage"),
    [(n, d) for n in FILES for d in DAMAGES if ONLY.get(d, n) == n],
)
def test_one_line_or_right_results(tmp_path: Path, network: str, damage: str) -> None:
    style = FILES[network]
    path = quantised.case(tmp_path / "q.onnx", network, style)
    sound = onnx.load(path)
    for seed in range(2):
        model = onnx.ModelProto()
        model.CopyFrom(sound)
        DAMAGES[damage](model, np.random.default_rng(seed))
        onnx.save(model, path)
        what = f"{network}, {style}, {damage}, seed {seed}"
        session, line = opened(path)
        if session is None:
            assert "\n" not in line, what
            continue
        (feed,) = quantised.images(sound, seed, 1)
        results = session.run(feed)
        spans = ExactModel(path).run(feed, slack=SLACK).values()
        for span, y in zip(spans, results, strict=True):
            room = 1e-5 * max(1.0, float(np.abs(span.high).max()))
            off = np.maximum(span.low - y, y - span.high)
            assert off.max() <= room, what
