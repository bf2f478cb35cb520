"""Running a compiled model."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from activsparse import _native
from activsparse.engine.border import as_array, onnx_type, random_values, types_of, with_type
from activsparse.engine.compile import NATIVE, compile_model, target_isa
from activsparse.engine.foreign import compile_parts
from activsparse.engine.graph import Shape
from activsparse.engine.halve import check_precision
from activsparse.engine.load import load
from activsparse.engine.measure import choosing
from activsparse.engine.options import (
    AUTO,
    PRECISIONS,
    WEIGHTS,
    check_options,
    checked_shapes,
    default_threads,
)
from activsparse.engine.parts import ForeignPart, NativePart, Part
from activsparse.engine.passes.clean import clean
from activsparse.engine.passes.convert import EXACT
from activsparse.engine.passes.infer import infer
from activsparse.engine.passes.quantised import expand_qoperators
from activsparse.engine.plan import Plan, compile_graph
from activsparse.engine.plan_file import is_plan, read_plan, write_plan
from activsparse.engine.report import NodeReport
from activsparse.engine.value_info import ValueInfo
from activsparse.errors import ActivsparseError, Option, Words, memory_suffices
from activsparse.files import require_file
from activsparse.names import suggest
from activsparse.onnx_file import name_of
from activsparse.values import check_count

if TYPE_CHECKING:
    import onnx

__all__ = ["NodeReport", "Session"]

FloatArray = npt.NDArray[np.float32]

_LARGEST = float(np.finfo(np.float32).max)


class Session:
    """A compiled model, ready to run.

    Several threads may call `run` of one session, and several sessions run at once. All sessions of
    a process share its cores: each run gets the threads it may use as far as they are free.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes | onnx.ModelProto,
        *,
        threads: int | None = None,
        isa: str | None = None,
        input_shapes: Mapping[str, tuple[int, ...]] | None = None,
        algorithm: str | None = None,
        tune: bool | str = AUTO,
        winograd: bool = True,
        fallback: str | None = None,
        weights: str = WEIGHTS[0],
        precision: str = PRECISIONS[0],
        pool: _native.ThreadPool | None = None,
    ) -> None:
        """Compile an ONNX model, or map a compiled plan (see `save`) into memory.

        Args:
            path: an ONNX file in float32, or a plan. Or what would be in the file: bytes, or a
                model as the onnx package has it; external data that it names is looked for in the
                working directory.
            threads: how many threads share the work of one run; the default is one for each
                physical core that this process may use, those of `pool`, or what the plan was saved
                with. A batch of at least as many images is divided among them.
            isa: instruction set; the default is the variable ACTIVSPARSE_ISA, else the best one of
                this CPU. This and the following are settled in a plan.
            input_shapes: full shapes of inputs whose sizes the file leaves open. An open batch size
                that is not given becomes 1.
            algorithm: convolution algorithm for all layers instead of the choice per layer;
                "reference" forces the naive reference everywhere.
            tune: measure algorithms on this machine (True) or go by estimates alone (False), which
                gives the same plan every time. "auto" measures where the results can be kept:
                unless ACTIVSPARSE_CACHE is "off" (docs/architecture.md, "Measured choices").
            winograd: allow Winograd convolutions, which are faster and round more
                (docs/numerics.md).
            fallback: "onnxruntime" lets ONNX Runtime compute what this engine does not know;
                `explain` lists it. Without it such nodes are an error.
            weights: "float16" keeps the weights of products in half the memory, rounded once;
                arithmetic stays float32 (docs/numerics.md, "Weights in float16"). `explain` says
                of which operators.
            precision: "float16" computes in float16 what is faster so by estimate, where the
                processor has instructions for it (64-bit ARM from ARMv8.2 on, such as a Raspberry
                Pi 5's) (docs/numerics.md, "Arithmetic in float16"). `explain` names the type of
                every operator.
            pool: an `activsparse.ThreadPool` to run on, in place of the process's own. What another
                engine computes runs on that one's threads.

        Raises:
            ActivsparseError: the file cannot be read, holds something the engine does not run, or
                an option is not possible here.
        """
        check_options(
            threads=threads,
            isa=isa,
            algorithm=algorithm,
            tune=tune,
            winograd=winograd,
            fallback=fallback,
            weights=weights,
            precision=precision,
        )
        if pool is not None and not isinstance(pool, _native.ThreadPool):
            raise ActivsparseError(
                Option("pool", pool), ": must be an activsparse.ThreadPool, or None"
            )
        if pool is not None and threads is None:
            threads = pool.threads
        self._pool = pool
        input_shapes = checked_shapes(input_shapes) or None
        in_memory = isinstance(path, bytes) or hasattr(path, "SerializeToString")
        self._name = name_of(path) if in_memory else str(require_file(path))
        self._parts: list[Part]
        self._constants: dict[str, npt.NDArray[Any]]
        with memory_suffices(self._name):
            if is_plan(path):
                plan = replace(read_plan(path), name=self._name)
                self._take(plan, threads)
                settled = {
                    "isa": None if isa == plan.isa else isa,
                    "input_shapes": input_shapes,
                    "algorithm": algorithm,
                    "tune": None if tune == AUTO else tune,
                    "winograd": None if winograd else False,
                    "fallback": fallback,
                    "weights": None if weights == WEIGHTS[0] else weights,
                    "precision": None if precision == PRECISIONS[0] else precision,
                }
                for option, value in settled.items():
                    if value is not None:
                        raise ActivsparseError(
                            f"{plan.name}: ",
                            Option(option, value),
                            " cannot change a compiled plan; compile the model again with it",
                        )
            else:
                isa = isa or target_isa(NATIVE)
                _native.check_isa(isa)
                options: dict[str, Any] = {
                    "algorithm": algorithm,
                    "tune": tune,
                    "winograd": winograd,
                    "weights": weights,
                    "precision": precision,
                }
                threads = threads or default_threads()
                if fallback is None:
                    plan = compile_model(
                        path, isa=isa, threads=threads, input_shapes=input_shapes, **options
                    )
                    self._take(plan, threads)
                else:
                    self._take_parts(path, input_shapes, isa, threads, **options)
        self._times_ms: list[float] | None = None
        self._remake: dict[str, Any] | None = None
        if fallback is not None:
            self._remake = {
                "path": path if isinstance(path, bytes) or not in_memory else _bytes_of(path),
                "threads": threads,
                "isa": isa,
                "input_shapes": input_shapes,
                "algorithm": algorithm,
                "tune": tune,
                "winograd": winograd,
                "fallback": fallback,
                "weights": weights,
                "precision": precision,
            }

    def __repr__(self) -> str:
        """Inputs, outputs and what runs them, a line each."""
        lines = [f"Session({self._name!r}, isa={self._isa!r}, threads={self._threads})"]
        for what, values in (("input", self.get_inputs()), ("output", self.get_outputs())):
            lines += [f"  {what} {v.name}: {v.type} {v.shape}" for v in values]
        runs = Counter(f"{r.kind} by {r.algorithm}" for r in self.explain())
        lines += [f"  {count} x {what}" for what, count in runs.most_common()]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Callable[..., Session], tuple[Any, ...]]:
        """Copies, in other processes too, are made from the plan; with a fallback, from the file.

        They give the same numbers: measured choices of algorithms are part of a plan.
        """
        if self._remake is not None:
            return _remade, (self._remake,)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "plan"
            self.save(file)
            return _from_plan, (file.read_bytes(), self._name, self._threads)

    def _take(self, plan: Plan, threads: int | None) -> None:
        plan = replace(plan, threads=threads or plan.threads)
        self._parts = [NativePart(plan, self._pool)]
        self._isa, self._threads = plan.isa, plan.threads
        self._inputs, self._outputs = plan.inputs, plan.outputs
        self._results = [name for name, _ in plan.outputs]
        self._constants = {}
        self._types = {name: np.dtype(type_) for name, type_ in plan.types.items()}

    def _take_parts(
        self,
        path: str | os.PathLike[str] | bytes | onnx.ModelProto,
        input_shapes: Mapping[str, tuple[int, ...]] | None,
        isa: str,
        threads: int,
        weights: str,
        precision: str,
        **options: Any,
    ) -> None:
        """Compile what this engine knows, hand the rest to ONNX Runtime."""
        loaded = load(path, input_shapes, foreign=True)
        graph = clean(infer(expand_qoperators(loaded), lenient=True))
        fuse = options["algorithm"] is None
        with choosing(isa=isa, threads=threads, **options) as choose:
            mix = options["winograd"]
            check_precision(isa, precision)
            parts = compile_parts(
                graph,
                lambda part: compile_graph(
                    part, isa, choose, fuse, threads, weights, mix, precision
                ),
            )
        self._parts = []
        told: dict[str, np.dtype[Any]] = {}  # by ONNX Runtime, where nobody else knew
        for plan, part in parts:
            if plan is not None:
                self._parts.append(NativePart(plan, self._pool))
                continue
            foreign = ForeignPart(replace(part, dtypes=told | part.dtypes), threads)
            told |= foreign.dtypes
            self._parts.append(foreign)
        self._isa, self._threads = isa, threads
        self._inputs = [(name, graph.shape(name)) for name in graph.inputs]
        self._results = graph.outputs
        self._constants = {n: graph.constants[n] for n in graph.outputs if n in graph.constants}
        shapes = [graph.shapes.get(name, ()) for name in graph.outputs]
        self._outputs = list(zip(loaded.outputs, shapes, strict=True))
        types = types_of(graph, loaded.outputs)
        self._types = {name: np.dtype(type_) for name, type_ in types.items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled plan to a file that `Session` loads without onnx or compiling.

        It runs on machines with the same instruction set; docs/plan-format.md describes it.

        Raises:
            ActivsparseError: the file cannot be written, or parts run in another engine.
        """
        part = self._parts[0] if len(self._parts) == 1 else None
        if not isinstance(part, NativePart) or self._constants:
            raise ActivsparseError(
                f"{self._name}: parts of it run in ONNX Runtime, which a plan cannot hold; "
                "replace these operators in the model (`activsparse explain` lists them)"
            )
        write_plan(part.plan, path)

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return self._isa

    @property
    def threads(self) -> int:
        """Threads that share the work of one run."""
        return self._threads

    @property
    def inputs(self) -> list[tuple[str, Shape]]:
        """(name, shape) of every input, in graph order."""
        return list(self._inputs)

    @property
    def outputs(self) -> list[tuple[str, Shape]]:
        """(name, shape) of every output, in graph order; () where only a fallback knows it."""
        return list(self._outputs)

    @property
    def arena_bytes(self) -> int:
        """Memory for activations of one run."""
        plans = [part.plan for part in self._parts if isinstance(part, NativePart)]
        return sum(plan.run_bytes for plan in plans)

    def get_inputs(self) -> list[ValueInfo]:
        """Inputs in graph order, as `onnxruntime.InferenceSession` gives them."""
        return [ValueInfo(name, list(shape), self._type(name)) for name, shape in self._inputs]

    def get_outputs(self) -> list[ValueInfo]:
        """Outputs in graph order, alike."""
        types = {
            name: type_
            for part in self._parts
            if isinstance(part, ForeignPart)
            for name, type_ in part.output_types.items()
        }
        return [
            ValueInfo(name, list(shape), types.get(result, self._type(name)))
            for (name, shape), result in zip(self._outputs, self._results, strict=True)
        ]

    def _type(self, name: str) -> str:
        return onnx_type(self._types.get(name, np.float32))

    @overload
    def run(
        self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]
    ) -> FloatArray | list[FloatArray]: ...

    @overload
    def run(
        self, x: Sequence[str] | None, feeds: Mapping[str, npt.ArrayLike]
    ) -> list[FloatArray]: ...

    def run(
        self, x: Any, feeds: Mapping[str, npt.ArrayLike] | None = None
    ) -> FloatArray | list[FloatArray]:
        """Run the model once.

        Args:
            x: the input in the shape of `inputs` (NCHW) and the type of `get_inputs`, float32 as a
                rule, or a dict of all inputs by name; arrays, or tensors of torch. With `feeds` the
                names of the outputs that are wanted, None for all.
            feeds: all inputs by name. `run(None, {"x": x})` answers as ONNX Runtime does.

        Returns:
            The output as a new array, of float32 unless `get_outputs` says otherwise; a list in
            graph order where there are several. With `feeds` a list in any case.

        Raises:
            ActivsparseError: an input is missing, unknown, or of another shape or dtype; or there
                is no such output.
        """
        if feeds is None:
            if x is None:
                raise ActivsparseError(
                    f"{self._name}: got no input; give an array, or a dict of all inputs by name"
                )
            results = self._run(x)
            return results[0] if len(results) == 1 else results
        known = [name for name, _ in self._outputs]
        wanted = known if x is None or len(x) == 0 else list(x)
        if odd := [name for name in wanted if name not in known]:
            raise ActivsparseError(
                f"{self._name}: has no output {odd[0]!r}; {suggest(str(odd[0]), known)}"
            )
        if not isinstance(feeds, Mapping):
            raise ActivsparseError(
                f"{self._name}: the inputs are a {type(feeds).__name__}; give a dict of all of them"
            )
        by_name = dict(zip(known, self._run(feeds), strict=True))
        return [by_name[name] for name in wanted]

    def _run(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> list[FloatArray]:
        values = self._arguments(x)
        with memory_suffices(self._name):
            for part in self._parts:
                values.update(zip(part.output_names, part.run(values), strict=True))
        # What no part computes is the caller's array, or the model's.
        unchanged = self._constants.keys() | {name for name, _ in self._inputs}
        values.update(self._constants)
        results = [
            np.array(values[name]) if name in unchanged else values[name] for name in self._results
        ]
        if not self._types:
            return results
        types = [self._types.get(name, np.dtype(np.float32)) for name, _ in self._outputs]
        return [
            with_type(value, dtype) if value.dtype == np.float32 else value
            for value, dtype in zip(results, types, strict=True)
        ]

    def explain(self) -> list[NodeReport]:
        """Describe every operator, with times if `profile` has run."""
        reports = [report for part in self._parts for report in part.reports]
        if self._times_ms is None:
            return reports
        times = self._times_ms
        return [replace(row, time_ms=time) for row, time in zip(reports, times, strict=True)]

    def profile(self, repeat: int = 20) -> list[NodeReport]:
        """Run on random input and return `explain()` with the median time of every operator.

        Args:
            repeat: runs to take the median over, after one to warm up.

        Raises:
            ActivsparseError: `repeat` is no whole number from 1 to a million.
        """
        check_count("repeat", repeat, 1_000_000)
        values, times = self._arguments(self.random_input()), []
        with memory_suffices(self._name):
            for part in self._parts:
                times += part.profile(values, repeat)
                values.update(zip(part.output_names, part.run(values), strict=True))
        self._times_ms = times
        return self.explain()

    def random_input(self, seed: int = 0) -> dict[str, FloatArray]:
        """Return a standard normal input, for measurements and comparisons.

        Inputs that nothing reads are zeros, which take no memory however large they are.
        """
        rng = np.random.default_rng(seed)
        read = {name for part in self._parts for name in part.reads}
        with memory_suffices(self._name):
            return {
                name: random_values(rng, shape, self._types.get(name, np.float32))
                if name in read
                else np.zeros(shape, self._types.get(name, np.float32))
                for name, shape in self._inputs
            }

    def _arguments(
        self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]
    ) -> dict[str, npt.NDArray[Any]]:
        names = [name for name, _ in self._inputs]
        given = x if isinstance(x, Mapping) else dict.fromkeys(names[:1], x)
        if set(given) != set(names):
            raise ActivsparseError(
                f"{self._name}: got inputs {sorted(map(str, given))}, the model has {names}; "
                "give each of them once"
            )
        return {name: self._check(name, shape, given[name]) for name, shape in self._inputs}

    def _check(self, name: str, shape: Shape, value: npt.ArrayLike) -> FloatArray:
        wanted = self._types.get(name, np.dtype(np.float32))
        try:
            array = as_array(value)
        except (ValueError, TypeError) as error:  # lists of unequal lengths, say
            if "BFloat16" in str(error):  # of torch, which numpy has not
                raise ActivsparseError(
                    f"{self._name}: input '{name}' is bfloat16; convert it to {wanted}"
                ) from error
            raise ActivsparseError(
                f"{self._name}: input '{name}' is no array ({error}); give one of shape {shape}"
            ) from error
        if array.dtype != wanted:
            raise ActivsparseError(
                f"{self._name}: input '{name}' is {array.dtype}; convert it to {wanted}"
            )
        if array.shape != shape:
            raise ActivsparseError(
                f"{self._name}: input '{name}' has shape {array.shape}, the model takes {shape}; ",
                *_shape_remedy(name, array.shape, shape),
            )
        if wanted.itemsize > 2 and wanted.kind in "iu" and (np.abs(array) > EXACT).any():
            raise ActivsparseError(
                f"{self._name}: input '{name}' holds numbers beyond 2^24, which float32, in which "
                "the engine computes, does not; use smaller ones"
            )
        if wanted == np.float64 and (np.isfinite(array) & (np.abs(array) > _LARGEST)).any():
            raise ActivsparseError(
                f"{self._name}: input '{name}' holds numbers beyond {_LARGEST:.3g}, which float32, "
                "in which the engine computes, does not; use smaller ones"
            )
        return np.asarray(array, np.float32 if wanted.kind == "f" else None, order="C")


def _from_plan(content: bytes, name: str, threads: int) -> Session:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(name).with_suffix(".plan").name
        file.write_bytes(content)
        session = Session(file, threads=threads)  # maps the file, which may go then
    session._name = name
    return session


def _remade(options: dict[str, Any]) -> Session:
    return Session(**options)


def _bytes_of(model: Any) -> bytes:
    """A model of the onnx package as a file holds it."""
    return bytes(model.SerializeToString())


def _shape_remedy(name: str, given: tuple[int, ...], wanted: Shape) -> tuple[Words, ...]:
    """What to do about an input of the wrong shape."""
    if len(wanted) == 4:
        n, c, h, w = wanted
        turned = "np.moveaxis(x, -1, -3)"
        remedies = {
            (c, h, w): "x[None]",
            (h, w, c): f"{turned}[None]",
            (n, h, w, c): turned,
            (h, w): "x[None, None]",
        }
        expression = remedies.get(given)
        if expression is not None and (n == 1 or len(given) == 4) and (len(given) > 2 or c == 1):
            return (f"pass {expression}",)
    return (
        "reshape it, or give ",
        Option("input_shapes", {name: given}),
        " if the file leaves these sizes open",
    )
