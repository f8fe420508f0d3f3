"""Standard input as FILE: text as it comes, everything else as a whole, Ctrl-C at any time."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Qtctl, Running, eventually
from tests.samples import declarations_text

SIMPLE = Path(__file__).parents[1] / "data/qemu-7.2-simple-v4.bin.gz"
DONE = "virtio_blk_req_complete vdev 0x55aa10002000 req 0x55aa10030000 status"
LOG = "".join(f"7@1700000000.00000{n}:{DONE} {n}\n" for n in range(3)).encode()


@pytest.fixture
def declared(tmp_path: Path) -> str:
    path = tmp_path / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    return f"--events-all={path}"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "-", "--ndjson"),
        ("export", "--to", "ndjson", "-"),
        ("count", "--from", "-", "--json"),
        ("query", "SELECT * FROM virtio_blk_req_complete", "-", "--json"),
        ("query", "SELECT time_ns FROM events", "/dev/stdin", "--json"),
        ("latency", "virtio_blk_req_complete", "virtio_blk_req_complete", "--from", "-", "--json"),
    ],
)
@pytest.mark.parametrize("how", ["pipe", "file"])
def test_stdin_is_a_file(
    qtctl: Qtctl, tmp_path: Path, declared: str, words: tuple[str, ...], how: str
) -> None:
    path = tmp_path / "saved.log"
    path.write_bytes(LOG)
    named = qtctl(*(str(path) if word in ("-", "/dev/stdin") else word for word in words), declared)
    if how == "file":
        with path.open() as file:
            piped = qtctl(*words, declared, stdin=file)
    else:
        reader, writer = os.pipe()
        os.write(writer, LOG)
        os.close(writer)
        piped = qtctl(*words, declared, stdin=reader)
        os.close(reader)
    assert piped.code == named.code == 0, piped
    assert piped.out == named.out.replace(str(path), words[2] if words[0] == "query" else "")


def test_a_binary_trace_comes_through_a_pipe(
    qtctl: Qtctl, tmp_path: Path, declared: str, pipe: tuple[int, int]
) -> None:
    path = tmp_path / "trace"
    path.write_bytes(gzip.decompress(SIMPLE.read_bytes()))
    started = qtctl.start("count", "--from", "-", "--json", declared, stdin=pipe[0])
    with os.fdopen(os.dup(pipe[1]), "wb") as file:
        file.write(path.read_bytes())
    os.close(pipe[1])
    piped = started.finish(None)
    named = qtctl("count", "--from", str(path), "--json", declared)
    assert json.loads(piped.out) == json.loads(named.out)


def test_records_come_as_they_arrive(qtctl: Qtctl, declared: str, pipe: tuple[int, int]) -> None:
    """The first record comes late, a line is cut by a write, and the pipe never ends."""
    started: Running = qtctl.start("replay", "-", "--ndjson", declared, stdin=pipe[0])
    os.write(pipe[1], b"SeaBIOS (version 1.16)\n" * 10)
    lines = LOG.splitlines(keepends=True)
    os.write(pipe[1], lines[0])
    started.wrote(b'"status": 0')
    os.write(pipe[1], lines[1][:40])
    os.write(pipe[1], lines[1][40:])
    started.wrote(b'"status": 1')
    started.signal(signal.SIGINT)
    ended = started.finish()
    assert ended.code == 130
    summary = json.loads(ended.out.splitlines()[-1])
    assert [summary[name] for name in ("read", "shown", "filtered")] == [12, 2, 10]


@pytest.mark.parametrize(
    "words", [("replay", "-"), ("count", "--from", "-"), ("query", "FROM events", "-")]
)
def test_ctrl_c_before_the_first_byte(
    qtctl: Qtctl, declared: str, pipe: tuple[int, int], words: tuple[str, ...]
) -> None:
    started = qtctl.start(*words, declared, stdin=pipe[0])
    threads = Path(f"/proc/{started.pid}/task")
    eventually(lambda: len([*threads.iterdir()]) > 1, "a thread waits for the pipe")
    started.signal(signal.SIGINT)
    assert started.finish().code in (1, 130)


def test_a_pipe_of_the_shell(qtctl: Qtctl, declared: str, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], LOG)
    os.close(pipe[1])
    name = f"/dev/fd/{pipe[0]}"
    assert qtctl("replay", name, declared, pass_fds=[pipe[0]]).out.count("status=") == 3


def test_what_is_no_file_and_no_pipe(qtctl: Qtctl, declared: str) -> None:
    qtctl("replay", "-", declared).said(2, "stdin is neither a file nor a pipe", "qtctl replay -")
    packed = qtctl("replay", str(SIMPLE), declared)
    packed.said(1, "packed with gzip", f"gzip -dc {SIMPLE} | qtctl replay -")


def test_python_reads_stdin_twice(declared: str) -> None:
    code = "import qtctl; t = qtctl.open('-', events_all=%r); print(len([*t.records()]))"
    path = declared.partition("=")[2]
    found = subprocess.run(
        [sys.executable, "-c", code % path], input=LOG, capture_output=True, check=True
    )
    assert found.stdout == b"3\n"
