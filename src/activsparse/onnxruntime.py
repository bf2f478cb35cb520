"""This engine inside ONNX Runtime: a library of custom operators, and models rewritten for it.

    options = onnxruntime.SessionOptions()
    activsparse.onnxruntime.register(options)
    session = onnxruntime.InferenceSession("rewritten.onnx", options)

`rewrite` compiles every part of a model this engine knows into a plan and puts it into the file as
one node; what is left is ONNX Runtime's. Plans run on the threads of the session.

`add_provider` does the same for the unmodified model, with a plan in a file beside it:

    activsparse.onnxruntime.add_provider(options, "model.plan")
    session = onnxruntime.InferenceSession("model.onnx", options)
"""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.engine.compile import NATIVE, target_isa
from activsparse.engine.foreign import compile_parts
from activsparse.engine.graph import Graph
from activsparse.engine.load import load
from activsparse.engine.measure import choosing
from activsparse.engine.options import AUTO, default_threads
from activsparse.engine.passes.clean import clean
from activsparse.engine.passes.infer import infer
from activsparse.engine.passes.proto import node_proto
from activsparse.engine.passes.quantised import expand_qoperators
from activsparse.engine.plan import Plan, compile_graph
from activsparse.engine.plan_file import write_plan
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path, installed_library

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

__all__ = ["DOMAIN", "Rewritten", "add_provider", "library_path", "register", "rewrite"]

DOMAIN = "activsparse"
_log = logging.getLogger(__name__)

_LIBRARY = "libactivsparse_onnxruntime.so"
_THREADS_KEY = "activsparse.threads"


def library_path() -> Path:
    """Return the library of custom operators.

    Raises:
        ActivsparseError: this installation was built without it.
    """
    return installed_library(_LIBRARY)


def register(options: Any) -> None:
    """Make a session's options know the operators of rewritten models.

    Plans then run on as many threads as `options.intra_op_num_threads` says when this is called, 0
    meaning all usable cores.

    Args:
        options: an `onnxruntime.SessionOptions`.

    Raises:
        ActivsparseError: the library is missing, ONNX Runtime is too, or older than 1.17.
    """
    _require("custom operators with threads", 1, 17)
    options.add_session_config_entry(_THREADS_KEY, str(_threads(options)))
    options.register_custom_ops_library(str(library_path()))


def add_provider(options: Any, plan: str | os.PathLike[str]) -> None:
    """Let this engine run its part of an unmodified model.

    Where the model has values of the same names as the plan's inputs and outputs, all nodes between
    them become one that runs the plan; of another model nothing is taken. Creating the session
    fails if the plan was made of a model with other weights. Threads are those of `register`.

    Args:
        options: an `onnxruntime.SessionOptions`.
        plan: what `activsparse compile` made of the model.

    Raises:
        ActivsparseError: the library is missing, ONNX Runtime is too, or older than 1.23.
    """
    _require("execution providers from libraries", 1, 23)
    import onnxruntime

    if not _devices():
        onnxruntime.register_execution_provider_library(DOMAIN, str(library_path()))
    words = {"plan": os.fspath(Path(plan).absolute()), "threads": str(_threads(options))}
    options.add_provider_for_devices(_devices(), words)


def _require(what: str, *version: int) -> None:
    try:
        import onnxruntime
    except ImportError as error:
        raise ActivsparseError(
            f"{what} need onnxruntime, which is not installed; pip install 'activsparse[bench]'"
        ) from error

    if tuple(int(part) for part in onnxruntime.__version__.split(".")[:2]) < version:
        raise ActivsparseError(
            f"ONNX Runtime {onnxruntime.__version__} is too old for {what}; "
            f"install {'.'.join(map(str, version))} or newer"
        )


def _threads(options: Any) -> int:
    return int(options.intra_op_num_threads) or default_threads()


def _devices() -> list[Any]:
    import onnxruntime

    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == DOMAIN]


@dataclass(frozen=True)
class Rewritten:
    """What became of a model.

    Attributes:
        model: the rewritten model.
        plans: the parts this engine runs, in order.
        kept: nodes left to ONNX Runtime.
    """

    model: onnx.ModelProto = field(repr=False)
    plans: list[Plan] = field(repr=False)
    kept: int


