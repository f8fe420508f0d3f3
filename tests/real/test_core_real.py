"""The whole of qtctl on real QEMUs: find, list, switch, follow, give back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qtctl
from qtctl import Batch, EventState, Selection
from tests.qemus import LABELS, Qemu, RealGuest, require
from tests.running import Qtctl, eventually, guest_by_pid

pytestmark = pytest.mark.qemu

ROUND = ["virtio_queue_notify", "virtio_blk_handle_read", "virtio_blk_rw_complete"]
ROUND += ["virtio_blk_req_complete"]


@pytest.fixture(params=LABELS)
def qemu(request: pytest.FixtureRequest) -> Qemu:
    return require(request.param)


def enabled(guest: RealGuest, run: Qtctl) -> list[str]:
    ran = run("-t", guest.address, "list", "--state", "enabled", "--json").said(0)
    return [event["name"] for event in json.loads(ran.out)["events"]]


def log_link(guest: RealGuest, inode: tuple[int, int]) -> bool:
    for entry in Path(f"/proc/{guest.pid}/fd").iterdir():
        state = entry.stat()
        if (state.st_dev, state.st_ino) == inode:
            return True
    return False


def test_ps_finds_it_with_all_facts(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, extra=["-name", "found-by-ps"]) as guest:
        ran = run("ps", "--json").said(0)
        [found] = [g for g in json.loads(ran.out)["guests"] if g["pid"] == guest.pid]
    assert found["name"] == "found-by-ps"
    assert found["version"] == ".".join(map(str, qemu.version))
    assert "log" in found["backends"]
    assert found["undecided"] == []
    [monitor] = found["monitors"]
    assert monitor["holders"] == []


def test_every_kind_of_target_reaches_it(run: Qtctl) -> None:
    name = f"by-name-{os.getpid()}"
    with RealGuest(require("path"), extra=["-name", name]) as guest:
        path = guest.address
        targets = [
            path,
            f"unix:{path}",
            f"unix:{path},server=on,wait=off",
            str(guest.pid),
            name,
        ]
        calls = [run.start("-t", target, "qmp", "query-status") for target in targets]
        for call in calls:
            assert json.loads(call.finish().said(0).out)["status"] == "running"
        for variable in ("QTCTL_TARGET", "QMP_SOCKET"):
            run("status", env={variable: path}).said(0)


def test_an_empty_target_is_not_the_only_guest_that_runs(run: Qtctl) -> None:
    """A script whose variable is empty meant some guest, and nobody knows which."""
    with RealGuest(require("path")) as guest:
        calls = {
            "the target is empty": run.start("-t", "", "enable", ROUND[0]),
            "target is empty": run.start("enable", ROUND[0], "--target="),
            "$QTCTL_TARGET is set, but empty": run.start(
                "enable", ROUND[0], env={"QTCTL_TARGET": "", "QMP_SOCKET": guest.address}
            ),
            "$QMP_SOCKET is set, but empty": run.start("enable", ROUND[0], env={"QMP_SOCKET": " "}),
        }
        for cause, call in calls.items():
            call.finish().said(2, cause)
        assert enabled(guest, run) == []


def test_listing_and_switching(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu) as guest:
        target = ("-t", guest.address)
        everything = json.loads(run(*target, "list", "--json").said(0).out)["events"]
        names = [event["name"] for event in everything]
        assert len(names) > 4000
        assert names == sorted(names)
        blk = [name for name in names if name.startswith("virtio_blk_")]

        dry = json.loads(run(*target, "enable", "virtio_blk_*", "--dry-run", "--json").out)
        assert dry["changed"] == blk
        assert enabled(guest, run) == []

        run(*target, "enable", "virtio_blk_*", "--except", "*_write", "virtio_notify").said(0)
        assert enabled(guest, run) == [n for n in blk if not n.endswith("_write")] + [
            "virtio_notify"
        ]

        again = run(*target, "enable", "virtio_blk_handle_read").said(0)
        assert again.out == "1 matched, 0 changed, 1 already enabled, 0 unavailable\n"

        run(*target, "disable", "virtio_notify", "virtio_blk_handle_read").said(0)
        run(*target, "restore").said(0)
        assert enabled(guest, run) == []
        assert run.leases() == []


def test_all_events_at_once_with_some_left_out(qemu: Qemu, run: Qtctl) -> None:
    """Thousands of events, the unavailable ones among them, with few commands and an exact end.

    The guest is paused: one that logs all it does has little time for its monitor.
    """
    with RealGuest(qemu, image="virtio-blk", extra=["-S"]) as guest:
        target = ("-t", guest.address)
        run(*target, "enable", "usb_ohci_*").said(0)
        before = enabled(guest, run)
        ran = run(*target, "disable", "*", "--except", "usb_ohci_*", "--json").said(0)
        assert not json.loads(ran.out)["changed"]
        most = ("enable", "*", "--except", "qmp_*", "--for", "200ms", "--json")
        run(*target, *most).said(2, "--yes")
        ran = run(*target, *most, "--yes").said(0)
        report = json.loads(ran.out)
        assert len(report["changed"]) > 3000
        assert set(report["already"]) == set(before)
        assert enabled(guest, run) == before


def test_enable_for_a_while(run: Qtctl) -> None:
    with RealGuest(require("path")) as guest:
        running = run.start("-t", guest.address, "enable", "usb_*", "--for", "30s")
        running.said("changed, for 30 s")
        running.signal(signal.SIGTERM)
        ran = running.finish(None)
        assert ran.code == 143
        assert enabled(guest, run) == []


def test_info_has_types_of_this_very_build(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu) as guest:
        ran = run("-t", guest.address, "info", "virtio_blk_handle_read", "--json").said(0)
        doctor = run("-t", guest.address, "doctor", "--json").said(0)
    info = json.loads(ran.out)
    assert [a["name"] for a in info["arguments"]] == ["vdev", "req", "sector", "nsectors"]
    assert [a["kind"] for a in info["arguments"]] == ["pointer", "pointer", "integer", "integer"]
    findings = json.loads(doctor.out)["findings"]
    assert any("all declared in" in finding["what"] for finding in findings)
    assert not [finding for finding in findings if finding["level"] == "bad"]


def tail(run: Qtctl, guest: RealGuest, *words: str) -> list[dict[str, Any]]:
    ran = run("-t", guest.address, "tail", "--backend", "log", *words, "--ndjson", limit=None).said(
        0
    )
    return [json.loads(line) for line in ran.out.splitlines()]


def sums_hold(records: list[dict[str, Any]]) -> dict[str, Any]:
    summary = records[-1]
    assert summary["type"] == "summary"
    assert summary["read"] == summary["shown"] + summary["filtered"]
    shown = [record for record in records if record["type"] in ("event", "text")]
    assert len(shown) == summary["shown"]
    return summary


Places = Callable[[], Any]
STDERR: dict[str, Any] = {
    "file": None,
    "null": subprocess.DEVNULL,
    "pipe": subprocess.PIPE,
}


@pytest.mark.parametrize("stderr", STDERR)
def test_tail_gives_typed_records_in_order_and_the_guest_back(
    qemu: Qemu, run: Qtctl, stderr: str
) -> None:
    with RealGuest(qemu, image="virtio-blk", stderr=STDERR[stderr]) as guest:
        spools = Path(f"/proc/{guest.pid}/root/var/tmp")
        others = {*spools.glob("qtctl-spool-*")}
        run("-t", guest.address, "enable", "virtio_notify").said(0)
        records = tail(run, guest, *ROUND, "--max-events", "200")
        assert enabled(guest, run) == ["virtio_notify"]
        assert run.leases() == [run.leases()[0]]
        assert run.leases()[0].name == "standing.json"
        assert run.spools() == []
        # Those of other tests go by and by.
        left = {*spools.glob("qtctl-spool-*")} - others
        eventually(lambda: not left & {*spools.glob("qtctl-spool-*")}, "no spool is left")
        if stderr == "pipe" and guest.process.stderr is not None:
            guest.process.stderr.close()
    summary = sums_hold(records)
    assert summary["shown"] == 200
    assert summary["lost"] == 0
    events = [record for record in records if record["type"] == "event"]
    names = [event["name"] for event in events]
    # Once all four are on, every turn of the guest's loop says the same four things.
    begin = names.index("virtio_queue_notify", 20)
    assert names[begin : begin + 80] == ROUND * 20
    for event in events:
        assert "raw" not in event
        assert event["pid"] == guest.pid
        assert event["backend"] == "log"
        assert event["clock"] == "arrival"
        if event["name"] == "virtio_blk_handle_read":
            assert event["args"]["nsectors"] == 1
            assert event["args"]["sector"] == 0
            assert event["args"]["req"] > 0x10000


def test_times_are_the_guest_s_own(qemu: Qemu, run: Qtctl) -> None:
    with RealGuest(qemu, image="virtio-blk", extra=["-msg", "timestamp=on"]) as guest:
        records = tail(run, guest, "virtio_blk_*", "--max-events", "50")
        ids = {int(path.name) for path in Path(f"/proc/{guest.pid}/task").iterdir()}
    events = [record for record in records if record["type"] == "event"]
    times = [event["time_ns"] for event in events]
    assert {event["clock"] for event in events} == {"realtime"}
    assert times == sorted(times)
    assert 0 <= times[0] - records[0]["time_ns"] + 60 * 10**9 < 120 * 10**9
    tids = {event["tid"] for event in events}
    assert tids <= ids if qemu.series in ("7.2", "10.0") else tids == {None}


def test_a_user_s_own_log_is_followed_and_never_touched(qemu: Qemu, run: Qtctl) -> None:
    options = ["-D", "{dir}/own.log", "-d", "cpu_reset"]
    options += ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    with RealGuest(qemu, image="virtio-blk", extra=options) as guest:
        log = guest.directory / "own.log"
        eventually(lambda: log.exists() and log.stat().st_size, "something is logged")
        before, inode = log.read_bytes(), log.stat().st_ino
        running = run.start(
            "-t", guest.address, "tail", "--backend", "log", "virtio_blk_*", "--all", "--ndjson"
        )
        running.wrote(b"virtio_blk_req_complete")
        run("-t", str(guest.directory / "second.sock"), "qmp", "system_reset").said(0)
        running.wrote(b'"line": "EAX=')
        running.signal(signal.SIGINT)
        records = [json.loads(line) for line in running.finish(None).out.splitlines()]
        assert log.stat().st_ino == inode
        assert log.read_bytes().startswith(before)
        assert log_link(guest, (log.stat().st_dev, inode))
        assert enabled(guest, run) == []
    sums_hold(records)
    types = {record["type"] for record in records}
    assert types == {"control", "event", "text", "guest", "summary"}  # the guest's is its RESET
    assert not [record for record in records if record.get("raw")]


def test_a_daemonized_guest_logs_nowhere_before_and_after(run: Qtctl, tmp_path: Path) -> None:
    qemu = require("path")
    pid_file, socket = tmp_path / "pid", tmp_path / "qmp.sock"
    subprocess.run(
        [
            *(*qemu.command, *qemu.data_args, "-accel", "tcg", "-nodefaults", "-display", "none"),
            *("-daemonize", "-pidfile", str(pid_file)),
            *("-qmp", f"unix:{socket},server=on,wait=off"),
        ],
        check=True,
        timeout=60,
    )
    pid = int(pid_file.read_text())
    try:
        stderr = Path(f"/proc/{pid}/fd/2")
        assert str(stderr.readlink()) == "/dev/null"
        ran = run(
            "-t",
            str(socket),
            "tail",
            "--backend",
            "log",
            "qmp_*",
            "--own",
            "--duration",
            "300ms",
            "--ndjson",
            limit=None,
        )
        assert "nowhere (daemonized without -D)" in ran.said(0).err
        assert str(stderr.readlink()) == "/dev/null"
        assert run.spools() == []
        assert '"type": "event"' in ran.out  # giving back is itself traced
    finally:
        run("-t", str(socket), "qmp", "quit")
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the daemon is gone")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_the_log_of_a_libvirt_guest_goes_back(run: Qtctl) -> None:
    """Its stderr is root's pipe, which QEMU, as another user, cannot open again by itself."""
    user = ["-runas", "nobody"]
    with RealGuest(
        require("path"), image="virtio-blk", extra=user, stderr=subprocess.PIPE
    ) as guest:
        pipe = guest.process.stderr
        assert pipe is not None
        eventually(lambda: guest_by_pid(guest.pid).uid != 0, "it is another user")
        assert os.fstat(pipe.fileno()).st_uid == 0
        ran = run("-t", guest.address, "tail", ROUND[0], "--max-events", "5").said(0)
        assert "the log now goes" not in ran.err
        assert os.fstat(pipe.fileno()).st_uid == 0
        run("-t", guest.address, "enable", ROUND[0]).said(0)
        assert any(ROUND[0].encode() in line for line in pipe)
        pipe.close()


