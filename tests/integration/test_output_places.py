"""``-o``: stdout, FIFOs, devices and descriptors work; files are never overwritten."""

from __future__ import annotations

import os
import pty
import signal
import socket
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, eventually
from tests.simplefiles import event, header, mapping

EVENT = "virtio_blk_handle_read"
LINE = f"{EVENT} vdev 0x1 req 0x2 sector 7 nsectors 8\n"
BEGIN = header() + mapping(0, "few")
SHOWN = "few a=5 s='x'\n"
STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
PLACES = (*STDOUT, "/dev/null", "fifo", "descriptor")


@pytest.fixture
def trace(tmp_path: Path) -> tuple[str, ...]:
    """Return a trace of one record, and the option that names its declarations."""
    (tmp_path / "trace").write_bytes(BEGIN + event(0, 1, 5, b"x"))
    (tmp_path / "all").write_text('few(int8_t a, const char *s) "%d %s"\n')
    return (str(tmp_path / "trace"), "--events-all", str(tmp_path / "all"))


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def not_touched(qtctl: Qtctl, fake: FakeProcess) -> None:
    told = fake.tell()
    assert not told["enabled"]
    assert "trace-event-set-state" not in told["commands"]
    assert not qtctl.leases()


@pytest.mark.parametrize("place", STDOUT)
def test_stdout_by_any_name(qtctl: Qtctl, trace: tuple[str, ...], place: str) -> None:
    assert qtctl("replay", *trace, "--time", "none", "-o", place).said(0).out == SHOWN
    plain = qtctl("export", "--to", "csv", *trace, "few").said(0).out
    assert qtctl("export", "--to", "csv", *trace, "few", "-o", place).said(0).out == plain
    ran = qtctl("export", "--to", "perfetto", *trace, "-o", place).said(0)
    assert b"few" in ran.raw
    assert qtctl("export", "--to", "perfetto", *trace, "-o", "/dev/null").said(0).out == ""


@pytest.mark.parametrize("place", STDOUT)
def test_stdout_that_is_a_file_is_appended_to(
    qtctl: Qtctl, trace: tuple[str, ...], tmp_path: Path, place: str
) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        file.write("before\n")
        file.flush()
        qtctl("replay", *trace, "--time", "none", "-o", place, stdout=file).said(0)
    assert out.read_text() == f"before\n{SHOWN}"


def test_a_descriptor_that_the_shell_opened(qtctl: Qtctl, trace: tuple[str, ...]) -> None:
    read, write = os.pipe()
    words = ("replay", *trace, "--time", "none", "-o")
    qtctl(*words, f"/dev/fd/{write}", pass_fds=[write]).said(0)
    os.close(write)
    assert os.read(read, 1000).decode() == SHOWN
    qtctl(*words, f"/dev/fd/{read}", pass_fds=[read]).said(2, "open for reading only")
    os.close(read)
    qtctl(*words, "/dev/fd/77").said(2, "cannot write to /dev/fd/77", "Bad file descriptor")
    ran = qtctl(*words, "/dev/stderr").said(0, SHOWN)
    assert ran.out == ""


def test_a_device_that_is_full_is_reported_and_stays(qtctl: Qtctl, trace: tuple[str, ...]) -> None:
    for words in (("replay",), ("export", "--to", "csv"), ("export", "--to", "perfetto")):
        qtctl(*words, *trace, "-o", "/dev/full").said(1, "No space left on device")
    assert Path("/dev/full").is_char_device()


def test_a_terminal_is_refused(qtctl: Qtctl, trace: tuple[str, ...]) -> None:
    leader, follower = pty.openpty()
    try:
        qtctl("replay", *trace, "-o", os.ttyname(follower)).said(2, "is a terminal", "without -o")
        ran = qtctl("export", "--to", "perfetto", *trace, "-o", "-", stdout=follower)
        ran.said(2, "no text for a terminal")
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize("form", ["parquet", "ctf"])
@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/null", "fifo"])
def test_a_folder_format_takes_no_stream(
    qtctl: Qtctl, trace: tuple[str, ...], fifo: Path, form: str, place: str
) -> None:
    place = place.replace("fifo", str(fifo))
    qtctl("export", "--to", form, *trace, "-o", place, cwd=fifo.parent).said(2, "takes a folder")
    assert not (fifo.parent / "-").exists()


def test_a_fifo_gets_the_records_and_its_end(
    qtctl: Qtctl, trace: tuple[str, ...], fifo: Path
) -> None:
    run = qtctl.start("replay", *trace, "--time", "none", "-o", str(fifo))
    run.said("waiting for one; Ctrl-C ends")
    assert fifo.read_text() == SHOWN
    run.finish().said(0)
    assert fifo.is_fifo()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_reader(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, fifo: Path, number: signal.Signals
) -> None:
    known = ("--events-all", str(declared))
    run = qtctl.start("-t", fake.address, "tail", EVENT, "-o", str(fifo), *known)
    run.said("waiting for one")
    run.signal(number)
    run.finish().said(128 + number)
    not_touched(qtctl, fake)
    assert fifo.is_fifo()


