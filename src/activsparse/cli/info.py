"""`activsparse info`: what is in a model file, and what the engine would do with it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import (
    add_fallback_option,
    add_input_options,
    input_shapes,
    input_sizes,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx

    from activsparse.engine.report import NodeReport
    from activsparse.engine.value_info import ValueInfo

__all__ = ["add_parser", "run"]

_TFLITE = b"TFL3"
_NAMES = {"float": "float32", "double": "float64"}
"""Types as numpy names them."""
Fact = tuple[str, str]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse info`."""
    parser = subparsers.add_parser(
        "info",
        help="say what is in a model file, and what the engine would do with it",
        description="Print a model's inputs, outputs, operators, multiply-adds and masks, and "
        "whether the engine runs all of it. Nothing is timed; `activsparse explain` does that.",
    )
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="an ONNX model, a compiled plan or a .tflite file"
    )
    add_input_options(parser)
    add_fallback_option(parser, "said of what needs it in any case")


def run(args: argparse.Namespace) -> int:
    """Print one fact a line."""
    from activsparse.engine.plan_file import is_plan
    from activsparse.files import require_file

    if is_plan(args.model):
        facts = _plan(args.model)
    elif _starts(require_file(args.model))[4:8] == _TFLITE:
        facts = _tflite(args.model)
    else:
        facts = _onnx(args)
    console = plain_console()
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        console.print(f"{name:<{width}}  {value}")
    return 0


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(8)


def _onnx(args: argparse.Namespace) -> list[Fact]:
    from activsparse.onnx_file import read_model

    model = read_model(str(args.model), foreign=True)
    opsets = ", ".join(
        f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import
    )
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        ("file", f"ONNX, {_size(args.model)}, opset {opsets}, by {producer or 'nobody named'}"),
        *(("input", _value(v)) for v in model.graph.input if v.name not in constants),
        *(("output", _value(v)) for v in model.graph.output),
        ("operators", _counted(node.op_type for node in model.graph.node)),
        ("constants", _parameters(model)),
        *_convolutions(model, args),
        *_engine(args),
        *_precision(model),
    ]


def _convolutions(model: onnx.ModelProto, args: argparse.Namespace) -> list[Fact]:
    """Their multiply-adds, and their masks."""
    from activsparse.errors import ActivsparseError
    from activsparse.export.convs import find_convs
    from activsparse.export.insert import find_masks
    from activsparse.export.mask import fix_sizes
    from activsparse.masks.pattern import sparsity_of
    from activsparse.onnx_file import array_of

    try:
        fix_sizes(model, input_sizes(args), str(args.model))
        convs = find_convs(model, str(args.model))
    except ActivsparseError as error:
        return [("convolutions", f"not understood: {error}")]
    if not convs:
        return []
    macs = {conv.conv_output: conv.shape.macs for conv in convs if conv.shape is not None}
    known = "" if len(macs) == len(convs) else f" of the {len(macs)} whose maps are known"
    facts = [
        (
            "convolutions",
            f"{len(convs)}, {sum(macs.values()) / 1e6:,.1f} M multiply-adds dense{known}",
        )
    ]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    masks = [mask for mask in find_masks(model.graph) if mask.constant in tensors]
    if not masks:
        return [*facts, ("masks", "none: a dense model")]
    computed: dict[str, npt.NDArray[np.bool_]] = {}
    for mask in masks:
        values = array_of(tensors[mask.constant], str(args.model)).ravel()
        kept = values != 0 if mask.fill == "zero" else values == range(len(values))
        computed[mask.conv] = computed.get(mask.conv, True) & kept
    shares = {conv: sparsity_of(kept) for conv, kept in computed.items()}
    pairs = [(share, macs.get(conv, 0)) for conv, share in shares.items()]
    return [*facts, *_masks([mask.fill for mask in masks], pairs, sum(macs.values()))]


def _masks(fills: Sequence[str], layers: Sequence[tuple[float, int]], macs: int) -> list[Fact]:
    """Facts of masks: their fills, and of each masked layer the sparsity and multiply-adds."""
    from activsparse.masks.mean import SAVED_IS, SPARSITY_IS, Savings

    savings = Savings.of(layers, macs)
    shares = [share for share, _ in layers]
    return [
        (
            "masks",
            f"{len(fills)} (fill {_counted(fills)}), layers skip {min(shares):.3f} to "
            f"{max(shares):.3f} of their positions",
        ),
        ("sparsity", f"{savings.sparsity:.3f}, {SPARSITY_IS}"),
        ("saved", f"{savings.saved:.3f}, {SAVED_IS}"),
    ]


def _engine(args: argparse.Namespace) -> list[Fact]:
    """What runs here, and what would not."""
    from activsparse import Session
    from activsparse.cli.wording import speller
    from activsparse.errors import ActivsparseError

    shapes = input_shapes(args, args.model)
    try:
        session = Session(args.model, tune=False, input_shapes=shapes)
    except ActivsparseError as error:
        refused = error.worded(speller("info")).removeprefix(f"{args.model}: ")
    else:
        return [("engine", f"runs all of it ({session.isa})"), *_reports(session.explain())]
    try:
        session = Session(args.model, tune=False, input_shapes=shapes, fallback="onnxruntime")
        rows = session.explain()
    except ActivsparseError:
        return [("engine", f"does not run it: {refused}")]
    foreign = [row.name for row in rows if row.algorithm == "onnxruntime"]
    return [
        ("engine", f"runs it with --fallback onnxruntime ({refused})"),
        ("foreign", f"{len(foreign)} part(s), from {'; '.join(foreign[:6])}"),
        *_reports(row for row in rows if row.algorithm != "onnxruntime"),
    ]