def test_a_guest_without_qmp_is_switched_by_its_human_monitor(run: Qtctl) -> None:
    """The hint has the commands, and they work."""
    human = ["-monitor", "unix:{dir}/human,server=on,wait=off"]
    with RealGuest(require("path"), qmp=False, extra=human) as guest:
        path = guest.directory / "human"
        eventually(path.exists, "it listens")
        eventually(
            lambda: "socat" in run("-t", str(guest.pid), "enable", ROUND[0]).err, "it is described"
        )
        run("-t", str(guest.pid), "enable", ROUND[0]).said(4, str(path), "trace-event NAME on")


@pytest.mark.parametrize("stderr", ["null", "pipe"])
def test_after_sigkill_the_next_verb_gives_back_and_says_so(
    qemu: Qemu, run: Qtctl, stderr: str
) -> None:
    with RealGuest(qemu, image="virtio-blk", stderr=STDERR[stderr]) as guest:
        running = run.start("-t", guest.address, "tail", "--backend", "log", "virtio_*")
        running.wrote(b"virtio_blk_req_complete")
        running.signal(signal.SIGKILL)
        assert running.finish(None).code == -signal.SIGKILL
        ran = run("-t", guest.address, "status", "--json").said(0, "gave back", "that qtctl pid")
        status = json.loads(ran.out)
        assert status["events"]["enabled"] == []
        assert status["leases"] == []
        assert status["log"]["reach"] == stderr
        eventually(lambda: run.spools() == [], "the spool is gone")
        if guest.process.stderr is not None:
            guest.process.stderr.close()


