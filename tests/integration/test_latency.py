"""``qtctl latency``, on files and on a fake guest that logs what the test writes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl
from tests.samples import capture
from tests.simplefiles import dropped, event, header, mapping

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"
VERB = ("latency", READ, DONE)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace"
    path.write_bytes(capture("qemu-7.2-simple-v4.bin"))
    return str(path)


def read(req: int, vdev: int = 1) -> bytes:
    return b"%s vdev %#x req %#x sector 0 nsectors 1\n" % (READ.encode(), vdev, req)


def done(req: int, vdev: int = 1) -> bytes:
    return b"%s vdev %#x req %#x status 0\n" % (DONE.encode(), vdev, req)


def test_a_real_file(qtctl: Qtctl, trace: str, declared: Path) -> None:
    words = (*VERB, "--from", trace, "--events-all", str(declared))
    ran = qtctl(*words, "--json").said(0, "pairs have the same vdev and req", "0 lost")
    found = json.loads(ran.out)
    assert found["count"] == 806
    assert found["key"] == ["vdev", "req"]
    assert found["start"] == [READ]
    assert sum(count for _, _, count in found["histogram"]) == 806
    assert found["p50"] <= found["p90"] <= found["p99"] <= found["max"]
    assert (found["in_flight"], found["unpaired"], found["lost"]) == (0, 0, 0)
    by_device = json.loads(qtctl(*words, "--json", "--by", "vdev", "--key", "req").said(0).out)
    [group] = by_device["groups"]
    assert group["count"] == 806
    lines = qtctl(*words, "--by", "vdev").said(0).out.splitlines()
    assert lines[0].startswith(f"{group['value']:#x}\t806\t")
    assert lines[1].startswith("all\t806\t")
    few = qtctl(*words, "--where", "sector == 0", "--json").said(0)
    assert 0 < json.loads(few.out)["count"] <= 806


def test_losses_in_a_file_are_not_paired_over(qtctl: Qtctl, tmp_path: Path) -> None:
    known = tmp_path / "all"
    known.write_text('begin(void *req) "%p"\nend(void *req) "%p"\n')
    path = tmp_path / "trace"
    content = event(0, 10, 1) + event(0, 20, 2) + event(1, 25, 2) + dropped(5, 30)
    content += event(1, 90, 1) + event(0, 100, 3)
    path.write_bytes(header() + mapping(0, "begin") + mapping(1, "end") + content)
    words = ("--from", str(path), "--events-all", str(known))
    ran = qtctl("latency", "begin", "end", *words, "--json").said(0, "5 lost")
    found = json.loads(ran.out)
    assert (found["count"], found["max"], found["mean"]) == (1, 5, 5.0)
    assert (found["dropped"], found["unseen"], found["in_flight"]) == (1, 1, 1)
    assert found["unpaired"] == 0
    assert found["lost"] == 5
    shown = qtctl("latency", "begin", "end", *words).said(0).out
    assert "open at a loss\t1\n" in shown
    # A cut file: what could be measured is shown, and then the file's problem is told.
    path.write_bytes(path.read_bytes()[:-3])
    ran = qtctl("latency", "begin", "end", *words, "--json").said(1, "cut off")
    assert json.loads(ran.out)["in_flight"] == 0


def test_pairs_where_times_step_back_are_left_out(qtctl: Qtctl) -> None:
    # bpftrace passed on whole buffers of one CPU: in time order the longest took 116 ms.
    path = Path(__file__).parents[1] / "data/cases/backends/dtrace-disordered.qtr"
    found = json.loads(qtctl(*VERB, "--from", str(path), "--json").said(0).out)
    assert found["max"] == 115_999_591
    assert found["count"] > 14_000
    assert found["count"] + found["disordered"] == 17_782


def test_no_pair_at_all(qtctl: Qtctl, trace: str, declared: Path) -> None:
    words = ("--from", trace, "--events-all", str(declared))
    ran = qtctl("latency", "virtio_blk_handle_write", DONE, *words).said(0)
    assert ran.out.startswith("count\t0\np50\t-\n")
    ran = qtctl("latency", "virtio_blk_handle_write", DONE, *words, "--json", "--by", "vdev")
    assert json.loads(ran.said(0).out)["p50"] is None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((READ, "nothing_of_this"), 3, "no event matches 'nothing_of_this'"),
        (("nvme_dsm", "nvme_dsm_done"), 2, "share s, offset, bytes"),
        (("qmp_enter_stop", "qmp_exit_stop"), 2, "--key tid"),
        ((READ, DONE, "--key", "sector"), 2, "no argument 'sector'"),
        ((READ, DONE, "--key", "req,"), 2, "not arguments"),
        ((READ, DONE, "--by", "colour"), 2, "neither every START nor every END"),
        ((READ, DONE, "--where", "colour == 1"), 2, "colour"),
        ((READ, DONE, "--duration", "1s"), 2, "for a guest"),
    ],
)
def test_what_cannot_be_right(
    qtctl: Qtctl, trace: str, declared: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    ran = qtctl("latency", *words, "--from", trace, "--events-all", str(declared))
    assert ran.said(code, says).out == ""


def test_live_until_it_is_told_to_stop(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path
) -> None:
    words = ("-t", fake.address, *VERB, "--events-all", str(declared), "--json")
    running = qtctl.start(*words)
    running.said("Ctrl-C gives back")
    assert fake.tell()["enabled"] == [READ, DONE]
    with (folder / "qmp.log").open("ab", buffering=0) as log:
        for content in (read(1), b"noise\n", read(2), done(1), done(1), done(3), read(2)):
            log.write(content)
    running.signal(signal.SIGINT)
    ran = running.finish()
    assert ran.code == 1, ran
    found = json.loads(ran.out)
    assert (found["count"], found["p50"], found["in_flight"]) == (0, None, 1)
    assert (found["unpaired"], found["reused"], found["arrived"]) == (1, 1, 1)
    assert found["unseen"] == 1
    assert "came again before their END" in ran.err
    assert "1 pairs are in no figure: QEMU gave their records no times" in ran.err
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


@pytest.mark.parametrize("stamps", [(), ("--timestamps",)])
@pytest.mark.parametrize("words", [(READ, DONE), ("virtio_blk_handle_r*", "virtio_blk_req_*")])
def test_what_comes_while_not_both_are_on_is_passed_over(
    qtctl: Qtctl,
    make_fake: MakeFake,
    declared: Path,
    words: tuple[str, str],
    stamps: tuple[str, ...],
) -> None:
    """A guest that says one and the other in turn, and is slow to answer each switch."""
    fake = make_fake(*stamps, "--fault", "late-reply:0.2:trace-event-set-state")
    running = qtctl.start(
        *("-t", fake.address, "latency", *words, "--key", "none"),
        *("--events-all", str(declared), "--duration", "0.4s", "--json", "--clock", "arrival"),
    )
    partly = 0
    while not running.ended:
        partly += len(fake.tell(events=2)["enabled"]) == 1
    ran = running.finish().said(0 if stamps else 1, "0 lost")
    found = json.loads(ran.out)
    assert found["count" if stamps else "arrived"] > 10
    assert (found["unpaired"], found["reused"]) == (0, 0), found
    assert found["unseen"] <= 1
    assert found["in_flight"] <= 1
    assert partly > 10
    told = re.search(r"(\d+) filtered", ran.err)
    assert told is not None
    assert int(told[1]) > partly


def test_mistakes_switch_nothing(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> None:
    words = ("-t", fake.address, *VERB, "--events-all", str(declared))
    qtctl(*words, "--key", "sector").said(2, "no argument")
    qtctl(*words, "--where", "nope").said(2, "nope")
    assert "trace-event-set-state" not in json.dumps(fake.tell()["commands"])


def test_what_was_found_is_shown_when_the_guest_ends(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path
) -> None:
    words = ("-t", fake.address, *VERB, "--events-all", str(declared), "--json")
    running = qtctl.start(*words)
    running.said("Ctrl-C gives back")
    with (folder / "qmp.log").open("ab", buffering=0) as log:
        log.write(read(1) + done(1))
    os.kill(fake.pid, signal.SIGTERM)
    ran = running.finish()
    assert ran.code == 5, ran
    assert json.loads(ran.out)["arrived"] == 1