def _reports(rows: Iterable[NodeReport]) -> list[Fact]:
    rows = list(rows)
    masked = [row for row in rows if row.requested is not None]
    facts = [("runs as", _counted(f"{row.kind} by {row.algorithm}" for row in rows))]
    macs, dense = (sum(getattr(row, key) for row in rows) for key in ("macs", "dense_macs"))
    if masked:
        wasted = [row.name for row in masked if row.wastes_mask]
        facts.append(
            (
                "skipping",
                f"{len(masked) - len(wasted)} of {len(masked)} operators with masks save work"
                + (f", not {', '.join(wasted[:6])}" if wasted else ""),
            )
        )
    if dense:
        facts.append(
            (
                "work",
                f"{macs / 1e6:,.1f} M multiply-adds done by these algorithms, matrix products "
                f"included; direct and without masks {dense / 1e6:,.1f} M",
            )
        )
    return facts


def _plan(path: Path) -> list[Fact]:
    from activsparse import Session

    session = Session(path)
    return [
        (
            "file",
            f"compiled plan, {_size(path)}, for {session.isa}, {session.threads} thread(s)",
        ),
        *(("input", _info(value)) for value in session.get_inputs()),
        *(("output", _info(value)) for value in session.get_outputs()),
        *_reports(session.explain()),
    ]


def _tflite(path: Path) -> list[Fact]:
    from ai_edge_litert.interpreter import Interpreter

    from activsparse.errors import ActivsparseError
    from activsparse.litert import interpreter

    try:
        plain = Interpreter(str(path), experimental_op_resolver_type=_without_delegates())
        plain.allocate_tensors()
        operators = [node["op_name"] for node in plain._get_ops_details()]
    except (ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(f"{path}: LiteRT cannot read it: {cause}") from error
    ours = interpreter(path, tune=False, experimental_op_resolver_type=_without_delegates())
    left = [node["op_name"] for node in ours._get_ops_details()]
    parts = left.count("DELEGATE")
    claimed = f"claims nothing of it ({_counted(operators)})"
    if parts:
        # What is left follows the operators of the file.
        rest = [name for name in left[len(operators) :] if name != "DELEGATE"]
        claimed = f"claims {parts} part(s)" + (f", all but {_counted(rest)}" if rest else "")
    return [
        ("file", f"TFLite, {_size(path)}"),
        *(("input", _detail(detail)) for detail in plain.get_input_details()),
        *(("output", _detail(detail)) for detail in plain.get_output_details()),
        ("operators", _counted(operators)),
        *_tflite_layers(plain),
        ("delegate", claimed),
    ]


def _tflite_layers(plain: Any) -> list[Fact]:
    """Multiply-adds and masks of convolutions, as of an ONNX model."""
    from activsparse.litert.layers import layers_of

    layers = layers_of(plain)
    if not layers:
        return []
    macs = sum(layer.macs for layer in layers)
    facts = [("convolutions", f"{len(layers)}, {macs / 1e6:,.1f} M multiply-adds dense")]
    masked = [(1.0 - float(x.kept.mean()), x.macs) for x in layers if x.kept is not None]
    if not masked:
        return [*facts, ("masks", "none: a dense model")]
    return [*facts, *_masks([fill for layer in layers for fill in layer.fills], masked, macs)]


def _without_delegates() -> Any:
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def _detail(detail: dict[str, Any]) -> str:
    return f"{detail['name']}: {detail['dtype'].__name__} {_dims(detail['shape'].tolist())}"


def _info(value: ValueInfo) -> str:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return f"{value.name}: {_NAMES.get(kind, kind)} {_dims(value.shape)}"


def _value(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    kind = _kind(tensor.elem_type)
    if not tensor.HasField("shape"):
        return f"{value.name}: {kind} of any shape"
    dims = [dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim]
    return f"{value.name}: {kind} {_dims(dims)}"


def _kind(elem_type: int) -> str:
    import onnx

    kind = str(onnx.TensorProto.DataType.Name(elem_type)).lower()
    return _NAMES.get(kind, kind)


def _precision(model: onnx.ModelProto) -> list[Fact]:
    """What is computed in float32 although the file says otherwise."""
    import onnx

    others = {onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE}
    values = (*model.graph.input, *model.graph.output)
    kinds = {value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.data_type for tensor in model.graph.initializer}
    names = " and ".join(_kind(kind) for kind in sorted(kinds & others))
    return [("precision", f"computed in float32, {names} is converted")] if names else []


def _parameters(model: onnx.ModelProto) -> str:
    from math import prod

    # Some exporters, Paddle's for one, write weights as nodes.
    written = (a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute)
    tensors = [*model.graph.initializer, *(tensor for tensor in written if tensor.data_type)]
    count = sum(prod(tensor.dims) for tensor in tensors)
    kinds = _counted(_kind(tensor.data_type) for tensor in tensors)
    return f"{count:,} numbers in {len(tensors)} tensors ({kinds or 'none'})"


def _counted(words: Iterable[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def _dims(sizes: Sequence[Any]) -> str:
    return "x".join(map(str, sizes)) or "scalar"


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.2f} MiB"
