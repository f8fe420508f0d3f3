"""Words before a record, put together at random: the record, its time and its ids."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.heads import Known, read_head
from qtctl.backends.log.text import TextDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Clock
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from tests.samples import batches

TABLE = EventTable.build(
    None, parse_declarations('count(int a) "a=%d"\nsay(const char *s) "s=%s"\n').by_name
)
NOW_NS = 1_795_400_000_000_000_000
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2099, 12, 31))
OUTER = st.sampled_from(
    ["", "> ", ">> ", "  ", "\t", "\x1b[32m", "vm1  | ", "qemu.log:12:", "12:", "+ "]
)
PROGRAMS = st.sampled_from(
    ["host qemu-system-x86_64[{pid}]: ", "qemu[{pid}]: ", "stderr F ", "INFO ", "[vm1] ", ""]
)
FRACTION = st.integers(0, 10**9 - 1)


def dotted(fraction: int, digits: int) -> tuple[str, int]:
    """Return a fraction with so many digits, and what it says in ns."""
    shown = f"{fraction:09}"[:digits]
    return (f".{shown}" if digits else ""), int(shown.ljust(9, "0"))


@st.composite
def times(draw: st.DrawFn) -> tuple[str, int]:
    """Give a time as some program writes it, and Unix time in ns."""
    at = draw(MOMENTS).replace(microsecond=0, tzinfo=UTC)
    text, ns = dotted(draw(FRACTION), draw(st.integers(0, 9)))
    unix = int(at.timestamp()) * 10**9
    match draw(st.sampled_from(["iso", "zone", "ctime", "mail", "web", "unix", "qemu"])):
        case "iso":
            return f"{at:%Y-%m-%dT%H:%M:%S}{text}Z ", unix + ns
        case "zone":
            hours = draw(st.integers(-12, 14))
            sign = "-" if hours < 0 else "+"
            local = unix - hours * 3600 * 10**9
            return f"{at:%Y-%m-%d %H:%M:%S}{text}{sign}{abs(hours):02}:00 ", local + ns
        case "ctime":
            return f"{at:%a %b} {at.day:2} {at:%H:%M:%S} UTC {at:%Y} ", unix
        case "mail":
            return f"{at:%a, %d %b %Y %H:%M:%S} +0000 ", unix
        case "web":
            return f"[{at:%d/%b/%Y:%H:%M:%S} +0000] ", unix
        case "unix":
            second = max(unix // 10**9, 10**8)
            text, ns = dotted(draw(FRACTION), draw(st.integers(1, 9)))
            return f"{second}{text} ", second * 10**9 + ns
        case _:
            text, ns = dotted(draw(FRACTION), 6)
            return f"77@{unix // 10**9}{text}:", unix + ns


def decoded(data: bytes) -> tuple[list[Record], TextDecoder]:
    decoder = TextDecoder(TABLE)
    items = decoder.end(data, Clocks(NOW_NS))
    return [record for batch in batches(items) for record in batch.records()], decoder


@given(OUTER, times(), PROGRAMS, st.integers(1, 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
@settings(max_examples=300, deadline=None)
def test_a_record_behind_any_words(
    outer: str, time: tuple[str, int], program: str, pid: int, value: int
) -> None:
    shown, unix_ns = time
    own = shown.startswith("77@")
    words = program.format(pid=pid)
    head = f"{outer}{words}{shown}" if own else f"{outer}{shown}{words}"
    # Words in no form, glued to QEMU's own prefix, are a line of text before the record.
    [record] = [one for one in decoded(f"{head}count a={value}\n".encode())[0] if one.name]
    assert (record.name, record.args) == ("count", {"a": value}), head
    assert (record.time_ns, record.clock) == (unix_ns, "realtime"), head
    assert record.tid == (77 if own else None)


@given(st.lists(st.tuples(OUTER, times()), min_size=2, max_size=6))
@settings(max_examples=150, deadline=None)
def test_each_line_has_its_own_head(parts: list[tuple[str, tuple[str, int]]]) -> None:
    text = "".join(f"{outer}{time[0]}count a={n}\n" for n, (outer, time) in enumerate(parts))
    found = [(record.args.get("a"), record.time_ns) for record in decoded(text.encode())[0]]
    assert found == [(n, unix_ns) for n, (_, (_, unix_ns)) in enumerate(parts)]


@given(st.binary(max_size=60), OUTER, times())
@settings(max_examples=300, deadline=None)
def test_any_bytes_before_a_record_are_a_head_or_text(
    noise: bytes, outer: str, time: tuple[str, int]
) -> None:
    head = noise + outer.encode() + time[0].encode()
    assert read_head(head).known in Known
    records, decoder = decoded(head + b"count a=5\n")
    events = [record for record in records if record.name == "count"]
    assert all(record.args == {"a": 5} for record in events)
    assert len(events) <= 1
    assert events or decoder.unread or any(record.line is not None for record in records)


SECOND = 1_764_345_600
"""2025-11-28 16:00:00 UTC, a second of the year before the one at which it is read."""


@pytest.mark.parametrize(
    ("words", "unix_ns"),
    [
        ("2025-11-28T16:00:00.5+01 ", (SECOND - 3600) * 10**9 + 5 * 10**8),
        ("2025-11-28T16:00:00+1:00 ", (SECOND - 3600) * 10**9),
        ("2025-11-28T16:00:00 +530 ", (SECOND - 19800) * 10**9),
        ("2025-11-28 16:00:00 UTC+1 ", (SECOND - 3600) * 10**9),
        ("2025-11-28 16:00:00 GMT-01:00 ", (SECOND + 3600) * 10**9),
        ("2025-11-28 16:00:00 Europe/Berlin ", (SECOND - 3600) * 10**9),
        ("2025-11-28T16:00:00z ", SECOND * 10**9),
        ("2025-11-28 16:00:00 UTC, ", SECOND * 10**9),
        ("2025-11-28_16:00:00.5Z ", SECOND * 10**9 + 5 * 10**8),
        ("Nov 28 16:00:00 UTC: ", SECOND * 10**9),
        ("Nov 28 16:00:00 EST: ", None),
        ("2025-11-28 16:00:00 Nowhere/City ", None),
        ("(2025-11-28 16:00:00 XYZ) ", None),
        ("2025-11-28 16:00:00 XYZ: ", None),
        ("Fri 28 Nov 2025 04:00:00 PM UTC ", None),
        ("2025-11-28 04:00:00.5pm ", None),
        ("Nov 28 04:00:00 PM host qemu[7]: ", None),
        ("2025-11-28 16:00:00 +99:00 ", None),
    ],
)
def test_a_time_in_another_zone_is_right_or_none(words: str, unix_ns: int | None) -> None:
    decoder = TextDecoder(TABLE)
    items = decoder.end(f"{words}count a=5\n".encode(), Clocks((SECOND + 86400) * 10**9))
    (record,) = [record for batch in batches(items) for record in batch.records()]
    assert (record.name, record.args) == ("count", {"a": 5})
    assert (record.time_ns if record.clock is Clock.REALTIME else None) == unix_ns


@pytest.mark.parametrize("level", ["INFO", "WARN", "ERR", "DBG", "TRACE"])
@pytest.mark.parametrize("behind", [" ", ": ", " | ", "] "])
def test_a_level_is_neither_a_zone_nor_a_guest(level: str, behind: str) -> None:
    head = read_head(f"2025-11-28 16:00:00,500 {level}{behind}".encode())
    assert head.known is Known.WHOLLY
    assert head.guest is None
    assert head.time is not None
    assert head.time.zone.begin == head.time.zone.stop


@pytest.mark.parametrize("sign", ["+", ">", "> +"])
def test_a_record_directly_behind_the_sign_of_a_quotation(sign: str) -> None:
    records, _ = decoded(f"{sign}count a=5\n".encode())
    assert [record.args for record in records] == [{"a": 5}]
