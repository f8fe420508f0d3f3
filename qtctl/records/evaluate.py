"""Evaluate a checked filter expression over columns, with the results of Python on each row.

Numbers are integers. The bounds of operands and result are computed before each operation and
select int64, uint64 or Python's integers for it, so that nothing overflows and NumPy never converts
int64 and uint64 to float. Texts are compared once per distinct value.

A row on which Python would raise (division by zero, a negative shift) is *bad* and does not match.
``and``, ``or`` and comparison chains ignore bad operands on rows where Python would not evaluate
them.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import BoolArray, Column, StringColumn

SHIFT_LIMIT = 128

_INT64 = (-(1 << 63), (1 << 63) - 1)
_UINT64_MAX = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class _Number:
    """A number per row, or one for all rows, in lo..hi; rows of the mask ``bad`` have none."""

    data: int | NDArray[Any]
    lo: int
    hi: int
    bad: BoolArray | None = None


@dataclass(frozen=True, slots=True)
class _Text:
    data: str | StringColumn | None
    bad: None = None


@dataclass(frozen=True, slots=True)
class _Truth:
    data: BoolArray
    bad: BoolArray | None = None


_Value: TypeAlias = _Number | _Text | _Truth

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, two: one in two,
    ast.NotIn: lambda one, two: one not in two,
}


def evaluate(
    tree: ast.expr, names: Mapping[str, Column | str | NDArray[np.int32]], rows: int
) -> BoolArray:
    """Return a mask of the ``rows`` rows for which the expression is true.

    ``tree`` was checked by ``filters``; ``names`` maps each name in it to a column of ``rows``
    values, or to one text for all rows.
    """
    truth = _truth(_Evaluator(names, rows).value(tree), rows)
    return truth.data if truth.bad is None else truth.data & ~truth.bad


class _Evaluator:
    def __init__(self, names: Mapping[str, Any], rows: int) -> None:
        self.names = names
        self.rows = rows

    def value(self, node: ast.expr) -> _Value:
        match node:
            case ast.Constant(value=str() | None as text):
                return _Text(text)
            case ast.Constant(value=int(number)):
                return _constant(int(number))
            case ast.Name(id=name):
                column = self.names[name]
                if isinstance(column, str | StringColumn):
                    return _Text(column)
                return _Number(column, int(column.min()), int(column.max()))
            case ast.UnaryOp():
                return self.unary(node)
            case ast.BinOp(left=left, op=op, right=right):
                return _binary(type(op), _number(self.value(left)), _number(self.value(right)))
            case ast.BoolOp():
                return self.boolean(node)
            case ast.Compare():
                return self.chain(node)
        raise AssertionError(node)

    def unary(self, node: ast.UnaryOp) -> _Value:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            truth = _truth(value, self.rows)
            return _Truth(~truth.data, truth.bad)
        number = _number(value)
        if isinstance(node.op, ast.USub):
            return _binary(ast.Sub, _constant(0), number)
        if isinstance(node.op, ast.Invert):
            return _binary(ast.Sub, _constant(-1), number)
        return number

    def boolean(self, node: ast.BoolOp) -> _Truth:
        result = _truth(self.value(node.values[0]), self.rows)
        for operand in node.values[1:]:
            following = _truth(self.value(operand), self.rows)
            result = _joined(result, following, isinstance(node.op, ast.And))
        return result

    def chain(self, node: ast.Compare) -> _Truth:
        left = self.value(node.left)
        result: _Truth | None = None
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            if isinstance(comparator, ast.Tuple | ast.List):
                link = self.among(left, comparator.elts)
                if isinstance(op, ast.NotIn):
                    link = _Truth(~link.data, link.bad)
            else:
                right = self.value(comparator)
                link = _compare(op, left, right, self.rows)
                left = right
            result = link if result is None else _joined(result, link, True)
        assert result is not None
        return result

    def among(self, left: _Value, items: list[ast.expr]) -> _Truth:
        # Python evaluates the whole tuple first: one bad item makes the row bad.
        hit = np.zeros(self.rows, np.bool_)
        bad = left.bad
        for item in items:
            link = _compare(ast.Eq(), left, self.value(item), self.rows)
            hit |= link.data
            bad = _or_masks(bad, link.bad)
        return _Truth(hit, bad)


def _constant(value: int) -> _Number:
    return _Number(value, value, value)


def _joined(first: _Truth, second: _Truth, both: bool) -> _Truth:
    """Return ``first and second``, or ``first or second`` (not ``both``)."""
    bad = second.bad
    if bad is not None:  # only where Python evaluates the second operand
        bad = bad & (first.data if both else ~first.data)
    data = first.data & second.data if both else first.data | second.data
    return _Truth(data, _or_masks(first.bad, bad))


def _or_masks(one: BoolArray | None, two: BoolArray | None) -> BoolArray | None:
    if one is None or two is None:
        return two if one is None else one
    return one | two


def _truth(value: _Value, rows: int) -> _Truth:
    if isinstance(value, _Truth):
        return value
    empty = _Text("") if isinstance(value, _Text) else _constant(0)
    return _compare(ast.NotEq(), value, empty, rows)


def _number(value: _Value) -> _Number:
    if isinstance(value, _Truth):
        return _Number(value.data.astype(np.int64), 0, 1, value.bad)
    assert isinstance(value, _Number)
    return value


def _dtype(lo: int, hi: int) -> type[Any]:
    """Return the dtype that holds every integer in lo..hi."""
    if lo >= _INT64[0] and hi <= _INT64[1]:
        return np.int64
    return np.uint64 if lo >= 0 and hi <= _UINT64_MAX else object


def _as_dtype(number: _Number, dtype: type[Any]) -> Any:
    if isinstance(number.data, int):
        return number.data if dtype is object else dtype(number.data)
    # astype(object) returns Python integers, not NumPy's.
    return number.data.astype(dtype, copy=False)


def _compare(op: ast.cmpop, left: _Value, right: _Value, rows: int) -> _Truth:
    if isinstance(left, _Text) and isinstance(right, _Text):
        return _compare_text(op, left.data, right.data, rows)
    one, two = _number(left), _number(right)
    dtype = _dtype(min(one.lo, two.lo), max(one.hi, two.hi))
    result = _COMPARE[type(op)](_as_dtype(one, dtype), _as_dtype(two, dtype))
    full = np.broadcast_to(np.asarray(result, np.bool_), (rows,))
    return _Truth(full, _or_masks(one.bad, two.bad))


def _compare_text(
    op: ast.cmpop, left: str | StringColumn | None, right: str | StringColumn | None, rows: int
) -> _Truth:
    """Compare texts; Python would raise on NULL, unless it compares for equality."""

    def held(one: str | None, two: str | None) -> int:
        null = one is None or two is None
        return -1 if null and not isinstance(op, ast.Eq | ast.NotEq) else holds(one, two)

    holds = _COMPARE[type(op)]
    codes: NDArray[np.int32] = np.zeros(rows, np.int32)
    if isinstance(left, StringColumn) and isinstance(right, StringColumn):
        pairs = left.codes.astype(np.int64) * max(1, len(right.uniques)) + right.codes
        distinct, places = np.unique(pairs, return_inverse=True)
        codes = places.reshape(-1).astype(np.int32)
        split = (divmod(pair, len(right.uniques)) for pair in distinct.tolist())
        found = [held(left.uniques[a], right.uniques[b]) for a, b in split]
    elif isinstance(left, StringColumn):
        found, codes = [held(text, right) for text in left.uniques], left.codes  # type: ignore[arg-type]
    elif isinstance(right, StringColumn):
        found, codes = [held(left, text) for text in right.uniques], right.codes
    else:
        found = [held(left, right)]
    outcome = np.array(found, np.int8)[codes]
    return _Truth(outcome > 0, outcome < 0 if -1 in found else None)


def _binary(op: type[ast.operator], left: _Number, right: _Number) -> _Number:
    bad = _or_masks(left.bad, right.bad)
    if op in (ast.FloorDiv, ast.Mod):
        right, wrong = _replace(right, lambda data: data == 0, right.lo <= 0 <= right.hi, 1)
        bad = _or_masks(bad, wrong)
    elif op in (ast.LShift, ast.RShift):
        outside = right.lo < 0 or right.hi > SHIFT_LIMIT
        right, wrong = _replace(right, lambda data: (data < 0) | (data > SHIFT_LIMIT), outside, 0)
        right = _Number(right.data, max(0, right.lo), max(0, min(SHIFT_LIMIT, right.hi)))
        bad = _or_masks(bad, wrong)
    lo, hi = _bounds(op, left, right)
    dtype = _dtype(min(lo, left.lo, right.lo), max(hi, left.hi, right.hi))
    result = _ARITHMETIC[op](_as_dtype(left, dtype), _as_dtype(right, dtype))
    if not isinstance(result, np.ndarray):
        result = int(result)
    return _Number(result, lo, hi, bad)


def _replace(
    number: _Number, wrong: Callable[[Any], Any], possible: bool, instead: int
) -> tuple[_Number, BoolArray | None]:
    """Replace the values on which Python would raise; also return a mask of them."""
    if not possible:
        return number, None
    bad = np.asarray(wrong(number.data), np.bool_)
    if not bad.any():
        return number, None
    data: Any = instead  # one value for all rows has a 0-d mask
    if not isinstance(number.data, int):
        data = number.data.copy()
        data[bad] = instead
    return _Number(data, min(number.lo, instead), max(number.hi, instead)), bad


def _bounds(op: type[ast.operator], left: _Number, right: _Number) -> tuple[int, int]:
    """Return bounds of the result, from those of the operands; they may be wider than needed."""
    a, b, c, d = left.lo, left.hi, right.lo, right.hi
    if op in (ast.Add, ast.Sub, ast.Mult, ast.LShift, ast.RShift):
        corners = [_ARITHMETIC[op](one, two) for one in (a, b) for two in (c, d)]
        return min(corners), max(corners)
    if op is ast.FloorDiv:
        size = max(abs(a), abs(b))
        return (0 if a >= 0 and c > 0 else -size), size
    if op is ast.Mod:
        return min(c, 0), max(d, 0)
    bits = max(abs(number).bit_length() for number in (a, b, c, d))
    if a >= 0 and c >= 0:
        return 0, (min(b, d) if op is ast.BitAnd else (1 << bits) - 1)
    if op is ast.BitAnd and max(a, c) >= 0:
        return 0, (b if a >= 0 else d)
    return -(1 << bits), (1 << bits) - 1
