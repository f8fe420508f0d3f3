"""``--where``: what is refused and how it is said, and exact agreement with Python row by row."""

from __future__ import annotations

import ast
import operator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable, Record
from qtctl.records.filters import Filter
from tests.rendering import render
from tests.samples import capture, declarations, event_table, only_batch

DECLARED = parse_declarations(
    'wide(uint64_t u, int64_t i, int8_t b, const char *s, const char *t) "%" PRIu64 " %" PRId64 '
    '" %d <%s> <%s>"\n'
    'small(uint64_t u, int i, bool b, const char *s) "%" PRIu64 " %d %d \'%s\'"\n'
    'other(uint32_t event, int from, int x) "%u %d %d"\n'
    'named(const char *x) "%s"\n'
    'hiding(int n, int u) "%0*x"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "undeclared"], DECLARED)


def batch_of(lines: list[str]) -> Batch:
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    batch = only_batch(LogDecoder(TABLE).end(text or b"\n", Clocks(1000)))
    return batch if text else batch.first(0)


def matches(expression: str, batch: Batch) -> list[bool]:
    found: list[bool] = Filter.compile(expression, DECLARED.values()).mask(batch).tolist()
    return found


class Lacks(Exception):
    """The record lacks what the expression names, or Python would raise."""


_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
    ast.Not: operator.not_,
}  # fmt: skip