def rewrite(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = NATIVE,
    threads: int = 1,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    tune: bool | str = AUTO,
    winograd: bool = True,
) -> Rewritten:
    """Replace the parts of an ONNX model that this engine runs by nodes that run compiled plans.

    Parts without a convolution stay as they are. The result is for one target, and for this build
    of the engine, as plans are; keep the original.

    Args:
        path: the model.
        out: the file to write.
        target: machine it is for, as for `activsparse compile`.
        threads: how many to choose algorithms for.
        input_shapes: full shapes of inputs the file leaves open; an open batch becomes 1.
        tune: whether to measure algorithms.
        winograd: allow Winograd convolutions.

    Raises:
        ActivsparseError: the model cannot be read, has no such part, or `out` cannot be written.
    """
    import onnx
    from onnx import helper

    loaded = load(path, input_shapes)
    graph = clean(infer(expand_qoperators(loaded), lenient=True))
    nodes: list[onnx.NodeProto] = []
    plans: list[Plan] = []
    constants: dict[str, Any] = {}
    kept: dict[tuple[str, ...], Any] = {}  # by outputs: several parts may read one weight
    isa = target_isa(target)
    with choosing(None, tune, winograd, isa, threads) as choose:
        for plan, part in compile_parts(
            _computed(graph),
            lambda part: compile_graph(part, isa, choose, threads=threads),
            lambda part: any(node.op == "Conv" for node in part.nodes),
            typed=False,
        ):
            if plan is not None:
                plans.append(plan)
                nodes.append(_plan_node(plan, part, len(plans)))
            else:
                new = {n.outputs: node_proto(n) for n in part.nodes if n.outputs not in kept}
                nodes += new.values()
                constants |= part.constants
                kept |= new
    if not plans:
        raise ActivsparseError(f"{path}: has no convolution this engine runs; use it as it is")
    _name_outputs(graph, loaded.outputs, nodes, constants)
    _cast_border(graph, loaded.outputs, nodes)
    proto = helper.make_graph(
        nodes,
        "rewritten",
        [_described(graph, name, name) for name in graph.inputs],
        [_described(graph, n, o) for n, o in zip(graph.outputs, loaded.outputs, strict=True)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", graph.opset), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=9)
    with atomic_path(out) as temporary:
        onnx.save(model, temporary)
    return Rewritten(model, plans, len(kept))


def _computed(graph: Graph) -> Graph:
    """The graph without the outputs no node writes, which are constants or inputs, each once."""
    written = {name for node in graph.nodes for name in node.outputs}
    outputs = [name for name in dict.fromkeys(graph.outputs) if name in written]
    return replace(graph.copy(), outputs=outputs)


def _plan_node(plan: Plan, part: Graph, number: int) -> onnx.NodeProto:
    from onnx import helper

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan"
        write_plan(plan, file)
        content = file.read_bytes()
    return helper.make_node(
        "Plan",
        [name for name, _ in plan.inputs],
        list(part.outputs),
        name=f"{DOMAIN}_{number}",
        domain=DOMAIN,
        plan=content,
    )


def _name_outputs(
    graph: Graph, names: list[str], nodes: list[onnx.NodeProto], constants: dict[str, Any]
) -> None:
    """Give outputs that a pass let read an earlier value, or a constant, their own names again."""
    from onnx import helper

    for value, name in zip(graph.outputs, names, strict=True):
        if value != name:
            nodes.append(helper.make_node("Identity", [value], [name]))
        if value in graph.constants:
            constants[value] = graph.constants[value]


def _cast_border(graph: Graph, outputs: list[str], nodes: list[onnx.NodeProto]) -> None:
    """Put casts where inputs and outputs are of other types than the graph computes in."""
    from onnx import TensorProto, helper

    from activsparse.onnx_file.bodies import rename

    ends = [name for name in dict.fromkeys((*graph.inputs, *outputs)) if name in graph.border]
    inside = {name: f"{name} as float32" for name in ends}
    for node in nodes:
        rename(node, inside)
    for name in ends:
        if name in graph.inputs:
            cast = helper.make_node("Cast", [name], [inside[name]], to=TensorProto.FLOAT)
            nodes.insert(0, cast)
        else:
            kind = helper.np_dtype_to_tensor_dtype(graph.border[name])
            nodes.append(helper.make_node("Cast", [inside[name]], [name], to=kind))


def _described(graph: Graph, value: str, name: str) -> onnx.ValueInfoProto:
    import numpy as np
    from onnx import helper

    dtype = graph.border.get(name, graph.dtypes.get(value, np.dtype(np.float32)))
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_value_info(name, kind, graph.shapes.get(value))
