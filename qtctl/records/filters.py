"""Filters (``--where EXPR``): Python expressions over records, parsed with ``ast``, never executed.

Names are arguments of an event; ``event``, ``tid`` and ``time_ns`` are fields of every record. An
argument with such a name, or with that of a Python keyword (``from``, ``async``), is written with
an underscore appended: ``event_``, ``from_``. ``pid``, ``guest`` and ``run`` are those of the
record's origin, unless its event has an argument of that name.
"""

from __future__ import annotations

import ast
import keyword
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from qtctl.errors import UsageError
from qtctl.events.patterns import similar
from qtctl.model import Argument, Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, StringColumn
from qtctl.records.evaluate import SHIFT_LIMIT, evaluate

_OWN = {"event": "text", "tid": "number", "time_ns": "number"}
_ORIGIN = {"pid": "number", "guest": "text", "run": "number", "file": "text"}
_LONGEST = 4096
_DEEPEST = 60
_MOST_NODES = 400
_NUMERIC = (
    ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor,
    ast.LShift, ast.RShift,
)  # fmt: skip
_ORDER = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def spelt(argument: str) -> str:
    """Return how an argument is written in a filter, and where records are grouped by it."""
    taken = argument in _OWN or argument in _ORIGIN or keyword.iskeyword(argument)
    return f"{argument}_" if taken else argument


class _Mismatch(Exception):
    """An operation whose operands have the wrong type, with its node."""

    def __init__(self, node: ast.expr, message: str) -> None:
        super().__init__(message)
        self.node = node


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked filter. ``arguments`` are the names in it that are, or may be, arguments of events.

    A record without one of them does not match, nor does one on which Python would raise (division
    by zero, a shift by less than 0) or that shifts by more than 128. Lines of text never match.
    """

    text: str
    arguments: frozenset[str]
    _tree: ast.expr
    _resolved: dict[str, Mapping[str, Argument] | None] = field(default_factory=dict, repr=False)

    @classmethod
    def compile(cls, text: str, declarations: Iterable[Declaration]) -> Filter:
        """Parse ``text`` and check it against the declarations of the selected events.

        Raises:
            UsageError: with the column, if it is not an expression of this kind, if no event has
                an argument that it names, or if its operations fit the types of no event.
        """
        text = " ".join(text.strip().splitlines())
        tree = _parse(text)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        chosen = list(declarations)
        used = frozenset(node.id for node in names if node.id not in _OWN)
        needed = used - _ORIGIN.keys()
        _check_names(text, [node for node in names if node.id in needed], chosen)
        resolved = [_resolve(used, declaration) for declaration in chosen]
        if not needed:  # the expression is for all events, declared or not
            resolved.append({})
        first: _Mismatch | None = None
        for arguments in resolved:
            if arguments is None:
                continue
            try:
                _type(tree, arguments)
            except _Mismatch as mismatch:
                first = first or mismatch
            else:
                return cls(text, used, tree)
        if first is None:
            together = ", ".join(sorted(used))
            raise UsageError(f"no single event has all of {together}: nothing could match")
        _fail(text, first.node, str(first), _field_hint(tree, chosen))

    def mask(self, batch: Batch) -> BoolArray:
        """Return a mask of the rows that match."""
        result = np.zeros(len(batch), np.bool_)
        for event, rows in batch.groups().items():
            if event >= 0:
                result[rows] = self._rows(batch, event, rows)
        return result

    def _rows(self, batch: Batch, event: int, rows: Any) -> BoolArray | bool:
        declaration = batch.table.declaration(event)
        names: dict[str, Any] = {"event": batch.names[event]}
        good: BoolArray | bool = True
        if self.arguments:
            resolved: Mapping[str, Argument] | None = None
            if declaration is not None:
                resolved = self._resolve_for(declaration)
            elif self.arguments <= _ORIGIN.keys():
                resolved = {}
            if resolved is None:
                return False
            if resolved:  # or those of an event without a declaration, which are never good
                columns = batch.arguments(event)
                good = columns.ok
                for name, argument in resolved.items():
                    if argument.name not in columns.values:
                        return False
                    names[name] = columns.values[argument.name]
        used = {node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)}
        if "time_ns" in used:
            names["time_ns"] = batch.time_ns[rows]
        if "tid" in used:
            names["tid"] = batch.tid[rows]
            good = good & (names["tid"] >= 0)
        for name in (used & _ORIGIN.keys()) - names.keys():
            codes, values = batch.origin[rows], [getattr(one, name) for one in batch.origins]
            good = good & np.array([one is not None for one in values])[codes]
            if _ORIGIN[name] == "text":
                names[name] = StringColumn(codes, tuple(one or "" for one in values))
            else:
                names[name] = np.array([one or 0 for one in values], np.int64)[codes]
        return good & evaluate(self._tree, names, len(rows))

    def _resolve_for(self, declaration: Declaration) -> Mapping[str, Argument] | None:
        """Map names to the event's arguments; None if it lacks one or one has the wrong type."""
        name = declaration.name
        if name not in self._resolved:
            resolved = _resolve(self.arguments, declaration)
            if resolved is not None:
                try:
                    _type(self._tree, resolved)
                except _Mismatch:
                    resolved = None
            self._resolved[name] = resolved
        return self._resolved[name]