def naive_value(node: ast.expr, names: dict[str, Any]) -> Any:
    """Evaluate as Python does, one record at a time."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Tuple | ast.List):
        return [naive_value(item, names) for item in node.elts]
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](naive_value(node.operand, names))
    if isinstance(node, ast.BinOp):
        left, right = naive_value(node.left, names), naive_value(node.right, names)
        if isinstance(node.op, ast.LShift | ast.RShift) and not 0 <= right <= 128:
            raise Lacks
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.BoolOp):
        for operand in node.values:
            value = naive_value(operand, names)
            if bool(value) == isinstance(node.op, ast.Or):
                break
        return value
    assert isinstance(node, ast.Compare)
    left = naive_value(node.left, names)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = naive_value(comparator, names)
        if not _OPERATORS[type(op)](left, right):
            return False
        left = right
    return True


def naive_match(expression: str, record: Record) -> bool:
    if not record.name:
        return False
    tree = ast.parse(expression, mode="eval").body
    own = {"event": record.name, "tid": record.tid, "time_ns": record.time_ns}
    names: dict[str, Any] = {**record.args, **own}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and names.get(node.id) is None:
            return False
    try:
        return bool(naive_value(tree, names))
    except (Lacks, ZeroDivisionError):
        return False


def line(name: str, args: dict[str, Any]) -> str:
    return f"{name} {render(DECLARED[name], args)}"


EDGES = [0, 1, 2, 7, 63, 64, 127, 128, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
UNSIGNED = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)
SIGNED = st.sampled_from([x for e in EDGES for x in (e, -e, -e - 1)]).filter(
    lambda x: -(2**63) <= x < 2**63
)
WORDS = st.sampled_from(["", "a", "b", "ab", "rtc-index", "é", "\udcff"])
ROWS = st.one_of(
    st.fixed_dictionaries(
        {"u": UNSIGNED, "i": SIGNED, "b": st.integers(-128, 127), "s": WORDS, "t": WORDS}
    ).map(lambda args: line("wide", args)),
    st.fixed_dictionaries(
        {"u": UNSIGNED, "i": st.integers(-3, 3), "b": st.integers(0, 1), "s": WORDS}
    ).map(lambda args: line("small", args)),
    st.sampled_from(
        ["wide broken", "undeclared 1", "some text", "7@1.000000:small 1 2 0 'a'", "named a"]
    ),
)
TEXT = st.sampled_from(["s", "event", '"a"', '"rtc"', '""', '"é"'])
NUMBER = st.recursive(
    st.sampled_from(["u", "i", "b", "u", "i", "time_ns", "tid", "0", "1", "-1", "0xff", "1 << 63"])
    | st.sampled_from(EDGES).map(str),
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>"]), inner
        ).map(lambda parts: "({} {} {})".format(*parts)),
        st.tuples(st.sampled_from(["-", "~", "+"]), inner).map("".join),
    ),
    max_leaves=5,
)
ORDER = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
TRUTH = st.recursive(
    st.one_of(
        st.tuples(NUMBER, ORDER, NUMBER).map(" ".join),
        st.tuples(NUMBER, ORDER, NUMBER, ORDER, NUMBER).map(" ".join),
        st.tuples(TEXT, ORDER | st.sampled_from(["in", "not in"]), TEXT).map(" ".join),
        st.tuples(NUMBER, st.sampled_from(["in", "not in"]), NUMBER, NUMBER).map(
            lambda parts: "{} {} ({}, {})".format(*parts)
        ),
        st.tuples(TEXT, TEXT).map(lambda parts: "{} in [{}, 'ab']".format(*parts)),
        NUMBER,
        TEXT,
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda parts: "({}) {} ({})".format(*parts)
        ),
        inner.map(lambda text: f"not ({text})"),
    ),
    max_leaves=4,
)


@given(expression=TRUTH, lines=st.lists(ROWS, max_size=8))
@settings(max_examples=1500, deadline=None)
def test_columns_agree_with_python_on_every_row(expression: str, lines: list[str]) -> None:
    batch = batch_of(lines)
    try:
        found = matches(expression, batch)
    except UsageError as error:
        # The only thing these expressions can get wrong.
        assert "shifts go from" in error.message
        return
    assert found == [naive_match(expression, record) for record in batch.records()]


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("u == 18446744073709551615", [True, False]),
        ("u > 9223372036854775807", [True, False]),
        ("u + 1 == 1 << 64", [True, False]),
        ("u == i", [False, False]),
        ("u * u > 1 << 127", [True, False]),
        ("-u < i", [True, False]),
        ("i // 0 == 0 or True", [False, False]),
        ("i % b == 0", [False, False]),
        ("b == 0 or i // b > 0", [True, True]),
        ("i << u == 0 or u == 5", [False, True]),
        ("(i < 0) + (b == 0) == 2", [True, True]),
        ("s == 'a b'", [False, True]),
        ("'b' in s and s not in ('x', 'y')", [False, True]),
        ("s < 'b' <= 'b'", [True, True]),
        ("event == 'small' and not i > 0", [True, True]),
        ("tid == 7", [False, False]),
        ("tid == 7 or True", [False, False]),
        ("time_ns == 1000", [True, True]),
    ],
)
def test_examples(expression: str, rows: list[bool]) -> None:
    batch = batch_of(["small 18446744073709551615 -1 0 'a'", "small 5 -5 0 'a b'"])
    assert matches(expression, batch) == rows


def test_who_can_match() -> None:
    lines = ["small 1 2 0 'a'", "small broken", "undeclared 1", "text", "hiding 01", "named q"]
    batch = batch_of([*lines, "9@1.000000:named x"])
    assert matches("True", batch) == [True, True, True, False, True, True, True]
    assert matches("u >= 0 and s != ''", batch) == [True, *[False] * 6]
    assert matches("not u > 5 or event == 'named'", batch) == [
        True,
        *[False] * 3,
        True,
        False,
        False,
    ]
    assert matches("n == 1 or u == 1", batch) == [False] * 7
    assert matches("tid == 9", batch) == [*[False] * 6, True]
    assert matches("x == 'q'", batch) == [*[False] * 5, True, False]
    assert matches("x == 1", batch) == [False] * 7
    assert matches("True", batch_of([])) == []


def test_names_that_are_taken() -> None:
    batch = batch_of(["other 5 6 7"])
    assert matches("event_ == 5 and from_ == 6 and event == 'other'", batch) == [True]
    with pytest.raises(UsageError) as caught:
        Filter.compile("event == 5", DECLARED.values())
    assert "event_" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        Filter.compile("from == 5", DECLARED.values())
    assert "from_" in caught.value.hint


@pytest.mark.parametrize(
    ("expression", "column", "word"),
    [
        ("f(1)", 1, "a call"),
        ("u > u.x", 5, "an attribute"),
        ("s[0] == 'a'", 1, "a subscript"),
        ("1 + (lambda: 1)", 6, "a lambda"),
        ("s == f'{u}'", 6, "an f-string"),
        ("u ** 2 > 1", 1, "'**'"),
        ("u / 2 > 1", 1, "'/'"),
        ("(u := 1) > 0", 2, "an assignment"),
        ("u is 1", 6, "'is'"),
        ("u if i else b", 1, "a condition"),
        ("(u, i) == 1", 1, "a list"),
        ("u == (1, 2)", 6, "a list goes"),
        ("1 in (u, i) < 5", 6, "a list goes"),
        ("u == None", 6, "text cannot be compared"),
        ("u == 1.5", 6, "1.5"),
        ("u == b'a'", 6, "b'a'"),
        ("[x for x in s]", 1, "not part"),
        ("u == ", 5, "not an expression"),
        ("u = 1", 3, "not an expression"),
        ("u; 1", 2, "not an expression"),
        ("s == 'é' and f(u)", 14, "a call"),
        ("nsect > 1", 1, "no matched event"),
        ("u == s", 6, "text cannot be compared"),
        ("s in (1, 2)", 7, "text cannot be compared"),
        ("1 in u", 6, "'in' finds"),
        ("s + s == s", 1, "text in arithmetic"),
        ("-s == 1", 2, "text in arithmetic"),
        ("(u and i) > 1", 2, "compare them first"),
        ("u << 129 > 0", 6, "shifts go"),
        ("u >> -1 > 0", 6, "shifts go"),
    ],
)
def test_what_is_refused(expression: str, column: int, word: str) -> None:
    with pytest.raises(UsageError) as caught:
        Filter.compile(expression, DECLARED.values())
    assert word in caught.value.message
    first, (shown, caret) = caught.value.message, caught.value.more
    assert f"column {column}" in first
    assert shown.strip() == expression.strip()
    assert caret.index("^") == column + 1


def test_refused_as_a_whole() -> None:
    for expression in ("", "  ", "1 " * 3000, "(" * 300 + "1" + ")" * 300, "-" * 2000 + "1"):
        with pytest.raises(UsageError):
            Filter.compile(expression, DECLARED.values())
    with pytest.raises(UsageError, match="no single event has all of from_, s"):
        Filter.compile("from_ == 1 or s == 'a'", DECLARED.values())
    with pytest.raises(UsageError, match="more than"):
        Filter.compile(f"1 in ({', '.join('u' * 500)})", DECLARED.values())
    with pytest.raises(UsageError):
        Filter.compile("u == 1", [])


def test_near_names() -> None:
    with pytest.raises(UsageError) as caught:
        Filter.compile("nsector > 8", [declarations("7.2").by_name["virtio_blk_handle_read"]])
    assert "nsectors" in caught.value.hint


@given(st.text(max_size=30) | st.text("ui()+-*/<>=&|~ 1'[],", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_filter_or_a_usage_error(text: str) -> None:
    try:
        chosen = Filter.compile(text, DECLARED.values())
    except UsageError:
        return
    assert len(chosen.mask(batch_of(["small 1 2 0 'a'"]))) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "nsectors == 1",
        "addr & 0xf == 8 and size == 4",
        "name in ('rtc-index', 'apm-io') or value > 1 << 20",
        "'virtio' in event",
        "value * 3 // 2 - addr < 0",
        "tid % 2 == 1",
    ],
)
def test_captured_events(expression: str) -> None:
    batch = only_batch(
        LogDecoder(event_table("7.2")).end(capture("qemu-7.2-log-timestamp.txt"), Clocks(1))
    )
    chosen = Filter.compile(expression, declarations("7.2").by_name.values())
    expected = [naive_match(expression, record) for record in batch.records()]
    assert chosen.mask(batch).tolist() == expected
    assert any(expected)
