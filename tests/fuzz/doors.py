"""Every way into the engine: a model and options in, the outputs for a feed out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activsparse import ActivsparseError, Session, _native
from activsparse.engine.choose import Choice, Request
from activsparse.engine.compile import compile_file
from activsparse.engine.load import load
from activsparse.engine.plan import compile_graph
from activsparse.engine.plan_file import write_plan

Feed = dict[str, np.ndarray]
Outputs = list[np.ndarray]


@dataclass(frozen=True)
class Options:
    """How a case is compiled and run.

    Attributes:
        isa: instruction set.
        threads: that share one run.
        tune: as of `Session`.
        algorithm: as of `Session`.
        winograd: as of `Session`.
        draw: which algorithm every operator of the door `drawn` gets.
    """

    isa: str
    threads: int = 1
    tune: bool | str = False
    algorithm: str | None = None
    winograd: bool = True
    draw: int = 0


def random_options(seed: int) -> Options:
    """Draw options; the same ones from the same seed."""
    rng = np.random.default_rng([seed, 1])

    def pick(*choices):
        return choices[int(rng.integers(len(choices)))]

    return Options(
        isa=pick(*_native.available_isas(), _native.available_isas()[-1]),
        threads=pick(1, 1, 2, 3),
        tune=pick(False, False, False, False, "auto", False, False, True),
        algorithm=pick(None, None, None, None, "reference", "direct"),
        winograd=pick(True, True, True, False),
        draw=int(rng.integers(1 << 30)),
    )


def session_of(path: Path, feed: Feed, options: Options, **more) -> Session:
    return Session(
        path,
        isa=options.isa,
        threads=options.threads,
        tune=options.tune,
        algorithm=options.algorithm,
        winograd=options.winograd,
        input_shapes={name: x.shape for name, x in feed.items()},
        **more,
    )


def _listed(result: np.ndarray | Outputs) -> Outputs:
    return result if isinstance(result, list) else [result]


def direct(path: Path, feed: Feed, options: Options) -> Outputs:
    """A session made from the model, its plan saved, and the plan run: both to the same bits."""
    session = session_of(path, feed, options)
    result = _listed(session.run(feed))
    session.save(path.with_suffix(".plan"))
    again = _listed(Session(path.with_suffix(".plan")).run(feed))
    for y, z in zip(result, again, strict=True):
        np.testing.assert_array_equal(y, z, "the saved plan computes something else")
    np.testing.assert_equal(_listed(session.run(feed)), result, "the second run differs")
    return result


def drawn(path: Path, feed: Feed, options: Options) -> Outputs:
    """A plan whose operators take any algorithm that can run them, joined as ever."""

    def choose(request: Request, isa: str) -> Choice:
        able = [name for name, cause in request.spec().algorithms(isa) if not cause]
        if not able:
            raise ActivsparseError("no algorithm can run it")
        key = f"{options.draw} {request.node.name}"
        return Choice(min(able, key=lambda name: hashlib.md5((key + name).encode()).digest()), ())

    graph = load(path, {name: x.shape for name, x in feed.items()})
    plan = compile_graph(graph, options.isa, choose, threads=options.threads)
    write_plan(plan, path.with_suffix(".drawn"))
    return _listed(Session(path.with_suffix(".drawn")).run(feed))


def fallback(path: Path, feed: Feed, options: Options) -> Outputs:
    """A session that hands what the engine does not know to ONNX Runtime."""
    return _listed(session_of(path, feed, options, fallback="onnxruntime").run(feed))


def rewritten(path: Path, feed: Feed, options: Options) -> Outputs:
    """The model with its parts replaced by plans, in ONNX Runtime."""
    import onnxruntime

    from activsparse.onnxruntime import register, rewrite

    out = path.with_suffix(".rewritten.onnx")
    shapes = {name: x.shape for name, x in feed.items()}
    rewrite(path, out, target=target_of(options.isa), input_shapes=shapes, tune=False)
    settings = _settings(options)
    register(settings)
    return onnxruntime.InferenceSession(out, settings, ["CPUExecutionProvider"]).run(None, feed)


def provided(path: Path, feed: Feed, options: Options) -> Outputs:
    """The model as it is in ONNX Runtime, with this engine as an execution provider."""
    import onnxruntime

    from activsparse.onnxruntime import add_provider

    plan = path.with_suffix(".provided.plan")
    shapes = {name: x.shape for name, x in feed.items()}
    compile_file(path, plan, target=target_of(options.isa), input_shapes=shapes, tune=False)
    settings = _settings(options)
    add_provider(settings, plan)
    return onnxruntime.InferenceSession(path, settings).run(None, feed)


def target_of(isa: str) -> str:
    """The name `compile` and `rewrite` know an instruction set by."""
    return isa


def _settings(options: Options):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4
    return settings


def delegated(path: Path, feed: Feed, options: Options) -> Outputs:
    """The model as a .tflite file in LiteRT, with the delegate."""
    from activsparse.litert import convert, interpreter

    out = path.with_suffix(".tflite")
    convert(path, out, input_shapes={name: x.shape for name, x in feed.items()})
    made = interpreter(out, threads=options.threads, tune=bool(options.tune))
    for detail, x in zip(made.get_input_details(), feed.values(), strict=True):
        made.set_tensor(detail["index"], np.moveaxis(x, 1, -1) if x.ndim == 4 else x)
    made.invoke()
    results = [made.get_tensor(detail["index"]) for detail in made.get_output_details()]
    return [np.moveaxis(y, -1, 1) if y.ndim == 4 else y for y in results]


DOORS: dict[str, Callable[[Path, Feed, Options], Outputs]] = {
    door.__name__: door for door in (direct, drawn, fallback, rewritten, provided, delegated)
}
