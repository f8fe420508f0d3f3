"""``top`` counts what the guest says, and gives it back, for people and for scripts."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl

READ, WRITE = "virtio_blk_handle_read", "virtio_blk_handle_write"
SLOW = ("--interval", "30s")


def read_line(sector: int, *, size: int = 1) -> str:
    return f"{READ} vdev 0x55f0 req 0x55f1 sector {sector} nsectors {size}"


def emit(fake: FakeProcess, *lines: str) -> None:
    fake.tell(emit=list(lines))


def counted(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, *words: str, lines: list[str]
) -> tuple[str, str, int]:
    """Run top until interrupted, after the guest said ``lines``; return out, err and exit code."""
    running = qtctl.start(
        *("-t", fake.address, "--events-all", str(declared), "top", "virtio_*"), *SLOW, *words
    )
    running.said("Ctrl-C gives back")
    emit(fake, *lines)
    running.signal(signal.SIGINT)
    ran = running.finish()
    return ran.out, ran.err, ran.code


@pytest.fixture
def threaded(make_fake: MakeFake) -> FakeProcess:
    """Return a fake whose lines name their thread."""
    return make_fake("--timestamps")


def test_a_table_of_events_by_rate(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> None:
    out, err, code = counted(
        qtctl, fake, declared, lines=[read_line(1), read_line(2), f"{WRITE} vdev 0x1 req 0x2"]
    )
    assert code == 130
    rows = [row.split("\t") for row in out.splitlines()]
    assert [(row[0], row[3], row[4]) for row in rows] == [(READ, "66.7", "2"), (WRITE, "33.3", "1")]
    assert "3 read, 3 shown, 0 filtered, 0 lost" in err
    assert fake.tell()["enabled"] == []
    assert qtctl.leases() == []


def test_json_is_one_document_by_an_argument(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    lines = [read_line(1), read_line(2, size=8), read_line(3, size=8), f"{WRITE} what"]
    out, _, _ = counted(
        qtctl, fake, declared, "--json", "--by", "nsectors", "--sort", "name", lines=lines
    )
    document = json.loads(out)
    assert (document["type"], document["by"], document["others"]) == ("top", "nsectors", None)
    assert [(row["key"], row["total"]) for row in document["rows"]] == [(1, 1), (8, 2), (None, 1)]
    assert document["whole"]["total"] == 4


def test_where_leaves_out_and_limit_sums_up(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    lines = [read_line(sector) for sector in range(10)]
    words = ("--where", "sector >= 4", "--by", "sector", "--limit", "2", "--json")
    out, err, _ = counted(qtctl, fake, declared, *words, lines=lines)
    document = json.loads(out)
    assert len(document["rows"]) == 2
    assert document["others"]["total"] == 4
    assert "10 read, 6 shown, 4 filtered, 0 lost" in err


def test_pointers_are_in_hex_and_threads_are_told(
    qtctl: Qtctl, threaded: FakeProcess, declared: Path
) -> None:
    out, _, _ = counted(qtctl, threaded, declared, "--by", "vdev", lines=[read_line(1)])
    assert out.startswith("0x55f0\t")
    line = f"{threaded.pid}@1700000000.000001:{read_line(1)}"
    out, _, _ = counted(qtctl, threaded, declared, "--by", "tid", lines=[line])
    assert out.split("\t")[0] == f"{threaded.pid} vCPU 0"


def test_ndjson_is_an_object_an_interval_with_news_and_sums(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    running = qtctl.start(
        *("-t", fake.address, "--events-all", str(declared), "top", "virtio_*"),
        *("--ndjson", "--interval", "50ms"),
    )
    running.said("Ctrl-C gives back")
    emit(fake, read_line(1), read_line(2))
    running.wrote(READ.encode())
    running.signal(signal.SIGTERM)
    ran = running.finish()
    assert ran.code == 143
    documents: list[dict[str, Any]] = [json.loads(line) for line in ran.out.splitlines()]
    kinds = [document["type"] for document in documents]
    assert (kinds[0], kinds[1], kinds[-1]) == ("control", "top", "summary")
    assert documents[-1] == {
        "type": "summary", "read": 2, "shown": 2, "filtered": 0, "unread": 0, "lost": 0,
        "unknown_losses": 0,
    }  # fmt: skip
    assert max(d["whole"]["total"] for d in documents if d["type"] == "top") == 2
    assert fake.tell()["enabled"] == []


def test_once_and_duration_end_by_themselves(qtctl: Qtctl, fake: FakeProcess) -> None:
    qtctl("-t", fake.address, "top", "--once", "--interval", "50ms").said(0, "0 read")
    words = ("--ndjson", "--interval", "50ms", "--duration", "200ms")
    ran = qtctl("-t", fake.address, "top", READ, *words).said(0, "0 read")
    assert json.loads(ran.out.splitlines()[-1])["type"] == "summary"
    assert fake.tell()["enabled"] == []


def test_without_a_pattern_it_counts_what_is_on(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    qtctl("-t", fake.address, "enable", READ).said(0)
    running = qtctl.start(
        "-t", fake.address, "--events-all", str(declared), "top", *SLOW, "--by", "sector"
    )
    running.said("following what is on")
    emit(fake, read_line(7))
    running.signal(signal.SIGINT)
    assert running.finish().out.startswith("7\t")
    assert fake.tell()["enabled"] == [READ]


def test_guest_texts_cannot_steer_a_terminal(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    running = qtctl.start(
        *("-t", fake.address, "--events-all", str(declared)),
        *("top", "memory_region_ops_read", *SLOW, "--by", "name"),
    )
    running.said("Ctrl-C gives back")
    line = "cpu 0 mr 0x1 addr 0x2 value 0x3 size 4 name '\x1b[31mred'"
    emit(fake, f"memory_region_ops_read {line}")
    running.signal(signal.SIGINT)
    ran = running.finish()
    assert ran.out.startswith("'\\x1b[31mred'\t")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("virtio_*", "--by", "nsector"), 2, "--by nsectors"),
        (("virtio_*", "--by", "zzz"), 2, "no selected event has an argument 'zzz'"),
        (("nothing_at_all",), 3, "no event matches"),
        (("--sort", "colour"), 2, "--sort"),
        (("--interval", "0"), 2, "not a duration"),
        (("--where", "nsectors >"), 2, "not an expression"),
    ],
)
def test_what_cannot_be_right_switches_nothing(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    qtctl("-t", fake.address, "--events-all", str(declared), "top", *words).said(code, said)
    assert fake.tell()["enabled"] == []
    assert not any("set-state" in str(command) for command in fake.tell()["commands"])


def test_losing_the_guest_is_said(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake()
    running = qtctl.start("-t", fake.address, "top", READ, "--ndjson")
    running.said("Ctrl-C gives back")
    fake.stop()
    running.finish().said(5, "lost unix:")


def test_a_reader_that_leaves_ends_it(qtctl: Qtctl, fake: FakeProcess) -> None:
    ran = qtctl(
        *("-t", fake.address, "top", READ, "--ndjson", "--interval", "50ms"),
        before=("sh", "-c", '"$@" | head -n 2', "sh"),
    )
    assert len(ran.out.splitlines()) == 2
    assert fake.tell()["enabled"] == []
