"""The fake's own parts that no real QEMU can vouch for."""

from __future__ import annotations

import gzip
import json
import re
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from . import FakeProcess, FakeQmp, declarations, patterns, wire
from .emit import Emitter
from .test_faults import connect
from .transcripts import DATA

VERSIONS = ("7.2", "10.2", "11.1")


@given(st.text("ab?*[", max_size=8), st.text("ab[", max_size=10))
def test_patterns_agree_with_a_plain_translation(pattern: str, name: str) -> None:
    signs = {"*": ".*", "?": "."}
    expression = "".join(signs.get(sign, re.escape(sign)) for sign in pattern)
    assert patterns.matches(pattern, name) == bool(re.fullmatch(expression, name))


@given(st.lists(st.text('{}[]":,\\ \n1a', max_size=12)), st.integers(1, 5))
def test_the_cutter_gives_whole_objects_however_they_arrive(words: list[str], size: int) -> None:
    sent = [{"execute": word, "id": number} for number, word in enumerate(words)]
    data = b"".join(json.dumps(request).encode() for request in sent)
    cutter = wire.Cutter()
    got = []
    for at in range(0, len(data), size):
        got += [wire.parse(m.text, newer=True) for m in cutter.feed(data[at : at + size])]
    assert got == sent


@given(st.text())
@example("\x7f\\\u00e9")
def test_replies_are_ascii_and_say_the_same(text: str) -> None:
    data = wire.dump({"return": text})
    assert data.isascii()
    assert b"\x7f" not in data
    assert json.loads(data) == {"return": text}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_declaration_can_be_printed(version: str) -> None:
    declared = declarations.load(version)
    with gzip.open(DATA / f"trace-events-all-{version}.gz", "rt") as file:
        written = set(re.findall(r"(?m)^(?:[a-z]+ )*(\w+)\(", file.read()))
    assert written == set(declared)
    emitter = Emitter([version])
    for name in declared:
        line = emitter.line(name)
        assert line.startswith(name.encode() + b" ")
        assert not re.search(rb"PRI[diouxX]\d", line)
        assert b"%l" not in line


def test_the_same_seed_gives_the_same_lines() -> None:
    names = ["virtio_blk_handle_read", "memory_region_ops_read"] * 20
    runs = [[Emitter(["7.2"], seed=seed).line(name) for name in names] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


async def test_lines_and_events_on_demand(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with FakeQmp(log=log) as fake, connect(fake) as client:
        await client.negotiate()
        client.send("x-fake-emit", lines=["one", "two"])
        assert await client.message() == {"return": {}, "id": 1}
        assert log.read_text() == "one\ntwo\n"
        client.send("x-fake-event", event="DEVICE_DELETED")
        assert (await client.message())["event"] == "DEVICE_DELETED"
        assert fake.log_path == log
        assert [call["execute"] for call in fake.commands][:2] == [
            "qmp_capabilities",
            "x-fake-emit",
        ]


async def test_noise_is_mixed_in_and_nothing_is_written_when_nothing_is_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with FakeQmp(log=log, noise=True) as fake:
        assert fake.emit_events(100) == 0
        fake.machine.trace.set("virtio_blk_handle_read", enable=True)
        assert fake.emit_events(100) == 100
        lines = log.read_text().splitlines()
        assert sum(line.startswith("virtio_blk_handle_read ") for line in lines) == 100
        assert len(lines) == 120


def test_it_runs_as_a_process_over_tcp_and_ends_on_a_signal(tmp_path: Path) -> None:
    with FakeProcess("--tcp", "127.0.0.1:0", "-D", str(tmp_path / "log")) as fake:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", fake.address)
        assert fake.tell(emit=["a line"])["commands"] == []
        assert (tmp_path / "log").read_text() == "a line\n"
        fake.process.send_signal(signal.SIGTERM)
        assert fake.process.wait(60) == 0


def test_it_takes_qemus_spelling_and_removes_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "qmp.sock"
    with FakeProcess("-qmp", f"unix:{path},server=on,wait=off", "-name", "x") as fake:
        assert fake.address == str(path)
        assert path.is_socket()
    assert not path.exists()


def test_its_binary_is_not_the_python_that_runs_it(tmp_path: Path) -> None:
    with FakeProcess("--socket", str(tmp_path / "qmp.sock")) as fake:
        binary = Path(f"/proc/{fake.pid}/exe").readlink()
        assert not binary.samefile(sys.executable)
        assert [path.name for path in binary.parents[1].rglob("*")] == ["bin", "fake-qmp"]
        assert Path(f"/proc/{fake.pid}/comm").read_text() == "fake-qmp\n"
    assert not binary.parents[1].exists()


async def test_help_log_has_no_trace_item_without_the_log_backend() -> None:
    for backends in ("log", "simple"):
        async with FakeQmp(qemu="11.1", backends=[backends]) as fake, connect(fake) as client:
            await client.negotiate()
            client.send("human-monitor-command", **{"command-line": "help log"})
            assert ("trace:" in (await client.message())["return"]) == (backends == "log")


def test_it_shares_no_code_with_what_it_tests() -> None:
    for source in Path(__file__).parent.glob("*.py"):
        assert not re.search(r"^\s*(import|from) (qtctl|qemu)\b", source.read_text(), re.MULTILINE)
