"""All small faults a Python file can have: comparisons, arithmetic, conditions, constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any", "argmin": "argmax"}

_TYPES = ("int", "float", "str", "bool", "list", "dict", "tuple")


@dataclass(frozen=True)
class Mutant:
    """A fault in a file.

    Attributes:
        file: path below the source folder.
        line: where.
        code: that line.
        change: old -> new, as code.
        source: the whole file with the fault.
    """

    file: str
    line: int
    code: str
    change: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it when lines have moved."""
        return self.file, self.code, self.change


def count(source: str) -> int:
    """How many faults a file can be given."""
    return sum(len(_changes(node)) for node in _nodes(ast.parse(source)))


def mutant(file: str, source: str, number: int) -> Mutant:
    """The file with one of its faults, by number."""
    tree = ast.parse(source)
    for node in _nodes(tree):
        changes = _changes(node)
        if number < len(changes):
            before = _line(node)
            changes[number]()
            line = getattr(node, "lineno", None) or node.target.lineno
            code = source.splitlines()[line - 1].strip()
            return Mutant(file, line, code, f"{before} -> {_line(node)}", ast.unparse(tree))
        number -= len(changes)
    raise IndexError(number)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs: no annotations, docstrings, imports, messages of errors or logs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Raise | ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
            continue
        if isinstance(child, ast.Expr) and "_log." in ast.unparse(child):
            continue
        if isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield from (child.value, *_nodes(child.value))
            continue
        if isinstance(child, ast.FunctionDef):
            defaults = filter(None, (*child.args.defaults, *child.args.kw_defaults))
            for part in (*defaults, *child.body):
                yield part
                yield from _nodes(part)
            continue
        yield child
        yield from _nodes(child)


def _changes(node: ast.AST) -> list:
    """The faults of one node, as functions that make them."""

    def put(field: str, value: object):
        return lambda: setattr(node, field, value)

    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARED:
        return [put("ops", [_COMPARED[type(node.ops[0])]()])]
    if isinstance(node, ast.Compare) and len(node.ops) > 1:
        return [
            put("ops", [*node.ops[:i], _COMPARED[type(op)](), *node.ops[i + 1 :]])
            for i, op in enumerate(node.ops)
            if type(op) in _COMPARED
        ]
    if isinstance(node, ast.BinOp) and _is_type(node):
        return []
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in _COMPUTED:
        return [put("op", _COMPUTED[type(node.op)]())]
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        values = node.values
        less = [put("values", values[:i] + values[i + 1 :]) for i in range(len(values))]
        return [put("op", other), *(less if len(node.values) > 2 else ())]
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        test = ast.UnaryOp(ast.Not(), node.test)
        return [put("test", test)]
    if isinstance(node, ast.comprehension):
        return [put("ifs", [])] if node.ifs else []
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return [put("value", not node.value)]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return [put("value", node.value + 1)]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLED:
        return [put("func", ast.Name(_CALLED[node.func.id], ast.Load()))]
    simple = ast.Constant | ast.Name | ast.Compare
    if isinstance(node, ast.Return) and node.value and not isinstance(node.value, simple):
        return [put("value", ast.Constant(None))]
    return []


def _is_type(node: ast.BinOp) -> bool:
    """Whether it says what type something is, as in `int | None`."""
    none = isinstance(node.right, ast.Constant) and node.right.value is None
    return isinstance(node.op, ast.BitOr) and (none or ast.unparse(node.right) in _TYPES)


def _line(node: ast.AST) -> str:
    """A node as code, in one line; of a statement its head."""
    return " ".join(ast.unparse(node).splitlines()[0].split())[:90]
