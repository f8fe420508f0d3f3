"""Texts with newlines: whole where stamps prove it, else cut and raw; live and saved alike."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.text import TextDecoder
from qtctl.backends.splitting import SPAN_BYTES
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Clock
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from tests.samples import CASES, batches, event_table

NOW = 1_800_000_000_000_000_000
DECLARED = parse_declarations(
    'say(int a, const char *s) "a=%d s=%s"\n'
    'count(int a) "a=%d"\n'
    'two(int a, const char *s) "first %d\\nsecond %s"\n'
).by_name
TABLE = EventTable.build(None, DECLARED)
ISO = "2026-11-22T21:37:32.{n:06}Z "
THREAD = "7@1700000000.{n:06}:"
BOTH = pytest.mark.parametrize("kind", [LogDecoder, TextDecoder])
Kind = type[LogDecoder]


def decoded(
    kind: Kind, text: str | bytes, cuts: list[int] | None = None, table: EventTable = TABLE
) -> list[Record]:
    data = text if isinstance(text, bytes) else text.encode()
    decoder = kind(table)
    items = []
    for low, high in pairwise([0, *sorted(c % (len(data) + 1) for c in cuts or []), len(data)]):
        items += decoder.feed(data[low:high], Clocks(NOW))
    items += decoder.flush(Clocks(NOW))
    return [record for batch in batches(items) for record in batch.records()]


def lines(stamp: str, *texts: str) -> str:
    return "".join(f"{stamp.format(n=n)}{text}\n" for n, text in enumerate(texts))


@BOTH
def test_iso_stamps_prove_a_whole_text(kind: Kind) -> None:
    text = "FIS:\n0x00: 27 80\ncount a=3\n\n"
    found = decoded(kind, lines(ISO, f"say a=1 s={text}", "count a=2"))
    assert [(r.name, r.args) for r in found] == [
        ("say", {"a": 1, "s": text}),
        ("count", {"a": 2}),
    ]


@BOTH
def test_stamps_of_records_only_leave_it_cut(kind: Kind) -> None:
    found = decoded(kind, lines(THREAD, "say a=1 s=FIS:\n0x00: 27\ncount a=3", "count a=2"))
    assert [(r.name, r.args, r.raw, r.cut) for r in found] == [
        ("say", {}, "a=1 s=FIS:\n0x00: 27\ncount a=3", True),
        ("count", {"a": 2}, None, False),
    ]


@BOTH
def test_without_stamps_a_record_before_other_text_is_cut(kind: Kind) -> None:
    found = decoded(kind, "say a=1 s=x\nmore\ncount a=2\nother\nsay a=3 s=y\ncount a=4\n")
    assert [(r.name, r.raw, r.cut, r.line) for r in found] == [
        ("say", "a=1 s=x", True, None),
        ("", None, False, "more"),
        ("count", None, False, None),
        ("", None, False, "other"),
        ("say", None, False, None),
        ("count", None, False, None),
    ]


@BOTH
def test_lines_behind_a_record_without_a_text_are_other_output(kind: Kind) -> None:
    text = lines(THREAD, "count a=1\nserial\ncount a=9", "count a=2")
    found = decoded(kind, text)
    assert [(r.args.get("a"), r.line) for r in found] == [
        (1, None),
        (None, "serial"),
        (None, "count a=9"),
        (2, None),
    ]


@BOTH
def test_items_of_d_are_no_text(kind: Kind) -> None:
    found = decoded(kind, lines(ISO, f"say a=1 s=x\n{'-' * 16}\nIN: \n0x1: nop", "count a=2"))
    assert (found[0].cut, found[0].args) == (True, {})


@BOTH
def test_a_text_beyond_the_limit_is_cut(kind: Kind) -> None:
    long = "\n".join(["x" * 1000] * (SPAN_BYTES // 1000 + 5))
    found = decoded(kind, lines(ISO, f"say a=1 s={long}", "count a=2"))
    assert (found[0].cut, found[-1].args) == (True, {"a": 2})
    assert "\n".join([found[0].raw or "", *(r.line or "" for r in found[1:-1])]) == f"a=1 s={long}"


HEADS = ["Nov 22 21:37:32 host qemu[1]: ", "> ", "vm1  | ", "2026-11-22T21:37:32.5Z stderr F "]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("stamp", [ISO, THREAD, ""])
def test_behind_heads_a_text_is_whole_only_between_iso_stamps(head: str, stamp: str) -> None:
    text = f"{head}{stamp.format(n=1)}say a=1 s=x\n{head}more\n{head}{stamp.format(n=2)}count a=2\n"
    for more in ("more", "count a=3") if stamp else ("more",):
        say, *others, count = decoded(TextDecoder, text.replace("more", more))
        assert (say.name, count.args, [one.name for one in others]) == (
            "say",
            {"a": 2},
            [] if stamp is ISO else [""],
        )
        if stamp is ISO:
            assert (say.args, say.cut) == ({"a": 1, "s": f"x\n{more}"}, False)
        else:
            assert (say.args, say.raw, say.cut) == ({}, "a=1 s=x", True)


def test_texts_of_two_guests_that_alternate_are_whole() -> None:
    head = "2026-11-22T21:37:32.{n}+00:00 host qemu-kvm[{pid}]: "
    parts = [
        (9, f"{ISO.format(n=1)}say a=1 s=x"),
        (10, f"{ISO.format(n=2)}say a=2 s=y"),
        (9, "more of x"),
        (10, ""),
        (11, "no record of theirs"),
        (10, "more of y"),
        (9, f"{ISO.format(n=3)}qemu: warning"),
        (9, "of a warning"),
        (10, f"{ISO.format(n=4)}count a=3"),
    ]
    text = "".join(head.format(n=123456 + pid, pid=pid) + part + "\n" for pid, part in parts)
    found = decoded(TextDecoder, text)
    assert [(r.args.get("s"), r.cut, r.pid) for r in found if r.name] == [
        ("x\nmore of x", False, 9),
        ("y\n\nmore of y", False, 10),
        (None, False, 10),
    ]
    assert len(found) == 6
    unstamped = text.replace(ISO.format(n=1), "").replace(ISO.format(n=2), "")
    assert [r.cut for r in decoded(TextDecoder, unstamped) if r.name] == [True, True, False]


def test_times_of_collectors_are_no_stamps_of_qemu() -> None:
    time = "2026-11-22T21:37:32.{}Z "
    text = f"{time.format('123456789')}say a=1 s=x\n{time.format('12345')}more\n"
    [say, more] = decoded(TextDecoder, text)
    assert (say.args, say.cut, more.line) == ({}, True, text.splitlines()[1])


def test_lines_of_other_programs_do_not_matter() -> None:
    text = (
        "Nov 22 21:37:32 host qemu[1]: 7@1700000000.000001:say a=1 s=x\n"
        "Nov 22 21:37:32 host systemd[1]: Started\n"
        "Nov 22 21:37:32 host qemu[2]: count a=3\n"
        "Nov 22 21:37:33 host qemu[1]: 7@1700000000.000002:count a=2\n"
    )
    found = decoded(TextDecoder, text)
    assert [r.args.get("s", r.args.get("a")) for r in found] == ["x", None, 3, 2]


def test_another_run_without_stamps_is_read() -> None:
    runs = lines(THREAD, "count a=1") + "count a=2\n" * (SPAN_BYTES // 5)
    assert {r.name for r in decoded(TextDecoder, runs)} == {"count"}


@BOTH
def test_real_texts_with_newlines(kind: Kind) -> None:
    table, folder = event_table("7.2"), CASES / "backends"
    [dump] = decoded(kind, (folder / "newline.log").read_bytes(), table=table)[:1]
    assert (dump.name, dump.args, dump.cut) == ("handle_cmd_fis_dump", {}, True)
    assert "0x70: 00" in (dump.raw or "")
    forged = decoded(kind, (folder / "forged.log").read_bytes(), table=table)
    assert [(r.name, r.cut, r.clock) for r in forged] == [
        ("handle_hmp_command", True, Clock.REALTIME),
        ("visit_free", False, Clock.REALTIME),
    ]


PIECES = st.sampled_from(
    ["say a=1 s=x", "count a=2", "two first 1", "second y", "more", "", "1", "x" * 40]
)
STAMPS = st.sampled_from([ISO, THREAD, "", "Nov 22 21:37:32 h qemu[1]: ", f"> {THREAD}", "> "])


@BOTH
@given(st.lists(st.tuples(STAMPS, PIECES), max_size=9), st.lists(st.integers(0, 500), max_size=5))
@settings(max_examples=150, deadline=None)
def test_chunks_do_not_matter(kind: Kind, parts: list[tuple[str, str]], cuts: list[int]) -> None:
    text = "".join(f"{stamp.format(n=n)}{piece}\n" for n, (stamp, piece) in enumerate(parts))
    whole = decoded(kind, text)
    assert decoded(kind, text, cuts) == whole
    assert decoded(kind, text, list(range(len(text)))) == whole


def test_a_record_that_waits_for_its_text_is_released() -> None:
    decoder = LogDecoder(TABLE)
    assert decoder.feed(b"say a=1 s=x\nmo", Clocks(5)) == []
    assert decoder.holds
    assert decoder.release(Clocks(6)) == []
    assert decoder.feed(b"re\n", Clocks(7)) == []
    [batch] = batches(decoder.release(Clocks(8)))
    assert [(r.time_ns, r.line or r.raw) for r in batch.records()] == [(5, "a=1 s=x"), (8, "more")]
    assert (decoder.holds, decoder.pending_bytes) == (False, 0)


def test_a_mark_of_ftrace_has_its_whole_text() -> None:
    head = " qemu-system-x86-7     [000] .....  3183.115907: tracing_mark_write: "
    text = (
        f"{head}say a=1 s=x\nsay a=2 s=y\n\n{head}count a=2\nother\n{head}say a=1 s={'y' * 300}\n"
    )
    text += "z" * 200 + "\n"
    decoder = TraceDecoder(TABLE)
    items = decoder.feed(text.encode(), Clocks(NOW)) + decoder.flush(Clocks(NOW))
    found = [record for batch in batches(items) for record in batch.records()]
    assert [(r.name, r.args.get("s"), r.line) for r in found[:3]] == [
        ("say", "x\nsay a=2 s=y\n", None),
        ("count", None, None),
        ("", None, "other"),
    ]
    assert (found[3].cut, found[3].args, len(found[3].raw or "")) == (True, {}, 511 - len("say "))


def test_a_message_of_the_system_log_has_its_whole_text() -> None:
    head = "1700000000.000001 host qemu-system-x86_64[7]: "
    text = f"{head}say a=1 s=x\ncount a=3\n\n{head}count a=2\nother\n{head}say a=4 s=y\n"
    decoder = SyslogDecoder(TABLE, pid=7)
    items = decoder.feed(text.encode(), Clocks(NOW))
    found = [record for batch in batches(items) for record in batch.records()]
    assert [(r.name, r.args.get("s"), r.line) for r in found] == [
        ("say", "x\ncount a=3\n", None),
        ("count", None, None),
        ("", None, "other"),
    ]
    assert decoder.holds
    [batch] = batches(decoder.release(Clocks(NOW)))
    assert [record.args for record in batch.records()] == [{"a": 4, "s": "y"}]


@BOTH
@pytest.mark.parametrize("stamp", ["", THREAD, ISO])
def test_a_record_that_is_whole_and_ends_with_no_text_is_not_cut(kind: Kind, stamp: str) -> None:
    table = EventTable.build(
        None, parse_declarations("named(char *s, int a) \"'%s' %d\"\n").by_name
    )
    text = lines(
        stamp, "named 'x' 5\nother\nlines", "named 'x\ny' 6", "named 'x' 5\nz' 7", "named 'q' 8"
    )
    found = [r for r in decoded(kind, text, table=table) if r.name]
    assert found[0].args == {"s": "x", "a": 5}
    assert found[-1].args == {"s": "q", "a": 8}
    if stamp is ISO:
        assert [r.args["s"] for r in found[1:3]] == ["x\ny", "x' 5\nz"]
    else:
        assert [r.args for r in found[1:3]] == [{}, {}]


SYSLOG = "Nov 22 21:37:32 host qemu[1]: "


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (f"{SYSLOG}say a=1 s=x#012y\n{SYSLOG}say a=1 s=x#100\n", [None, "x#100"]),
        ("say a=1 s=x#012y\n", ["x#012y"]),
        ("say a=1 s=x\r\ncount a=1\n", [None, None]),
        ("count a=1\r\nsay a=1 s=x\r\nsay a=1 s=y\r\r\n", [None, "x", "y\r"]),
        ("count a=1\r\ncount a=1\nsay a=1 s=x\r\nsay a=1 s=y\n", [None, None, None, "y"]),
        ("\x1b[32msay a=1 s=x\x1b[0m\n\x1b[32msay a=1 s=x\n", [None, "x"]),
        ("\x1b[32m> \x1b[0msay a=1 s=x\x1b[1m!\nsay a=1 s=\x1b[1mx\n", [None, "\x1b[1mx"]),
        (f"{ISO.format(n=1)}say a=1 s=x\r\ny\r\n{ISO.format(n=2)}count a=2\r\n", [None, None]),
    ],
)
@given(cuts=st.lists(st.integers(0, 200), max_size=5))
def test_a_text_that_others_may_have_changed_is_raw(
    text: str, values: list[str | None], cuts: list[int]
) -> None:
    found = decoded(TextDecoder, text, cuts)
    assert [record.args.get("s") for record in found] == values
    assert [r.cut for r in found] == [r.name == "say" and r.raw is not None for r in found]
