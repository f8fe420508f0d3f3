"""``qtctl forward`` and ``export --to otlp``, read by OpenTelemetry's own classes."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.otlp import PROTOBUF, Receiver, attributes, receiving, rejecting
from tests.running import Qtctl, Running, eventually
from tests.samples import capture
from tests.simplefiles import plainly

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"
PAIR = ("--pair", f"{READ},{DONE}")
BUSY = (503, b"later", {"Retry-After": "0"})
Start = Callable[..., Running]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def start(qtctl: Qtctl, fake: FakeProcess, declared: Path, receiver: Receiver) -> Start:
    """Start ``forward`` to the receiver and wait until it follows."""

    def start(*words: str, **options: Any) -> Running:
        known = ("--otlp", receiver.url, "--events-all", str(declared), "--json")
        run = qtctl.start("-t", fake.address, "forward", *words, *known, **options)
        run.said("Ctrl-C gives back")
        return run

    return start


def log(folder: Path, first: int, end: int, name: str = "qmp.log") -> None:
    """Append reads and their ends, a read of 300 microseconds for each number."""
    with (folder / name).open("a") as file:
        for number in range(first, end):
            request, second = f"vdev 0x1 req {number:#x}", 1_700_000_000 + number // 1000
            micro = number % 1000 * 500
            file.write(
                f"7@{second}.{micro:06}:{READ} {request} sector {number} nsectors 1\n"
                f"7@{second}.{micro + 300:06}:{DONE} {request} status 0\n"
            )


def ended(run: Running) -> dict[str, Any]:
    """Stop it, and return its document."""
    run.signal(signal.SIGINT)
    document: dict[str, Any] = json.loads(run.finish(None).said(130).out)
    return document


def test_records_spans_and_figures(start: Start, receiver: Receiver, folder: Path) -> None:
    run = start(READ, *PAIR)
    log(folder, 0, 50)
    eventually(lambda: len(receiver.logs()) >= 100, "all records are received")
    told = ended(run)
    assert (told["read"], told["sent"], told["dropped"]) == (100, 100, {})
    logs = receiver.logs()
    reads = [one for _, one in logs if one.event_name == READ]
    assert [attributes(one.attributes)["sector"] for one in reads] == list(range(50))
    assert reads[1].time_unix_nano == 1_700_000_000_000_500_000
    resource, first = logs[0]
    assert resource["service.name"] == "qemu"
    assert resource["service.version"] == "7.2.22"
    assert resource["host.name"] == socket.gethostname()
    assert attributes(first.attributes)["thread.id"] == 7
    spans = [one for _, one in receiver.spans()]
    assert {one.end_time_unix_nano - one.start_time_unix_nano for one in spans} == {300_000}
    assert [attributes(one.attributes)["req"] for one in spans] == list(range(50))
    metrics = receiver.metrics()
    records = {
        attributes(p.attributes)["event"]: p.as_int
        for p in metrics["qtctl.records"].sum.data_points
    }
    assert records == {READ: 50, DONE: 50}
    [point] = metrics["qtctl.latency"].histogram.data_points
    assert (point.count, sum(point.bucket_counts)) == (50, 50)
    assert point.sum == pytest.approx(0.015)
    assert metrics["qtctl.lost"].sum.data_points[0].as_int == 0


def test_a_receiver_that_is_busy_is_asked_again(
    start: Start, receiver: Receiver, folder: Path
) -> None:
    run = start(READ, DONE)
    receiver.answers += [BUSY, (429, b"", {"Retry-After": "0"}), BUSY]
    log(folder, 0, 10)
    run.said("it answers 503")
    eventually(lambda: len(receiver.logs()) >= 20, "all records are received")
    assert ended(run)["dropped"] == {}


@pytest.mark.parametrize(
    ("answer", "says", "dropped"),
    [
        ((400, b"no such \x1b[1m field", {}), "it answers 400 Bad Request: no such", 20),
        ((200, b"<html>hello</html>", {"Content-Type": "text/html"}), "no OTLP", 20),
        (rejecting(3, "too old"), "rejected: too old", 3),
    ],
)
def test_what_a_receiver_does_not_take_is_counted(
    start: Start, receiver: Receiver, folder: Path, answer: Any, says: str, dropped: int
) -> None:
    receiver.usual = answer
    run = start(READ, DONE, "--strict")
    log(folder, 0, 10)
    run.said(says)
    run.signal(signal.SIGINT)
    ran = run.finish(None).said(6, says, f"{dropped} dropped")
    assert "\x1b" not in ran.err


def test_a_full_receiver_delays_no_end_and_all_is_counted(
    start: Start, receiver: Receiver, folder: Path
) -> None:
    run = start(READ, DONE)
    receiver.holding.clear()
    log(folder, 0, 200)
    threading.Timer(1.5, run.signal, [signal.SIGINT]).start()
    ran = run.finish(None)
    told = json.loads(ran.said(130, "dropped").out)
    assert told["read"] == told["sent"] + sum(told["dropped"].values()) == 400
    assert ran.seconds < 10


def test_headers_and_compression(start: Start, receiver: Receiver, folder: Path) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,tenant=a",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    run = start(READ, env=env)
    log(folder, 0, 5)
    eventually(receiver.logs, "records are received")
    ended(run)
    headers = {name.lower(): value for name, value in receiver.headers[-1].items()}
    assert (headers["authorization"], headers["tenant"]) == ("Bearer x", "a")


@pytest.mark.parametrize(
    ("endpoint", "code", "says"),
    [
        ("http://no-such-host.invalid:4318", 4, "no receiver of OTLP at http://no-such-host"),
        ("http://127.0.0.1:1", 4, "refused"),
        ("ftp://127.0.0.1", 2, "no endpoint"),
        ("", 2, "no endpoint"),
    ],
)
def test_where_nobody_is(
    qtctl: Qtctl, fake: FakeProcess, endpoint: str, code: int, says: str
) -> None:
    qtctl("-t", fake.address, "forward", READ, "--otlp", endpoint).said(code, says)
    qtctl("-t", fake.address, "forward", READ).said(2, "a place to send to")
    assert fake.tell()["enabled"] == []


def test_what_speaks_no_http(qtctl: Qtctl, fake: FakeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                link, _ = server.accept()
                with link:
                    link.recv(1 << 16)
                    link.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        qtctl("-t", fake.address, "forward", READ, "--otlp", url).said(4, "does not speak HTTP")
    assert fake.tell()["enabled"] == []


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace"
    path.write_bytes(capture("qemu-7.2-simple-v4.bin"))
    return str(path)


def test_a_file_is_exported(qtctl: Qtctl, receiver: Receiver, trace: str, declared: Path) -> None:
    words = ("export", "--to", "otlp", receiver.url, trace, "--events-all", str(declared))
    receiver.answers += [(200, b"", PROTOBUF), BUSY]
    qtctl(*words, *PAIR, limit=None).said(0, "0 lost", "806 pairs made no span")
    rows = Counter(row[0] for row in plainly(capture("qemu-7.2-simple-v4.bin")))
    assert Counter(one.event_name for _, one in receiver.logs()) == rows
    times = [row[1] for row in plainly(capture("qemu-7.2-simple-v4.bin"))]
    assert receiver.spans() == []
    assert receiver.metrics()["qtctl.latency"].histogram.data_points[0].count == 806
    boots = [attributes(one.attributes)["qtctl.since_boot_ns"] for _, one in receiver.logs()]
    assert boots == times
    receiver.usual = (413, b"", {})
    qtctl(*words, limit=None).said(1, "did not take", "413")
    qtctl(*words[:4]).said(2, "needs an ENDPOINT and a FILE")
    qtctl(*words, "-o", "x").said(2, "ENDPOINT before FILE")


def test_the_pairs_of_a_file_are_spans(
    qtctl: Qtctl, receiver: Receiver, tmp_path: Path, declared: Path
) -> None:
    log(tmp_path, 0, 30, "vm1.log")
    words = ("export", "--to", "otlp", receiver.url, str(tmp_path / "vm1.log"), *PAIR)
    qtctl(*words, "--events-all", str(declared), limit=None).said(0, "60 shown")
    assert len(receiver.spans()) == 30
    assert len(receiver.logs()) == 60


def test_without_the_library(qtctl: Qtctl, fake: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").write_text("raise ImportError('not here')")
    path = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    words = ("-t", fake.address, "forward", READ, "--otlp", "http://127.0.0.1:4318")
    qtctl(*words, env=path, limit=None).said(1, "pip install 'qtctl[otlp]'")
