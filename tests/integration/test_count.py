"""``qtctl count``: by event, by argument, as a histogram; on files and on a fake guest."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl, eventually
from tests.samples import capture
from tests.simplefiles import plainly

READS = "virtio_blk_handle_read"
REGION = "memory_region_ops_*"


@pytest.fixture
def source(tmp_path: Path, declared: Path) -> tuple[str, ...]:
    path = tmp_path / "trace"
    path.write_bytes(capture("qemu-7.2-simple-v4.bin"))
    return ("--from", str(path), "--events-all", str(declared))


def test_by_event_as_a_plain_reader_counts(qtctl: Qtctl, source: tuple[str, ...]) -> None:
    rows = Counter(row[0] for row in plainly(capture("qemu-7.2-simple-v4.bin")))
    found = json.loads(qtctl("count", *source, "--json").said(0, "0 lost").out)
    assert {one["value"]: one["count"] for one in found["groups"]} == rows
    assert [one["count"] for one in found["groups"]] == sorted(rows.values(), reverse=True)
    assert found["count"] == sum(rows.values())
    lines = qtctl("count", *source, "--limit", "2").said(0).out.splitlines()
    assert lines[0].split("\t")[::2] == [str(rows.most_common(1)[0][1]), rows.most_common(1)[0][0]]
    assert lines[2].endswith(f"({len(rows) - 2} more)")


def test_by_argument_as_the_records_say(qtctl: Qtctl, source: tuple[str, ...]) -> None:
    path = source[1]
    records = qtctl("replay", path, REGION, *source[2:], "--ndjson", limit=None).said(0)
    args = [
        one["args"] for line in records.out.splitlines() if (one := json.loads(line)).get("args")
    ]
    for by in ("name", "addr", "size"):
        found = json.loads(qtctl("count", REGION, "--by", by, *source, "--json").said(0).out)
        expected = Counter(one[by] for one in args)
        assert {one["value"]: one["count"] for one in found["groups"]} == expected
    few = json.loads(
        qtctl("count", REGION, "--by", "size", "--where", "size > 1", *source, "--json").said(0).out
    )
    assert {one["value"] for one in few["groups"]} == {one["size"] for one in args} - {1}
    for linear in ((), ("--linear",)):
        words = ("count", REGION, "--hist", "value", *linear, *source, "--json")
        found = json.loads(qtctl(*words).said(0).out)
        values = [one["value"] for one in args]
        assert (found["count"], found["max"]) == (len(values), max(values))
        for low, high, count in found["histogram"]:
            assert count == sum(low <= value < high for value in values)
    shown = qtctl("count", REGION, "--hist", "size", *source).said(0).out
    assert shown.startswith(f"count\t{len(args)}\n")


def test_a_record_without_the_argument_is_counted_as_such(
    qtctl: Qtctl, source: tuple[str, ...]
) -> None:
    found = json.loads(qtctl("count", "virtio_*", "--by", "sector", *source, "--json").out)
    groups = {one["value"]: one["count"] for one in found["groups"]}
    assert groups[0] == 806
    assert groups[None] == found["count"] - 806
    assert "(none)" in qtctl("count", "virtio_*", "--by", "sector", *source).said(0).out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nothing_of_this",), 3, "no event matches"),
        ((REGION, "--by", "colour"), 2, "no matched event has an argument 'colour'"),
        ((REGION, "--by", "siz"), 2, "size"),
        ((REGION, "--hist", "name"), 2, "name is a text"),
        ((REGION, "--hist", "tid"), 2, "no matched event has an argument 'tid'"),
        ((REGION, "--top", "0"), 2, "not a count"),
        ((REGION, "--duration", "1s"), 2, "for a guest"),
        ((REGION, "--interval", "1s"), 2, "for a guest"),
    ],
)
def test_what_cannot_be_right(
    qtctl: Qtctl, source: tuple[str, ...], words: tuple[str, ...], code: int, says: str
) -> None:
    assert qtctl("count", *words, *source).said(code, says).out == ""


def test_live_until_it_is_told_to_stop(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path
) -> None:
    words = ("count", "virtio_blk_*", "--by", "nsectors", "--events-all", str(declared), "--json")
    running = qtctl.start("-t", fake.address, *words)
    running.said("Ctrl-C gives back")
    eventually(lambda: fake.tell()["enabled"], "events are on")
    with (folder / "qmp.log").open("ab", buffering=0) as log:
        for size in (8, 8, 16):
            log.write(b"virtio_blk_handle_read vdev 0x1 req 0x2 sector 0 nsectors %d\n" % size)
        log.write(b"virtio_blk_req_complete vdev 0x1 req 0x2 status 0\n")
    running.signal(signal.SIGTERM)
    ran = running.finish()
    assert ran.code == 143, ran
    groups = {one["value"]: one["count"] for one in json.loads(ran.out)["groups"]}
    assert groups == {8: 2, 16: 1, None: 1}
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_each_interval_by_itself(qtctl: Qtctl, make_fake: MakeFake, declared: Path) -> None:
    fake = make_fake("--rate", "300")
    words = ("-t", fake.address, "count", READS, "--events-all", str(declared))
    ran = qtctl(*words, "--interval", "0.2s", "--duration", "1s", "--ndjson").said(0, "0 lost")
    *blocks, summary = [json.loads(line) for line in ran.out.splitlines()]
    assert summary["type"] == "summary"
    assert {(one["type"], one["window_s"]) for one in blocks} == {("count", 0.2)}
    assert 4 <= len(blocks) <= 8
    assert sum(one["count"] for one in blocks) == summary["shown"] > 0
    assert [one["time_ns"] for one in blocks] == sorted(one["time_ns"] for one in blocks)
    plain = qtctl(*words, "--interval", "0.2s", "--duration", "1s").said(0)
    shown = int(re.findall(r"(\d+) shown", plain.err)[0])
    counts = [int(line.split("\t")[0]) for line in plain.out.splitlines() if line]
    assert sum(counts) == shown
    assert 3 <= plain.out.count("\n\n") + plain.out.startswith("\n") <= 7
    whole = json.loads(qtctl(*words, "--duration", "0.3s", "--ndjson").said(0).out)
    assert (whole["type"], "window_s" in whole) == ("count", False)
    qtctl(*words, "--interval", "1s", "--json").said(2, "--ndjson")
    assert not fake.tell()["enabled"]
