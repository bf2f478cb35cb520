"""What unoptimised ONNX Runtime computes, and whether a door's outputs agree with it."""

from __future__ import annotations

import re
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx

from activsparse import ActivsparseError
from activsparse.engine.oracle import in_double
from activsparse.engine.tolerance import UNIT_ROUNDOFF, network_bound
from fuzz.doors import DOORS, Feed, Options, Outputs

NOISE = 32.0
"""How many times what a rounding of all inputs and weights does to ONNX Runtime is still rounding.

Asked only where `network_bound` fails: it knows the largest output, not how a network amplifies.
"""

_SETTINGS = ("Pow", "Resize", "Upsample")
"""Operators whose constants say what they do, and are not rounded."""


@dataclass
class Verdict:
    """What came of a case.

    Attributes:
        failures: door -> what went wrong, in one line.
        refusals: door -> the clear line it refused the model with.
        passed: doors that computed the right numbers.
        oracle: why ONNX Runtime cannot run the case, or "".
    """

    failures: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    oracle: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


class WrongError(Exception):
    """Outputs that differ by more than rounding."""


def expected(model: onnx.ModelProto, feed: Feed, optimised: bool = False) -> Outputs:
    """Run a model in ONNX Runtime, one thread, nothing optimised."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    if not optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), settings, ["CPUExecutionProvider"]
    )
    return session.run(None, feed)


def judge(path: Path, feed: Feed, options: Options, doors: list[str], folder: Path) -> Verdict:
    """Run a model through doors and compare each with ONNX Runtime."""
    verdict = Verdict()
    model = onnx.load(path)
    try:
        wanted = expected(model, feed)
    except Exception as error:  # no narrower base
        verdict.oracle = _line(error)
        return verdict
    for door in doors:
        copy = folder / f"{door}.onnx"
        copy.write_bytes(path.read_bytes())
        try:
            actual = DOORS[door](copy, feed, options)
            _agree(path, model, feed, actual, wanted)
            verdict.passed.append(door)
        except ActivsparseError as error:
            text = str(error)
            if "\n" in text.strip() or "please report" in text or not text.strip():
                verdict.failures[door] = f"refusal is not one clear line: {_line(error)}"
            elif "is damaged" in text:  # what this engine has just written itself
                verdict.failures[door] = f"an intact file refused: {_line(error)}"
            else:
                verdict.refusals[door] = text
        except WrongError as error:
            verdict.failures[door] = str(error)
        except AssertionError as error:
            verdict.failures[door] = f"AssertionError{_place(error)}: {_line(error)}"
        except Exception as error:
            kind = type(error).__name__
            if type(error).__module__.startswith("onnxruntime") and _fails_alone(model, feed):
                verdict.refusals[door] = f"ONNX Runtime alone fails: {_line(error)}"
                continue
            verdict.failures[door] = f"{kind}{_place(error)}: {_line(error)}"
    return verdict


def _fails_alone(model: onnx.ModelProto, feed: Feed) -> bool:
    """Whether ONNX Runtime cannot run a model as it does by default, without this engine."""
    try:
        expected(model, feed, optimised=True)
    except Exception:  # no narrower base
        return True
    return False


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _place(error: BaseException) -> str:
    """The innermost line of the engine's that an exception passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "activsparse" in f.filename]
    return f" in {Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""


def _agree(
    path: Path, model: onnx.ModelProto, feed: Feed, actual: Outputs, wanted: Outputs
) -> None:
    if len(actual) != len(wanted):
        raise WrongError(f"{len(actual)} outputs, not {len(wanted)}")
    sums = products(model)
    noise: list[float] | None = None
    for i, (y, z) in enumerate(zip(actual, wanted, strict=True)):
        name = model.graph.output[i].name
        if y.shape != z.shape:
            raise WrongError(f"wrong shape: output '{name}' is {y.shape}, not {z.shape}")
        finite = np.isfinite(z)
        odd = ~finite
        if (np.isfinite(y) != finite).any() or not np.array_equal(y[odd], z[odd], equal_nan=True):
            raise WrongError(f"NaN or infinity: output '{name}' differs in where it is not finite")
        if not finite.any():
            continue
        difference = float(np.abs(y[finite].astype(np.float64) - z[finite]).max())
        bound = network_bound(sums, z[finite])
        if difference > bound:
            noise = noise or rounding_noise(model, feed, wanted)
            bound += NOISE * noise[i]
        if not difference <= bound and not _oracle_is_off(path, name, feed, y, z, bound):
            raise WrongError(
                f"wrong number: output '{name}' is off by {difference:.3g} (bound {bound:.3g})"
            )


