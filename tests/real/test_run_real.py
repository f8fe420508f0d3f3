"""The verb run on real programs of QEMU's: from the first event to the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.qemus import boot_sector, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

MACHINE = ("-accel", "tcg", "-display", "none", "-nodefaults", "-nic", "none")
DISK = ("-drive", "if=virtio,format=raw,file=boot.img")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Qtctl]:
    monkeypatch.chdir(tmp_path)
    Path("boot.img").write_bytes(boot_sector("virtio-blk", busy=False).ljust(1 << 20, b"\0"))
    with Qtctl(tmp_path / "home") as command:
        yield command
        assert not command.spools()


def events(out: str) -> list[dict[str, object]]:
    return [one for one in map(json.loads, out.splitlines()) if one["type"] == "event"]


@pytest.mark.parametrize("label", ["path", "built"])
def test_a_guest_is_followed_from_the_realization_of_its_devices(run: Qtctl, label: str) -> None:
    qemu = require(label)
    words = ("run", "virtio_*", "memory_region_ops_read", "--where", "event != 'virtio_notify'")
    program = (*qemu.command, *qemu.data_args, *MACHINE, *DISK)
    ran = run(*words, "--max-events", "2000", "--ndjson", "--", *program, limit=None)
    ran.said(0, "has a QMP socket", "from the start of qemu-system-x86_64", "0 lost")
    found = events(ran.out)
    assert len(found) == 2000
    # It is reset before the machine runs, by QEMU's main thread, whose times are QEMU's.
    assert found[0]["name"] == "virtio_set_status"
    assert {one["clock"] for one in found} == {"realtime"}
    assert not list(Path().glob("trace-*")), "a trace file of the simple backend was left"


def test_a_guest_that_fails_to_start_has_its_records_and_its_exit_code(run: Qtctl) -> None:
    require("path")
    device = ("-device", "virtio-blk,drive=nothing")
    program = ("qemu-system-x86_64", *MACHINE, "-device", "virtio-rng-pci,id=first", *device)
    ran = run("run", "virtio_*", "object_*", "--", *program, limit=None).said(
        1, "nothing", "0 lost"
    )
    assert "object_class_dynamic_cast_assert" in ran.out


def test_another_qtctl_reaches_it_and_ctrl_c_ends_it(run: Qtctl) -> None:
    require("path")
    program = ("qemu-system-x86_64", "-name", "launched", *MACHINE, *DISK)
    running = run.start("run", "virtio_blk_handle_read", "-o", "out", "--", *program)
    eventually(lambda: Path("out").exists() and Path("out").stat().st_size, "a record")
    run("-t", "launched", "list", "virtio_blk_handle_read").said(0)
    other = run("-t", "launched", "tail", "virtio_queue_notify", "--max-events", "1", limit=None)
    assert "virtio_queue_notify" in other.said(0).out
    running.signal(signal.SIGINT)
    running.finish(None).said(130, "terminating on signal", "0 lost")
    assert "virtio_queue_notify" not in Path("out").read_text()


def test_a_killed_qtctl_leaves_the_guest_running_and_its_spool_goes_with_it(run: Qtctl) -> None:
    require("path")
    name = f"left-{os.getpid()}"
    program = ("qemu-system-x86_64", "-name", name, *MACHINE, *DISK)
    nowhere = subprocess.DEVNULL  # the guest that is left would keep a pipe open
    call = ("run", "virtio_blk_*", "-o", "out", "--", *program)
    running = run.start(*call, stdout=nowhere, stderr=nowhere)
    eventually(lambda: Path("out").exists() and Path("out").stat().st_size, "a record")
    running.signal(signal.SIGKILL)
    running.finish(None)
    guests = json.loads(run("ps", "--json").said(0).out)["guests"]
    (guest,) = [one for one in guests if one["name"] == name]
    try:
        words = Path(f"/proc/{guest['pid']}/cmdline").read_text().split("\0")
        spool = Path(words[words.index("-D") + 1])
        assert spool.with_name("qmp").exists()
        run("-t", name, "tail", "virtio_blk_*", "--max-events", "3", limit=None).said(0)
    finally:
        os.kill(guest["pid"], signal.SIGKILL)
    eventually(lambda: not spool.parent.exists(), "the spool is gone")


def test_the_simple_backend_is_read_where_it_has_the_file(run: Qtctl) -> None:
    """As of a tool that has both: no such one is built here, so a guest stands for it."""
    qemu = require("built")
    script = (
        "import sys; from qtctl.session import programs; from qtctl.model import Backend\n"
        "found = programs.find_program\n"
        "programs.find_program = lambda words: found(words)._replace(backend=Backend.SIMPLE)\n"
        "from qtctl.cli import main; sys.exit(main())"
    )
    patterns = ("virtio_*", "memory_region_ops_read")
    words = ("run", *patterns, "--max-events", "2000", "--ndjson", "--", *qemu.command)
    ran = subprocess.run(
        [sys.executable, "-c", script, *words, *qemu.data_args, *MACHINE, *DISK],
        env=run.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = events(ran.stdout)
    assert found, ran.stderr
    assert {one["backend"] for one in found} == {"simple"}
    assert found[0]["name"] == "virtio_set_status"


def image() -> None:
    needs.program("qemu-img", "qemu-utils")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M"], check=True)


@pytest.mark.parametrize(
    "words",
    [
        ("qemu-img", "info", "a.qcow2"),
        ("qemu-io", "-c", "read 0 4k", "a.qcow2"),
        ("qemu-nbd", "-k", "{dir}/nbd", "a.qcow2"),
        ("qemu-storage-daemon", "--blockdev", "file,node-name=a,filename=a.qcow2"),
    ],
    ids=lambda words: words[0],
)
def test_a_tool_is_traced_by_its_own_option(
    run: Qtctl, tmp_path: Path, words: tuple[str, ...]
) -> None:
    image()
    program = [word.format(dir=tmp_path) for word in words]
    ran = run("run", "bdrv_open_common", "--max-events", "1", "--", *program, limit=None)
    ran.said(ran.code, "has no QMP: these events stay on", "1 shown", "0 lost")
    assert "filename='a.qcow2'" in ran.out
    assert ran.code in (0, 143)


def test_an_emulator_of_user_programs_is_traced_and_its_program_keeps_its_options(
    run: Qtctl,
) -> None:
    program = (needs.program("qemu-x86_64", "qemu-user"), "/bin/echo", "-trace", "hallo")
    ran = run("run", "guest_cpu_enter", "--", *program, limit=None).said(
        0, "-trace hallo", "0 lost"
    )
    assert "guest_cpu_enter" in ran.out


def test_a_recording_and_the_code_of_a_program_that_fails(run: Qtctl) -> None:
    image()
    words = ("run", "bdrv_open*", "--record", "a.qtr", "--", "qemu-img", "info", "nothing")
    assert not run(*words, limit=None).said(1, "No such file", "1 shown").out
    assert "filename='nothing'" in run("replay", "a.qtr").said(0).out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("run", "--", "qemu-img"), 2, "needs the events"),
        (("run", "bdrv_*"), 2, "the program is missing"),
        (("run", "bdrv_*", "--", "no-such-program"), 2, "there is no program"),
        (("run", "bdrv_*", "--", "ls"), 1, "is no QEMU with the log or the simple backend"),
        (("run", "nosuch", "--", "qemu-img", "info"), 3, "no event matches"),
        (("run", "x", "--json", "--", "qemu-img"), 2, "--ndjson"),
        (("-t", "1", "run", "x", "--", "qemu-img"), 2, "starts a guest"),
        (("run", "x", "--record", "r", "--ndjson", "--", "qemu-img"), 2, "prints no records"),
        (("run", "bdrv_*", "--", "qemu-img", "-T", "x", "info"), 2, "a file to trace to"),
        (("run", "v*", "--", "qemu-system-x86_64", "-D", "x"), 2, "a file to trace to"),
        (("run", "v*", "--", "qemu-system-x86_64", "-daemonize"), 2, "into the background"),
        (("run", "bdrv_open*", "--where", "nosuch > 1", "--", "qemu-img", "info"), 2, "nosuch"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(
    run: Qtctl, words: tuple[str, ...], code: int, text: str
) -> None:
    needs.program("qemu-img", "qemu-utils")
    require("path")
    run(*words, limit=None).said(code, text)