def _fail(text: str, at: ast.expr | int, message: str, hint: str = "") -> NoReturn:
    """Raise a UsageError with a caret below the place in the expression."""
    if isinstance(at, int):
        column = at
    else:
        # ast counts bytes of UTF-8; the column is in characters.
        column = len(text.encode("utf-8", "replace")[: at.col_offset].decode("utf-8", "ignore"))
    caret = " " * column + "^"
    more = f"  {text}", f"  {caret}"
    raise UsageError(f"{message} (column {column + 1})", hint=hint, more=more)


def _parse(text: str) -> ast.expr:
    if not text:
        raise UsageError("the filter is empty", hint="--where 'nsectors > 8'")
    if len(text) > _LONGEST:
        raise UsageError(f"the filter is longer than {_LONGEST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        # Offset 0 or None: unexpected end of the text.
        column = min(error.offset - 1, len(text)) if error.offset else len(text)
        word = re.match(r"\w*", text[column:])
        hint = ""
        if word and keyword.iskeyword(word.group()):
            hint = f"{word.group()}_ for an argument called {word.group()}"
        _fail(text, column, f"not an expression: {error.msg}", hint)
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise UsageError(f"not an expression: {error or type(error).__name__}") from None
    if _check(text, tree, 0) > _MOST_NODES:
        raise UsageError(f"the filter has more than {_MOST_NODES} parts")
    return tree


def _check(text: str, node: ast.expr, depth: int) -> int:
    """Raise for syntax that filters do not support; return the number of nodes."""
    if depth > _DEEPEST:
        _fail(text, node, "nested too deeply")
    parts: list[ast.expr]
    match node:
        case ast.Constant(value=str() | int() | None) | ast.Name():
            parts = []
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd() | ast.Invert(), operand=operand):
            parts = [operand]
        case ast.BinOp(left=left, right=right) if isinstance(node.op, _NUMERIC):
            parts = [left, right]
        case ast.BoolOp(values=values):
            parts = values
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            parts = [left]
            for op, right in zip(ops, comparators, strict=True):
                parts += _comparator(text, op, right, last=right is comparators[-1])
        case _:
            _refuse(text, node)
    return 1 + sum(_check(text, part, depth + 1) for part in parts)


def _comparator(text: str, op: ast.cmpop, right: ast.expr, *, last: bool) -> list[ast.expr]:
    if isinstance(op, ast.Is | ast.IsNot):
        _fail(text, right, "'is' does not compare values", "== or !=")
    if isinstance(right, ast.Tuple | ast.List):
        if not isinstance(op, ast.In | ast.NotIn) or not last:
            _fail(text, right, "a list goes at the end, after 'in' or 'not in'")
        return right.elts
    return [right]


def _refuse(text: str, node: ast.expr) -> NoReturn:
    what = {
        ast.Call: "a call",
        ast.Attribute: "an attribute",
        ast.Subscript: "a subscript",
        ast.Lambda: "a lambda",
        ast.JoinedStr: "an f-string",
        ast.NamedExpr: "an assignment",
        ast.IfExp: "a condition",
        ast.Tuple: "a list",
        ast.List: "a list",
    }.get(type(node))
    hint = ""
    if isinstance(node, ast.Constant):
        what = f"{node.value!r}"
    elif isinstance(node, ast.BinOp):
        what = {ast.Div: "'/'", ast.Pow: "'**'", ast.MatMult: "'@'"}.get(type(node.op))
        hint = "// divides whole numbers" if what == "'/'" else ""
    _fail(text, node, f"{what or 'this'} is not part of a filter", hint)