def _oracle_is_off(path: Path, name: str, feed: Feed, y, z, bound: float) -> bool:
    """Whether float64 is as near to us as to ONNX Runtime, whose sigmoid is rough near 0."""
    exact = in_double(path, [name], feed)
    if exact is None:
        return False
    ours, theirs = (float(np.nanmax(np.abs(value - exact[0]), initial=0.0)) for value in (y, z))
    return ours <= bound + theirs


def products(model: onnx.ModelProto) -> list[float]:
    """Products per output of every convolution and matrix product with a constant."""
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Conv" and shape:
            found.append(float(np.prod(shape[1:])))
        elif node.op_type in ("Gemm", "MatMul"):
            found.append(float(max(shape)) if shape else 300.0)
    return found


def rounding_noise(model: onnx.ModelProto, feed: Feed, wanted: Outputs) -> list[float]:
    """How far each output moves when every input, weight and value is rounded once more."""
    rng = np.random.default_rng(0)
    most = [0.0] * len(wanted)
    for _ in range(4):
        noisy, noisy_feed = _rounded_again(model, feed, rng)
        try:
            moved = expected(noisy, noisy_feed)
        except Exception:  # no narrower base
            break
        for i, (y, z) in enumerate(zip(moved, wanted, strict=True)):
            apart = np.abs(y.astype(np.float64) - z)
            most[i] = max(most[i], float(np.max(apart[np.isfinite(apart)], initial=0.0)))
    return most


def _rounded_again(
    model: onnx.ModelProto, feed: Feed, rng: np.random.Generator
) -> tuple[onnx.ModelProto, Feed]:
    """The model with a multiplication by nearly one behind every node."""
    values = {name: x for name, x in every_value(model, feed).items() if x.dtype == np.float32}

    def nearly_one(shape: tuple[int, ...]) -> np.ndarray:
        return (1 + 2 * UNIT_ROUNDOFF * rng.choice([-1, 1], shape)).astype(np.float32)

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    settings = {
        name for node in model.graph.node if node.op_type in _SETTINGS for name in node.input[1:]
    }
    for tensor in copy.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if (
            tensor.name not in settings
            and value.dtype == np.float32
            and not np.isin(value, (0, 1)).all()
        ):
            value = value * nearly_one(value.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    for node in nodes:
        factors = []
        for i, name in enumerate(node.output):
            if name in values:
                node.output[i] = f"{name} exact"
                tensor = onnx.numpy_helper.from_array(nearly_one(values[name].shape), f"{name} x")
                copy.graph.initializer.append(tensor)
                pair = [node.output[i], tensor.name]
                factors.append(onnx.helper.make_node("Mul", pair, [name]))
        copy.graph.node.extend([node, *factors])
    return copy, {name: x * nearly_one(x.shape) for name, x in feed.items()}


def every_value(model: onnx.ModelProto, feed: Feed) -> Feed:
    """Every value nodes of the graph write, as ONNX Runtime computes it."""
    names = [name for node in model.graph.node for name in node.output if name]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        return dict(zip(names, expected(copy, feed), strict=True))
    except Exception:  # no narrower base
        return {}


def kind_of(message: str) -> str:
    """A failure's message without names and numbers, to group by."""
    text = re.sub(r"'[^']*'|/\S+|\([^)]*\)|\[[^\]]*\]", "_", message)
    text = re.sub(r"\bn?_?v\d+\w*|\S*\.onnx\S*", "_", text)
    return re.sub(r"-?\d[\d.e+-]*", "#", text)[:160]
