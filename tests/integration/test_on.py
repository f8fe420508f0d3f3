"""``qtctl on`` on the fake: every action, how often, files of triggers, the guest given back."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running, eventually

from .conftest import MakeFake

EVENT = "virtio_blk_req_complete"
READY = "Ctrl-C gives back"
Start = Callable[..., Running]
Log = Callable[..., None]


@pytest.fixture
def log(fake: FakeProcess, folder: Path) -> Log:
    """Append completions with these statuses to the fake's log."""

    def write(*statuses: int) -> None:
        with (folder / "qmp.log").open("a") as file:
            file.write("".join(f"{EVENT} vdev 0x1 req 0x2 status {n}\n" for n in statuses))

    return write


@pytest.fixture
def start(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> Start:
    def started(*args: str, **options: Any) -> Running:
        run = qtctl.start("-t", fake.address, "--events-all", str(declared), "on", *args, **options)
        run.said(READY)
        return run

    return started


def given_back(qtctl: Qtctl, fake: FakeProcess) -> None:
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()
    assert not qtctl.spools()


def fired(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_it_stops_the_guest_once_and_ends(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start
) -> None:
    run = start("--ndjson", EVENT, "--where", "status != 0", "--once", "do", "stop")
    log(0, 0)
    log(0, 5, 6)
    ran = run.finish(None).said(0)
    [told] = fired(ran.out)
    assert (told["type"], told["action"], told["count"]) == ("trigger", "stop", 2)
    assert told["on"] == f"{EVENT} where status != 0"
    assert told["found"]["args"]["status"] == 5
    assert json.loads(qtctl("-t", fake.address, "qmp", "query-status").out)["status"] == "paused"
    given_back(qtctl, fake)


def test_expressions_name_their_events_and_lines_are_for_people(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start
) -> None:
    run = start(
        "--time", "none", f'event == "{EVENT}" and status > 6', "--once", "do", "mark", "it  broke"
    )
    assert fake.tell()["enabled"] == [EVENT]
    log(1, 7)
    ran = run.finish(None).said(0)
    assert ran.out.splitlines() == [
        f"{EVENT} vdev=0x1 req=0x2 status=7",
        f'--- event == "{EVENT}" and status > 6: mark it  broke: on 1 console ---',
    ]
    given_back(qtctl, fake)


def test_switching_is_given_back(qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start) -> None:
    qtctl("-t", fake.address, "enable", "virtio_notify").said(0)
    run = start(
        "--ndjson", EVENT, "--every", "1ms", "do", "enable", "virtio_blk_*", "virtio_notify"
    )
    log(1)
    run.wrote(b'changed"')
    assert {EVENT, "virtio_blk_handle_read"} < set(fake.tell()["enabled"])
    run.signal(signal.SIGINT)
    run.finish(None).said(130)
    assert fake.tell()["enabled"] == ["virtio_notify"]


def test_each_time_but_not_too_often(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start
) -> None:
    run = start("--ndjson", EVENT, "--every", "1h", "do", "mark", "x")
    log(1)
    run.wrote(b"trigger")
    log(*range(50))
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130, f"{EVENT}: matched 50 more times (--every)")
    assert len(fired(ran.out)) == 1


def test_programs_are_run_as_they_are_written(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = (
        f'printf "%s|%s|%s" "$QTCTL_RECORD" "$QTCTL_TARGET" "$1" > {out}.part; mv {out}.part {out}'
    )
    words = ("run", "sh", "-c", script, "sh", "$HOME; a b -t --once")
    start("--ndjson", EVENT, "--once", "do", *words)
    log(3)
    eventually(out.exists, "the program ran")
    record, target, argument = out.read_text().split("|")
    assert json.loads(record)["args"]["status"] == 3
    assert target == f"unix:{fake.address}"
    assert argument == "$HOME; a b -t --once"


def test_a_program_that_is_not_there_or_does_not_end(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start, tmp_path: Path
) -> None:
    triggers = tmp_path / "triggers"
    triggers.write_text(
        f"# a comment\n\n{EVENT} --every 1ms do run /nonexistent/program\n"
        f"{EVENT} --where 'status == 9' --every 1ms do run sleep 1000  # another\n"
    )
    run = start("--ndjson", "--file", str(triggers))
    log(9)
    run.wrote(b"pid ")
    log(9)
    run.wrote(b"still runs")
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(130)
    outcomes = [one["outcome"] for one in fired(ran.out)]
    assert outcomes[0] == "failed: No such file or directory"
    given_back(qtctl, fake)


def test_a_ring_is_dumped(
    qtctl: Qtctl, fake: FakeProcess, log: Log, start: Start, tmp_path: Path
) -> None:
    out = tmp_path / "ring"
    words = ("--ring", "64MiB", "-o", str(out), "--also", "virtio_notify", "--ndjson")
    run = start(*words, EVENT, "--where", "status == 5", "--once", "do", "dump")
    assert set(fake.tell()["enabled"]) == {EVENT, "virtio_notify"}
    log(0, 1)
    log(2, 5)
    ran = run.finish(None).said(0)
    assert f"4 records written to {out}" in fired(ran.out)[0]["outcome"]
    assert len(qtctl("replay", str(out), EVENT).said(0).out.splitlines()) >= 4
    given_back(qtctl, fake)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((EVENT,), 2, "'do' and an action are missing"),
        (("do", "stop"), 2, "a condition is needed"),
        ((), 2, "a condition is needed"),
        ((EVENT, "do", "explode"), 2, "is no action"),
        ((EVENT, "do", "dump"), 2, "--ring 64MiB -o FILE"),
        ((EVENT, "--ring", "64MiB", "do", "stop"), 2, "no trigger does that"),
        ((EVENT, "--where", "statu == 1", "do", "stop"), 2, "status"),
        (("status ==", "do", "stop"), 2, "not an expression"),
        (("GUEST_PANICKED", "--where", "a == 1", "do", "stop"), 2, "--where goes with names"),
        (("nothing_of_this", "do", "stop"), 3, "no event matches"),
        ((EVENT, "--every", "soon", "do", "stop"), 2, "not a duration"),
        (
            (
                "--file",
                "/nonexistent",
            ),
            2,
            "cannot read",
        ),
        ((EVENT, "--json", "do", "stop"), 2, "--ndjson"),
    ],
)
def test_what_cannot_be_right(
    qtctl: Qtctl, make_fake: MakeFake, declared: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    fake = make_fake()
    ran = qtctl("-t", fake.address, "--events-all", str(declared), "on", *words)
    ran.said(code, says)
    given_back(qtctl, fake)


def test_a_wrong_line_of_a_file_is_named(qtctl: Qtctl, make_fake: MakeFake, tmp_path: Path) -> None:
    fake, path = make_fake(), tmp_path / "triggers"
    for line, says in (
        (f"{EVENT} do explode", "line 2: 'explode' is no action"),
        (f"{EVENT} --nonsense do stop", "line 2: "),
        (f"{EVENT} do mark 'half", "line 2: No closing quotation"),
    ):
        path.write_text(f"# one\n{line}\n")
        qtctl("-t", fake.address, "on", "--file", str(path)).said(2, str(path), says)
    path.write_text("# nothing\n")
    qtctl("-t", fake.address, "on", "--file", str(path)).said(2, "has no trigger")