def test_two_on_one_guest_keep_what_the_other_needs(run: Qtctl) -> None:
    second = ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    null = subprocess.DEVNULL
    with RealGuest(require("path"), image="virtio-blk", extra=second, stderr=null) as guest:
        other = str(guest.directory / "second.sock")
        one = run.start("-t", guest.address, "tail", "--backend", "log", "virtio_blk_*")
        one.wrote(b"virtio_blk_req_complete")
        two = run.start(
            "-t",
            other,
            "tail",
            "--backend",
            "log",
            "virtio_blk_req_complete",
            "virtio_queue_notify",
        )
        two.said("the spool of another qtctl")
        two.wrote(b"virtio_queue_notify")
        one.signal(signal.SIGINT)
        assert one.finish(None).code == 130
        seen = len(two.out)
        eventually(lambda: len(two.out) > seen + 2000, "the other one goes on")
        assert enabled(guest, run) == ["virtio_blk_req_complete", "virtio_queue_notify"]
        two.signal(signal.SIGTERM)
        assert two.finish(None).code == 143
        assert enabled(guest, run) == []
        assert (run.leases(), run.spools()) == ([], [])


def test_what_somebody_else_switches_meanwhile_stays(run: Qtctl) -> None:
    second = ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    with RealGuest(require("path"), image="virtio-blk", extra=second) as guest:
        other = str(guest.directory / "second.sock")
        running = run.start("-t", guest.address, "tail", "--backend", "log", "virtio_blk_*")
        running.wrote(b"virtio_blk_req_complete")
        run("-t", other, "hmp", "trace-event virtio_blk_handle_read off").said(0)
        run("-t", other, "hmp", "trace-event virtio_queue_notify on").said(0)
        run("-t", other, "enable", "virtio_blk_rw_complete").said(0)
        running.signal(signal.SIGINT)
        running.finish(None)
        assert enabled(guest, run) == ["virtio_blk_rw_complete", "virtio_queue_notify"]
        run("-t", other, "restore").said(0)
        assert enabled(guest, run) == ["virtio_queue_notify"]