def _check_names(text: str, names: list[ast.Name], chosen: list[Declaration]) -> None:
    known = {argument.name for one in chosen for argument in one.arguments}
    for node in names:
        if node.id in known or (node.id.endswith("_") and node.id[:-1] in known):
            continue
        message = f"no matched event has an argument {node.id!r}"
        _fail(text, node, message, similar(node.id, known, (*_OWN, *_ORIGIN)))


def _resolve(used: Iterable[str], declaration: Declaration) -> dict[str, Argument] | None:
    """Map the used names to the event's arguments, but for origins'; None if it lacks one."""
    have = {argument.name: argument for argument in declaration.arguments}
    resolved: dict[str, Argument] = {}
    for name in used:
        argument = have.get(name) or have.get(name.removesuffix("_"))
        if argument is not None:
            resolved[name] = argument
        elif name not in _ORIGIN:
            return None
    return resolved


def _field_hint(node: ast.expr, chosen: list[Declaration]) -> str:
    """Return a hint if an event has an argument with the name of a record's field."""
    for inner in ast.walk(node):
        if not isinstance(inner, ast.Name) or inner.id not in _OWN:
            continue
        if any(a.name == inner.id for one in chosen for a in one.arguments):
            return f"{inner.id}_ for the argument; {inner.id} is a field of the record"
    return ""


def _type(node: ast.expr, arguments: Mapping[str, Argument]) -> str:
    """Return the type of an expression: number, text, bool, or either (valid as condition only)."""
    match node:
        case ast.Constant(value=value):
            return "number" if isinstance(value, int) else "text"
        case ast.Name(id=name):
            if name not in arguments:
                return _OWN.get(name) or _ORIGIN[name]
            return "text" if arguments[name].kind is Kind.STRING else "number"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            _type(operand, arguments)
            return "bool"
        case ast.UnaryOp(operand=operand):
            _require_number(operand, arguments)
            return "number"
        case ast.BinOp(left=left, right=right, op=op):
            _require_number(left, arguments)
            _require_number(right, arguments)
            if isinstance(op, ast.LShift | ast.RShift):
                _check_shift(right)
            return "number"
        case ast.BoolOp(values=values):
            kinds = {_type(value, arguments) for value in values}
            return "bool" if kinds == {"bool"} else "either"
        case ast.Compare():
            _type_chain(node, arguments)
            return "bool"
    raise AssertionError(node)


def _check_shift(amount: ast.expr) -> None:
    negative = isinstance(amount, ast.UnaryOp) and isinstance(amount.op, ast.USub)
    inner = amount.operand if isinstance(amount, ast.UnaryOp) and negative else amount
    if not isinstance(inner, ast.Constant) or not isinstance(inner.value, int):
        return
    if inner.value > (0 if negative else SHIFT_LIMIT):
        raise _Mismatch(amount, f"shifts go from 0 to {SHIFT_LIMIT} bits")


def _require_number(node: ast.expr, arguments: Mapping[str, Argument]) -> None:
    kind = _type(node, arguments)
    if kind not in ("number", "bool"):
        raise _Mismatch(node, _mismatch_message(kind, "in arithmetic"))


def _mismatch_message(kind: str, where: str) -> str:
    if kind == "either":
        return f"'and'/'or' of values {where}: compare them first"
    return f"text {where}"


def _type_chain(node: ast.Compare, arguments: Mapping[str, Argument]) -> None:
    left, left_type = node.left, _type(node.left, arguments)
    if left_type == "either":
        raise _Mismatch(left, _mismatch_message(left_type, "in a comparison"))
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        members = comparator.elts if isinstance(comparator, ast.Tuple | ast.List) else None
        for item in [comparator] if members is None else members:
            kind = _type(item, arguments)
            if kind == "either":
                raise _Mismatch(item, _mismatch_message(kind, "in a comparison"))
            if (kind == "text") != (left_type == "text"):
                raise _Mismatch(item, "a text cannot be compared with a number")
            if kind != "text" and members is None and not isinstance(op, _ORDER):
                raise _Mismatch(item, "'in' finds a value in a list, or a text in a text")
            left_type = kind if members is None else left_type
