"""The parts a session runs one after the other: compiled plans, and what another engine runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from activsparse import _native
from activsparse.engine.border import numpy_type
from activsparse.engine.graph import Graph
from activsparse.engine.options import default_threads
from activsparse.engine.plan import Plan
from activsparse.engine.report import NodeReport
from activsparse.errors import ActivsparseError

__all__ = ["ForeignPart", "NativePart", "Part", "Values"]

_NAMED = 3
"""So many nodes of a part messages and reports name."""

Values = Mapping[str, npt.NDArray[Any]]


class Part(Protocol):
    """Reads some of the values known so far and computes others."""

    output_names: list[str]
    reads: set[str]

    @property
    def reports(self) -> list[NodeReport]:
        """What `explain` tells, one per operator."""

    def run(self, values: Values) -> Sequence[npt.NDArray[Any]]:
        """Return the outputs as new arrays."""

    def profile(self, values: Values, repeat: int) -> list[float]:
        """Return the median milliseconds of every report's operator."""


class NativePart:
    """A compiled plan and its executor."""

    def __init__(self, plan: Plan, pool: _native.ThreadPool | None = None) -> None:
        """Create the executor, on the process's threads unless a pool is given.

        As many runs go at once, each in memory of its own, as have cores for all their threads.
        """
        self.plan = plan
        cores = default_threads() if pool is None else pool.threads
        self.output_names = [name for name, _ in plan.outputs]
        read = {tensor for _, inputs, _ in plan.steps for tensor in inputs} | {*plan.output_ids}
        ids = zip(plan.inputs, plan.input_ids, strict=True)
        self.reads = {name for (name, _), tensor in ids if tensor in read}
        _native.gather([operator for operator, _, _ in plan.steps])
        self._executor = _native.Executor(
            plan.tensors,
            plan.steps,
            plan.input_ids,
            plan.output_ids,
            plan.arena_bytes,
            plan.threads,
            plan.parts,
            pool,
            -(-cores // plan.threads),
        )

    @property
    def runs_at_once(self) -> int:
        """As many as have been under way at once so far; each took memory of its own."""
        return self._executor.runs_at_once

    @cached_property
    def reports(self) -> list[NodeReport]:
        """One per operator, with shares for as many threads as there are; only explain asks."""
        return [
            replace(report, longest_share=self._longest_share(operator))
            for report, (operator, _, _) in zip(self.plan.reports, self.plan.steps, strict=True)
        ]

    def _longest_share(self, operator: _native.PackedOperator) -> float:
        """Of the whole run: threads run parts by themselves, and may share what is left."""
        threads, parts = self.plan.threads, self.plan.parts
        shared = operator.longest_share(threads)
        if parts == 1:
            return shared
        left = parts % threads
        if 2 * left <= threads:
            return (parts - left + left * shared) / parts
        return -(-parts // threads) * threads / parts

    def run(self, values: Values) -> Sequence[npt.NDArray[Any]]:
        """Return the outputs as new float32 arrays."""
        inputs, outputs = self._arguments(values)
        self._executor.run(inputs, outputs)
        shapes = [shape for _, shape in self.plan.outputs]
        return [array.reshape(shape) for array, shape in zip(outputs, shapes, strict=True)]

    def profile(self, values: Values, repeat: int) -> list[float]:
        """Return the median milliseconds of every operator, after one run to warm up."""
        inputs, outputs = self._arguments(values)
        self._executor.run(inputs, outputs)
        return list(self._executor.profile(inputs, outputs, repeat))

    def _arguments(self, values: Values) -> tuple[list[Any], list[Any]]:
        inputs = [np.asarray(values[name], np.float32, order="C") for name, _ in self.plan.inputs]
        descs = [self.plan.tensors[tensor][0] for tensor in self.plan.output_ids]
        n = self.plan.parts
        return inputs, [np.empty((n * d.n, d.c, d.h, d.w), np.float32) for d in descs]


class ForeignPart:
    """Nodes that ONNX Runtime computes."""

    def __init__(self, graph: Graph, threads: int) -> None:
        """Hand the nodes to ONNX Runtime.

        Raises:
            ActivsparseError: it is not installed or cannot run them.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ActivsparseError(
                f"{graph.name}: the fallback needs onnxruntime, which is not installed; "
                "pip install 'activsparse[bench]'"
            ) from error
        from activsparse.engine.foreign import model_of

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        titles = _first_of([node.title for node in graph.nodes])
        self._titles = f"{graph.name}: {titles}"
        try:
            self._session = onnxruntime.InferenceSession(
                model_of(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            raise ActivsparseError(
                f"{graph.name}: ONNX Runtime cannot run {titles}: {str(error).splitlines()[0]}"
            ) from error
        self.output_types = {v.name: str(v.type) for v in self._session.get_outputs()}
        known = {name: numpy_type(kind) for name, kind in self.output_types.items()}
        self.dtypes = {n: dtype for n, dtype in known.items() if dtype not in (None, np.float32)}
        self._inputs = graph.inputs
        self._types = {name: graph.dtypes.get(name, np.dtype(np.float32)) for name in graph.inputs}
        self.reads = set(graph.inputs)
        self.output_names = graph.outputs
        self.reports = [_report(graph)]

    def run(self, values: Values) -> Sequence[npt.NDArray[Any]]:
        """Return the outputs as ONNX Runtime gives them.

        Raises:
            ActivsparseError: it fails on these values.
        """
        inputs = {
            name: np.asarray(values[name], self._types[name], order="C") for name in self._inputs
        }
        try:
            return list(self._session.run(self.output_names, inputs))
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = (str(error) or type(error).__name__).splitlines()[0]
            raise ActivsparseError(f"{self._titles}: ONNX Runtime fails: {cause}") from error

    def profile(self, values: Values, repeat: int) -> list[float]:
        """Return the median milliseconds of all nodes together, after one run to warm up."""
        times = []
        for _ in range(repeat + 1):
            begin = time.perf_counter()
            self.run(values)
            times.append(1e3 * (time.perf_counter() - begin))
        return [statistics.median(times[1:])]


def _first_of(names: Sequence[str]) -> str:
    """Names in a row, of many the first ones."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _report(graph: Graph) -> NodeReport:
    return NodeReport(
        name=_first_of([node.name for node in graph.nodes]),
        kind=" ".join(dict.fromkeys(node.op for node in graph.nodes)),
        algorithm="onnxruntime",
        kernel="",
        shape=graph.shapes.get(graph.outputs[0], ()),
        eligible=False,
        reason="runs in ONNX Runtime",
        requested=None,
        achieved=None,
        macs=0.0,
        dense_macs=0.0,
        weight_bytes=sum(array.nbytes for array in graph.constants.values()),
        index_bytes=0,
    )