def test_a_guest_that_ends_ends_the_tail(run: Qtctl) -> None:
    null = subprocess.DEVNULL
    with RealGuest(require("path"), image="virtio-blk", stderr=null) as guest:
        running = run.start("-t", guest.address, "tail", "--backend", "log", "virtio_*", "--ndjson")
        running.wrote(b"virtio_blk_req_complete")
        guest.process.kill()
        ran = running.finish(None).said(5, "lost unix:", "closed the connection")
        guest.process.wait()
    assert json.loads(ran.out.splitlines()[-1])["type"] == "summary"
    assert (run.leases(), run.spools()) == ([], [])


def test_wait_ends_with_the_event_or_the_time(run: Qtctl) -> None:
    with RealGuest(require("path"), image="virtio-blk") as guest:
        target = ("-t", guest.address)
        ran = run(*target, "wait", "virtio_blk_handle_read", "--json").said(0)
        assert json.loads(ran.out)["name"] == "virtio_blk_handle_read"
        never = run(*target, "wait", "virtio_blk_*", "--where", "status == 7", "--timeout", "300ms")
        never.said(124, "did not happen", guest.address)
        assert enabled(guest, run) == []


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (
            "size == 1 and 0x60 <= addr <= 0x70",
            lambda a: a["size"] == 1 and 0x60 <= a["addr"] <= 0x70,
        ),
        ('"rtc" in name', lambda a: "rtc" in a["name"]),
        ("addr & 0xf == 0 and not value", lambda a: a["addr"] & 15 == 0 and not a["value"]),
        ('event == "memory_region_ops_write"', lambda a: True),
        ("cpu_index == -1 or addr in (0x64, 0x80)", lambda a: a["addr"] in (0x64, 0x80)),
    ],
)
def test_where_shows_what_holds(
    run: Qtctl, where: str, holds: Callable[[dict[str, Any]], bool]
) -> None:
    with RealGuest(require("path"), stderr=subprocess.DEVNULL) as guest:
        words = ("memory_region_ops_*", "--where", where, "--max-events", "30", "--duration", "5s")
        records = tail(run, guest, *words)
    events = [record for record in records if record["type"] == "event"]
    sums_hold(records)
    assert len(events) == 30 or "not value" in where
    assert all(holds(event["args"]) for event in events)


