"""Saved log text with any words before QEMU's own: the same records, and the times there are."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.text import TextDecoder
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.items import Items
from tests.recordings import read
from tests.samples import batches, capture, declarations_text, event_table, only_batch

TABLE = event_table("7.2")
NOW_NS = 1_795_400_000_000_000_000
PLAIN = "virtio_blk_req_complete vdev 0x1 req 0x{n:x} status 0"
LOCAL = "2026-11-22 21:37:32"
UTC_S = datetime(2026, 11, 22, 21, 37, 32, tzinfo=UTC).timestamp()
LOCAL_S = time.mktime(time.strptime(LOCAL, "%Y-%m-%d %H:%M:%S"))
PREFIXES = {
    "2026-11-22T21:37:32.{n:06} host qemu[7]: ": LOCAL_S,
    "2026-11-22T21:37:32.{n:06}Z ": UTC_S,
    "2026-11-22 21:37:32.{n:06}+0200 INFO vm1 ": UTC_S - 7200,
    "Nov 22 21:37:32.{n:06} host qemu-system-x86[4711]: ": LOCAL_S,
    "1795383452.{n:06} [vm1] ": 1795383452,
    "vm1   | ": None,
    "[12345.678] <6> ": None,
}


def decoded(text: str, cuts: list[int] | None = None) -> list[Record]:
    data = text.encode()
    decoder = TextDecoder(TABLE)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    items: Items = []
    for low, high in itertools.pairwise(edges):
        items += decoder.feed(data[low:high], Clocks(NOW_NS))
    items += decoder.flush(Clocks(NOW_NS))
    return [record for batch in batches(items) for record in batch.records()]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_records_and_times_of_any_prefix(prefix: str) -> None:
    lines = [(prefix + PLAIN).format(n=n) for n in range(1, 60)]
    records = decoded("".join(f"{line}\n" for line in lines))
    assert [r.args["req"] for r in records] == list(range(1, 60))
    assert all(r.args["vdev"] == 1 for r in records)
    seconds = PREFIXES[prefix]
    for n, record in enumerate(records, 1):
        if seconds is None:
            assert (record.time_ns, record.clock) == (NOW_NS, Clock.ARRIVAL)
        else:
            assert record.clock == Clock.REALTIME
            assert record.time_ns == int(seconds) * 10**9 + n * 1000


def test_the_time_of_qemu_itself_is_the_better_one() -> None:
    line = "Nov 22 21:37:33 host qemu[1]: 24668@1795383452.000321:" + PLAIN.format(n=9)
    [record] = decoded(f"{line}\n")
    assert (record.tid, record.time_ns) == (24668, 1795383452000321000)


def test_other_lines_stay_whole() -> None:
    prefix = "2026-11-22T21:37:32.000001Z host "
    event = f"{prefix}{PLAIN.format(n=1)}\n"
    first, other, last = decoded(f"{event}{prefix}qemu: warning: x\nshort\n{event}")[:3]
    assert first.args["req"] == 1
    assert other.line == f"{prefix}qemu: warning: x"
    assert last.line == "short"


def test_each_line_has_its_own_words() -> None:
    """Whatever the chunks: the record before them has none."""
    lines = [f"a b c {PLAIN.format(n=1)}"]
    lines += [f"2026-11-22T21:37:32.{n:06}Z x y {PLAIN.format(n=n)}" for n in (2, 3)]
    text = "".join(f"{line}\n" for line in lines)
    expected = [NOW_NS, int(UTC_S) * 10**9 + 2000, int(UTC_S) * 10**9 + 3000]
    for cuts in ([], [len(lines[0]) + 1], list(range(len(text)))):
        assert [record.time_ns for record in decoded(text, cuts)] == expected


def test_text_without_a_prefix_needs_none() -> None:
    for name in ("qemu-7.2-log-timestamp.txt", "qemu-7.2-log-plain-mixed-with-d-output.txt"):
        data = capture(name)
        found = TextDecoder(TABLE).end(data, Clocks(NOW_NS))
        plain = only_batch(LogDecoder(TABLE).end(data, Clocks(NOW_NS)))
        shown = [record for batch in batches(found) for record in batch.records()]
        assert shown == list(plain.records())


def test_a_real_log_with_a_prefix_is_replayed(tmp_path: Path) -> None:
    data = capture("qemu-7.2-log-timestamp.txt")
    (tmp_path / "plain").write_bytes(data)
    lines = data.splitlines(keepends=True)
    (tmp_path / "prefixed").write_bytes(b"".join(b"vm1 qemu: " + line for line in lines))
    (tmp_path / "all").write_text(declarations_text("7.2"))
    found = []
    for name in ("plain", "prefixed"):
        items, replay = read(tmp_path / name, events_all=tmp_path / "all", text=False)
        found.append([r for item in items if isinstance(item, Batch) for r in item.records()])
        assert not replay.problem
    assert found[0] == found[1]
    assert len(found[0]) > 3000


def test_a_leap_day_gets_the_latest_year_that_has_one() -> None:
    now = datetime(2028, 3, 5).astimezone()
    line = f"Feb 29 21:37:32 host qemu[7]: {PLAIN.format(n=1)}\n".encode()
    decoder = TextDecoder(TABLE)
    clocks = Clocks(int(now.timestamp()) * 10**9)
    batch = only_batch(decoder.feed(line, clocks) + decoder.flush(clocks))
    assert batch.time_ns.tolist() == [int(datetime(2028, 2, 29, 21, 37, 32).timestamp()) * 10**9]
    assert not batch.arrived.any()
