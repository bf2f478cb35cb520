"""Whether a parsed model is one: names, attributes, operators, and who writes what."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError, Option
from activsparse.onnx_file.bodies import bodies

if TYPE_CHECKING:
    import onnx
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

__all__ = [
    "QUANTISED_BY_ONNXRUNTIME",
    "STANDARD",
    "check_attributes",
    "check_names",
    "check_values",
    "title",
]

STANDARD = ("", "ai.onnx")
"""The domain of the standard operators, as files write it."""

QUANTISED_BY_ONNXRUNTIME = (
    *("QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool"),
    *("QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean", "QLinearSigmoid"),
    *("QLinearSoftmax", "QLinearWhere"),
)
"""Operators that its quantiser adds to the standard ones."""

_ONNXRUNTIME = "com.microsoft"
_ONNXRUNTIME_LAYOUT = "com.microsoft.nchwc"

_BRANCHES = ("If",)

_AGAIN = "export or copy the file again"


def title(node: onnx.NodeProto) -> str:
    """Return how error messages call a node."""
    output = next(iter(node.output), "")
    return f"node '{node.name or output}' ({node.op_type})"


def check_names(model: onnx.ModelProto, file: str) -> None:
    """Check that every string in a model is text.

    Raises:
        ActivsparseError: one is not UTF-8.
    """
    for field, value in _strings(model):
        if not isinstance(value, str):
            raise ActivsparseError(
                f"{file}: a {field} in it, {value[:40]!r}, is not UTF-8; {_AGAIN}"
            )


def _strings(message: Message) -> Iterator[tuple[str, Any]]:
    for field, repeated, is_text in _text_fields(message.DESCRIPTOR):
        # protobuf gives what is no UTF-8 as bytes, or raises, depending on its version.
        try:
            value = getattr(message, field)
        except UnicodeDecodeError as error:
            yield field, error.object
            continue
        if repeated:
            try:
                items = list(value)
            except UnicodeDecodeError as error:
                yield field, error.object
                continue
        elif is_text or message.HasField(field):
            items = [value]
        else:
            items = []
        for item in items:
            if is_text:
                yield field, item
            else:
                yield from _strings(item)


_TEXT_FIELDS: dict[str, list[tuple[str, bool, bool]]] = {}


def _text_fields(descriptor: Descriptor) -> list[tuple[str, bool, bool]]:
    """Name, whether repeated and whether text, of each field that is text or may hold some."""
    known = _TEXT_FIELDS.get(descriptor.full_name)
    if known is None:
        known = [
            (field.name, field.is_repeated, field.type == field.TYPE_STRING)
            for field in descriptor.fields
            if field.type in (field.TYPE_STRING, field.TYPE_MESSAGE)
        ]
        _TEXT_FIELDS[descriptor.full_name] = known
    return known


def check_attributes(
    graph: onnx.GraphProto, opset: int, ir_version: int, file: str, foreign: bool = False
) -> None:
    """Check every node of the standard operators against what its operator takes.

    With `foreign`, operators of other domains are let by, and sub-graphs of any; else those of `If`
    alone, whose condition may turn out to be a constant.

    Raises:
        ActivsparseError: a foreign operator, a loop, an attribute without type or of a wrong
            one, too few or too many inputs or outputs.
    """
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = ir_version
    context.opset_imports = dict.fromkeys(STANDARD, opset)
    for node in graph.node:
        where = f"{file}: {title(node)}"
        if node.domain == _ONNXRUNTIME and node.op_type in QUANTISED_BY_ONNXRUNTIME:
            for attribute in node.attribute:
                _check_attribute(attribute, where)
            continue
        if node.domain == _ONNXRUNTIME_LAYOUT and not foreign:
            raise ActivsparseError(
                f"{where} is of domain '{node.domain}', as ONNX Runtime optimises for one machine; "
                "use the file it was made from, or let ONNX Runtime run it with ",
                Option("fallback", "onnxruntime"),
            )
        if node.domain not in STANDARD and not foreign:
            raise ActivsparseError(
                f"{where} is of domain '{node.domain}'; export with standard ONNX operators only, "
                "or let ONNX Runtime run it with ",
                Option("fallback", "onnxruntime"),
            )
        for attribute in node.attribute:
            _check_attribute(attribute, where)
        held = list(bodies(node))
        if held and not (foreign or node.op_type in _BRANCHES):
            raise ActivsparseError(
                f"{where} holds a sub-graph; export without control flow, or let ONNX Runtime run "
                "it with ",
                Option("fallback", "onnxruntime"),
            )
        for body in held:
            check_attributes(body, opset, ir_version, file, foreign)
        if node.op_type in _BRANCHES and node.domain in STANDARD:
            _check_branches(node, where)
        if held or node.domain not in STANDARD:  # the checker does not know what bodies read
            continue
        schema = _schema(node.op_type, opset)
        if schema is None:
            raise ActivsparseError(
                f"{where} is no operator of ONNX opset {opset}; "
                "export with standard ONNX operators only"
            )
        if schema.deprecated:  # GroupNormalization before opset 21, which the checker refuses
            continue
        try:
            onnx.checker.check_node(_without_data(node), context)
        except Exception as error:
            cause = str(error).strip().splitlines()[0]
            raise ActivsparseError(f"{where} is not valid ({cause}); {_AGAIN}") from error


def _without_data(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with stand-ins for tensors in files of their own, which the checker looks for."""
    import onnx

    external = onnx.TensorProto.EXTERNAL
    if not any(attribute.t.data_location == external for attribute in node.attribute):
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        if attribute.t.data_location == external:
            empty = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [0], [])
            attribute.t.CopyFrom(empty)
    return copy