def test_a_tail_into_a_fifo_switches_nothing_before_there_is_a_reader(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path, fifo: Path
) -> None:
    known = ("--events-all", str(declared), "--time", "none", "--max-events", "1")
    run = qtctl.start("-t", fake.address, "tail", EVENT, "-o", str(fifo), *known)
    run.said("waiting for one")
    not_touched(qtctl, fake)
    with fifo.open("rb", buffering=0) as reader:
        run.said("Ctrl-C gives back")
        with (folder / "qmp.log").open("a") as log:
            log.write(LINE)
        assert EVENT.encode() in reader.read(1000)
        run.finish().said(0, "1 shown")
        assert reader.read(1000) == b""


def test_a_reader_of_a_fifo_that_leaves_ends_a_tail(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, fifo: Path
) -> None:
    known = ("--events-all", str(declared))
    run = qtctl.start("-t", fake.address, "tail", EVENT, "-o", str(fifo), *known)
    run.said("waiting for one")
    with fifo.open("rb", buffering=0):
        run.said("Ctrl-C gives back")
    run.finish().said(0)
    assert not fake.tell()["enabled"]


@pytest.mark.parametrize(
    "words",
    [("record", EVENT), ("on", EVENT, "--ring", "1MiB", "do", "dump")],
    ids=["record", "on"],
)
@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/stderr", "fifo"])
def test_a_recording_takes_no_stream(
    qtctl: Qtctl, fake: FakeProcess, fifo: Path, words: tuple[str, ...], place: str
) -> None:
    place = place.replace("fifo", str(fifo))
    ran = qtctl("-t", fake.address, words[0], "-o", place, *words[1:], cwd=fifo.parent)
    ran.said(2, "a recording is read from its end", "-o FILE")
    assert not (fifo.parent / "-").exists()
    not_touched(qtctl, fake)


def test_a_recording_into_dev_null(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, declared: Path
) -> None:
    known = ("--events-all", str(declared), "--max-events", "1")
    for ring in ((), ("--ring", "1MiB")):
        words = ("-t", fake.address, "record", EVENT, "-o", os.devnull, *known, *ring)
        run = qtctl.start(*words)
        run.said("Ctrl-C gives back")
        with (folder / "qmp.log").open("a") as log:
            log.write(LINE)
        assert run.finish().said(0).out.startswith("/dev/null\t1\t")
    assert Path(os.devnull).is_char_device()
    assert not Path("/dev/null.1").exists()


def test_what_fails_leaves_no_file(
    qtctl: Qtctl, fake: FakeProcess, trace: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    to = ("-o", str(out))
    qtctl("-t", str(tmp_path / "nobody"), "tail", EVENT, *to).said(4)
    qtctl("-t", fake.address, "tail", "nothing_of_this", *to).said(3)
    qtctl("-t", fake.address, "tail", EVENT, "--where", "nope ==", *to).said(2)
    qtctl("-t", fake.address, "tail", EVENT, "--backend", "nosuch", *to).said(2)
    qtctl("-t", fake.address, "record", EVENT, "--backend", "nosuch", *to).said(2)
    qtctl("replay", str(tmp_path / "missing"), *to).said(2)
    qtctl("replay", *trace, "--where", "nope == 1", *to).said(2)
    qtctl("export", "--to", "csv", *trace, "nothing_of_this", *to).said(3)
    qtctl("export", "--to", "perfetto", *trace, "--pair", "a:b", *to).said(2)
    assert not out.exists()
    not_touched(qtctl, fake)


def test_what_is_there_is_refused_before_anything_else(
    qtctl: Qtctl, fake: FakeProcess, trace: tuple[str, ...], tmp_path: Path
) -> None:
    there, name = tmp_path / "it's there", tmp_path / "socket"
    there.write_text("kept")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(name))
        for words in (
            ("-t", fake.address, "tail", EVENT),
            ("-t", fake.address, "record", EVENT),
            ("replay", *trace),
            ("export", "--to", "csv", *trace),
            ("export", "--to", "perfetto", *trace),
            ("export", "--to", "ctf", *trace),
        ):
            hint = f"mv '{tmp_path}/it'\"'\"'s there' '{tmp_path}/it'\"'\"'s there.old'"
            qtctl(*words, "-o", str(there)).said(2, "overwrites no file", hint)
            qtctl(*words, "-o", str(name)).said(2, "overwrites no file")
            qtctl(*words, "-o", str(there / "x")).said(2, "Not a directory")
            qtctl(*words, "-o", str(tmp_path / "no" / "x")).said(2, "No such file")
    assert there.read_text() == "kept"
    not_touched(qtctl, fake)


def test_a_stalled_reader_of_binary_data_does_not_hold_up_the_end(
    qtctl: Qtctl, tmp_path: Path, trace: tuple[str, ...], fifo: Path
) -> None:
    (tmp_path / "trace").write_bytes(BEGIN + event(0, 1, 5, b"x") * 100_000)
    run = qtctl.start("export", "--to", "perfetto", *trace, "-o", str(fifo))
    with fifo.open("rb", buffering=0) as reader:
        first = reader.read(1)
        assert first
        run.signal(signal.SIGINT)
        eventually(lambda: run.ended, "it ends")
    run.finish(None).said(130)