def test_the_demo_shows_named_typed_events(run: Qtctl) -> None:
    require("path")
    ran = run("demo", "--max-events", "40", "--duration", "20s", limit=None).said(0, "booted")
    rows = [row for row in ran.out.splitlines() if "virtio_blk_handle_read" in row]
    assert len(ran.out.splitlines()) == 40
    assert all(re.search(r"vdev=0x[0-9a-f]+ req=0x[0-9a-f]+ sector=0 nsectors=1$", r) for r in rows)
    assert rows


def test_the_demo_is_a_tour_in_few_lines(run: Qtctl) -> None:
    require("path")
    ran = run("demo", limit=None).said(0, "booted", "the guest is gone")
    lines = ran.out.splitlines()
    assert len(lines) + len(ran.err.splitlines()) <= 60
    steps = [line.split(":")[0] for line in lines if line.startswith("# ")]
    assert len(steps) == 7, ran.out
    for part in (
        *("\tunix:", "arguments\tvoid * vdev", "sector=", "nsectors=8", "memory_region_ops_read\t"),
        *("\n8\t", "1 put back"),
    ):
        assert part in ran.out, (part, ran.out)


async def test_the_api_lists_switches_and_iterates(own_folders: Path) -> None:
    with RealGuest(require("path"), image="virtio-blk") as guest:
        async with qtctl.attach(guest.address) as session:
            states = await session.list("virtio_blk_*")
            assert set(states.values()) == {EventState.DISABLED}
            report = await session.enable("virtio_blk_handle_read")
            assert report.changed == ("virtio_blk_handle_read",)
            await session.disable("virtio_blk_handle_read")
            async with session.switched(Selection.of("usb_*")) as switched:
                assert len(switched.changed) > 50
            assert EventState.ENABLED not in (await session.list()).values()

            async with session.follow("virtio_blk_*", where="nsectors == 1", limit=20) as stream:
                records = [record async for record in stream.records()]
            assert len(records) == 20
            assert {record.name for record in records} == {"virtio_blk_handle_read"}

            async with session.follow("virtio_blk_*", limit=100) as stream:
                sizes = [len(item) async for item in stream if isinstance(item, Batch)]
            assert sum(sizes) == 100
            assert stream.counts.read == stream.counts.shown + stream.counts.filtered
            assert EventState.ENABLED not in (await session.list()).values()
