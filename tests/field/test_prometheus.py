"""Debian's Prometheus scrapes ``qtctl metrics``, and answers from it as the guest logged."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import declared, fake, folder, make_fake
from tests.needs import program
from tests.running import Qtctl, eventually

__all__ = ["declared", "fake", "folder", "make_fake"]

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Run a Prometheus; return its address, and the port that it scrapes each half second."""
    port, scraped = free_port(), free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 500ms}\n"
        "scrape_configs: [{job_name: qtctl, static_configs: "
        f"[{{targets: ['127.0.0.1:{scraped}']}}]}}]\n"
    )
    command = [
        program("prometheus", "prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}", scraped
    finally:
        server.kill()
        server.wait()


def asked(url: str, expression: str) -> dict[str, float]:
    """Return what an expression is, by the event, or by the bound of a bucket."""
    words = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{words}", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    except OSError:  # it starts, or answers 503 until it is ready
        return {}
    return {
        one["metric"].get("event") or one["metric"].get("le", ""): float(one["value"][1])
        for one in found
    }


def test_prometheus_scrapes_a_guest(
    prometheus: tuple[str, int], tmp_path: Path, fake: FakeProcess, declared: Path, folder: Path
) -> None:
    url, port = prometheus
    pair = f"{READ},{DONE}"
    words = ("metrics", READ, "--pair", pair, "--listen", f"127.0.0.1:{port}")
    with Qtctl(tmp_path / "home") as qtctl:
        run = qtctl.start("-t", fake.address, *words, "--events-all", str(declared))
        run.said("Ctrl-C gives back")
        with (folder / "qmp.log").open("a") as log:
            for number in range(1000):
                request = f"vdev 0x1 req {number:#x}"
                log.write(
                    f"7@1700000000.{number:06}:{READ} {request} sector 1 nsectors 1\n"
                    f"7@1700000000.{number + 300:06}:{DONE} {request} status 0\n"
                )
        eventually(
            lambda: asked(url, "qtctl_records_total").get(READ) == 1000,
            "Prometheus has the records",
        )
        found = asked(url, "qtctl_latency_seconds_bucket")
        assert (found["0.000262143"], found["0.000524287"], found["+Inf"]) == (0, 1000, 1000)
        assert asked(url, "up") == {"": 1}
        run.signal(signal.SIGTERM)
        run.finish(None)
    eventually(lambda: asked(url, "up") == {"": 0}, "Prometheus notices that it ended")