def _schema(name: str, opset: int) -> onnx.defs.OpSchema | None:
    """What ONNX says of an operator; `onnx.defs.has` takes no operator set in old versions."""
    import onnx

    try:
        return onnx.defs.get_schema(name, opset, "")
    except onnx.defs.SchemaError:
        return None


def _check_attribute(attribute: onnx.AttributeProto, where: str) -> None:
    import onnx

    kinds = onnx.AttributeProto
    name = f"{where}: its attribute '{attribute.name}'"
    single = {
        kinds.FLOAT: "f",
        kinds.INT: "i",
        kinds.STRING: "s",
        kinds.TENSOR: "t",
        kinds.SPARSE_TENSOR: "sparse_tensor",
        kinds.TYPE_PROTO: "tp",
        kinds.GRAPH: "g",
    }
    field = single.get(attribute.type)
    if attribute.type == kinds.UNDEFINED:
        raise ActivsparseError(f"{name} has no type; {_AGAIN}")
    if attribute.ref_attr_name or (field is not None and not attribute.HasField(field)):
        raise ActivsparseError(f"{name} has no value; {_AGAIN}")


def _check_branches(node: onnx.NodeProto, where: str) -> None:
    import onnx

    graph = onnx.AttributeProto.GRAPH  # of another type it is not read as one
    held = [a.name for a in node.attribute if a.type == graph and a.HasField("g")]
    if sorted(held) != ["else_branch", "then_branch"] or len(node.input) != 1:
        raise ActivsparseError(f"{where} needs a condition and two branches; {_AGAIN}")


def check_values(graph: onnx.GraphProto, file: str, around: Collection[str] = frozenset()) -> None:
    """Check that every value has one source; the nodes may be in any order.

    Args:
        graph: or a sub-graph.
        file: it came from, for messages.
        around: values that a sub-graph may read from outside.

    Raises:
        ActivsparseError: a value written twice or never.
    """
    constants = [tensor.name for tensor in graph.initializer]
    known = set(constants)
    written: dict[str, str] = {}
    for name in constants:
        _note(written, name, f"constant '{name}'", file)
    for value in graph.input:
        if value.name not in known:  # those of old files are listed as inputs too
            _note(written, value.name, f"input '{value.name}'", file)
    for node in graph.node:
        for name in filter(None, node.output):
            _note(written, name, title(node), file)
    for node in graph.node:
        for body in bodies(node):
            check_values(body, file, {*around, *written})
        for name in filter(None, node.input):
            if name not in written and name not in around:
                raise ActivsparseError(
                    f"{file}: {title(node)} reads '{name}', which nothing writes; {_AGAIN}"
                )
    for value in graph.output:
        if value.name not in written and value.name not in around:
            raise ActivsparseError(f"{file}: output '{value.name}' is never written; {_AGAIN}")


def _note(written: dict[str, str], name: str, source: str, file: str) -> None:
    if not name:
        raise ActivsparseError(f"{file}: an input or a constant has no name; {_AGAIN}")
    if name in written:
        raise ActivsparseError(
            f"{file}: value '{name}' is written twice, by {written[name]} and by {source}; {_AGAIN}"
        )
    written[name] = source
