"""``qtctl metrics`` on a fake guest, read as Prometheus reads it."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running, eventually

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"
PAIR = ("--pair", f"{READ},{DONE}")
Start = Callable[..., tuple[Running, str]]
Samples = dict[tuple[str, ...], float]


@pytest.fixture
def start(qtctl: Qtctl, fake: FakeProcess, declared: Path) -> Start:
    """Start ``metrics`` on a free port and wait until it follows; also return its address."""

    def start(*words: str) -> tuple[Running, str]:
        known = ("--events-all", str(declared), "--listen", "127.0.0.1:0")
        run = qtctl.start("-t", fake.address, "metrics", *words, *known)
        run.said("Ctrl-C gives back")
        return run, run.err.decode().partition("metrics at ")[2].split()[0]

    return start


def scraped(url: str) -> Samples:
    """Return the samples by name and labels (in the order of their names) but the guest."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (
            one.name,
            *(text for name, text in sorted(one.labels.items()) if name != "guest"),
        ): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def reading(sector: int, req: int = 2) -> str:
    return f"{READ} vdev 0x1 req {req:#x} sector {sector} nsectors 8\n"


def until(url: str, key: tuple[str, ...], value: float) -> Samples:
    found: Samples = {}

    def there() -> bool:
        found.update(scraped(url))
        return found.get(key) == value

    eventually(there, f"{key} is {value} in {found}")
    return found


def log(folder: Path, text: str) -> None:
    with (folder / "qmp.log").open("a") as file:
        file.write(text)


def test_records_bytes_and_latencies(start: Start, folder: Path) -> None:
    run, url = start(READ, *PAIR)
    done = f"{DONE} vdev 0x1 req {{:#x}} status 0\n"
    lines = [reading(n, n) + done.format(n) for n in range(1, 6)]
    log(folder, "".join(lines) + reading(9, 99))
    found = until(url, ("qtctl_records_total", READ), 6)
    assert found["qtctl_records_total", DONE] == 5
    size = sum(map(len, [*(reading(n, n) for n in range(1, 6)), reading(9, 99)]))
    assert size - 6 <= found["qtctl_record_bytes_total", READ] <= size
    assert found["qtctl_lost_records_total",] == found["qtctl_unknown_losses_total",] == 0
    assert found["qtctl_in_flight", DONE, READ] == 1
    # The fake's lines have no times, so their latencies are in no figure, and counted.
    assert found["qtctl_latency_seconds_count", DONE, READ] == 0
    assert found["qtctl_latency_left_out_total", DONE, "arrived", READ] == 5
    buckets = [key for key in found if key[0] == "qtctl_latency_seconds_bucket"]
    assert len(buckets) == 28
    run.signal(signal.SIGINT)
    ran = run.finish().said(130, "11 read")
    assert ran.out == ""


def test_values_become_labels_up_to_a_limit(start: Start, folder: Path) -> None:
    run, url = start(READ, "--by", "sector", "--limit", "2", "--where", "nsectors == 8", "--json")
    log(folder, "".join(map(reading, (7, 7, 8, 9, 10, 11, 11))) + reading(7).replace(" 8", " 1"))
    found = until(url, ("qtctl_records_total", READ, "(others)"), 4)
    counts = [found["qtctl_records_total", READ, value] for value in "78"]
    assert counts == [2, 1]
    run.signal(signal.SIGINT)
    document: dict[str, Any] = json.loads(run.finish().said(130).out)
    assert (document["type"], document["shown"], document["filtered"]) == ("metrics", 7, 1)
    assert document["url"] == url


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((READ, "--by", "req"), 2, "req is a pointer"),
        ((READ, "--by", "guest"), 2, "labels already"),
        ((READ, "--by", "sectr"), 2, "sector"),
        (("no_such_event",), 3, "no event matches"),
        ((*PAIR, "--where", "sector > 1"), 2, "a --pair has two"),
        (("--pair", f"{READ},no_such"), 3, "no_such"),
        ((READ, "--listen", "9464"), 2, "not HOST:PORT"),
        ((READ, "--listen", "::1:9464"), 2, "say [::1]:9464"),
        ((READ, "--listen", "no-such-host.invalid:9464"), 1, "cannot listen on no-such-host"),
    ],
)
def test_what_cannot_be_right(
    qtctl: Qtctl, fake: FakeProcess, declared: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    known = ("--events-all", str(declared))
    qtctl("-t", fake.address, "metrics", *words, *known).said(code, says)
    assert fake.tell()["enabled"] == []


def test_a_port_in_use(qtctl: Qtctl, fake: FakeProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("metrics", READ, "--listen", f"127.0.0.1:{port}")
        qtctl("-t", fake.address, *words).said(1, "in use", f"--listen 127.0.0.1:{port + 1}")


def test_without_the_library(qtctl: Qtctl, fake: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')")
    path = {"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    ran = qtctl("-t", fake.address, "metrics", READ, env=path, limit=None)
    ran.said(1, "pip install 'qtctl[prometheus]'")
