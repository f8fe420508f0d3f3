"""Records as OTLP: the encoding, and a receiver on this machine at 500,000 records a second.

    python -m benchmarks.otlp [--seconds 60] [--rate 500000]

Encoding: columns with their arguments, of a log's disk requests, to the bytes of log records. Peer:
OpenTelemetry's own classes, one object a record. Limit: 60 times its rate.

Sending: batches are written at a rate, to a receiver in another process, which reads them by
OpenTelemetry's classes. Limit: what was received and what was counted as dropped is what was read.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from benchmarks.common import best, print_rates, too_slow
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.records.batch import Batch
from qtctl.writers.otlp.fields import written
from qtctl.writers.otlp.kernel import COMPILED
from qtctl.writers.otlp.records import log_records
from qtctl.writers.otlp.sender import Endpoint
from qtctl.writers.otlp.writer import GuestFacts, OtlpWriter
from tests.samples import event_table

CHUNK = 1 << 20
PART = 2 << 20
PEER = "opentelemetry-proto, an object a record"
LIMITS = {"qtctl, from columns": 60.0}
"""Minimum ratios to the peer's rate."""


def batches(requests: int) -> list[Batch]:
    """Return the batches of a log of disk requests, their arguments parsed."""
    lines = (
        f"7@1700000000.{n % 1_000_000:06}:virtio_blk_handle_read vdev 0x55d0c0ffee00 "
        f"req {0x7F0000000000 + 64 * n:#x} sector {8 * n} nsectors 8\n"
        f"7@1700000000.{n % 1_000_000:06}:virtio_blk_req_complete vdev 0x55d0c0ffee00 "
        f"req {0x7F0000000000 + 64 * n:#x} status 0\n"
        for n in range(requests)
    )
    data, decoder = "".join(lines).encode(), LogDecoder(event_table("7.2"))
    chunks = (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))
    found = [one for chunk in chunks for one in decoder.feed(chunk, Clocks(0))]
    made = [one for one in found if isinstance(one, Batch)]
    for batch in made:
        for event in batch.groups():
            batch.arguments(event)
    return made


def by_columns(batch: Batch) -> int:
    return sum(len(data.tobytes()) for data, _ in written(log_records(batch, 1), 2, PART))


def by_objects(batch: Batch) -> int:
    found = []
    for one in batch.records():
        values = [
            KeyValue(key=k, value=AnyValue(int_value=v))
            for k, v in {"thread.id": one.tid, **one.args}.items()
            if isinstance(v, int)
        ]
        body = AnyValue(string_value=one.name)
        found.append(
            LogRecord(
                time_unix_nano=one.time_ns,
                observed_time_unix_nano=1,
                body=body,
                attributes=values,
                event_name=one.name,
            )
        )
    return len(ScopeLogs(log_records=found).SerializeToString())


def rate(made: list[Batch], work: Callable[[Batch], int]) -> float:
    """Return the records per second of processor time."""
    began = time.process_time()
    for batch in made:
        work(batch)
    return sum(map(len, made)) / (time.process_time() - began)


def receive(link: Connection) -> None:
    """Count the log records of all requests; run in a process of its own."""
    received = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal received
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/logs":
                request = ExportLogsServiceRequest.FromString(body)
                received += sum(
                    len(scope.log_records) for r in request.resource_logs for scope in r.scope_logs
                )
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = link.poll()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    link.send(server.server_port)
    server.timeout = 0.1
    while not link.poll():
        server.handle_request()
    link.send(received)


@contextlib.contextmanager
def receiver() -> Iterator[tuple[int, Callable[[], int]]]:
    """Run a receiver; give its port, and a function that ends it and returns its count."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,))
    process.start()

    def count() -> int:
        ours.send(None)
        return int(ours.recv())

    try:
        yield ours.recv(), count
    finally:
        process.kill()
        process.join()


def send(made: list[Batch], per_s: float, seconds: float) -> bool:
    """Write at a rate for a while; return whether all that was written is accounted for."""
    with receiver() as (port, count):
        endpoint = Endpoint("http", "127.0.0.1", port, "")
        writer = OtlpWriter(endpoint, GuestFacts("vm1"))
        began, cpu, read, number, ticked = time.monotonic(), time.process_time(), 0, 0, 0.0
        while (now := time.monotonic() - began) < seconds:
            if read > per_s * now:
                time.sleep(0.005)
                continue
            batch = made[number % len(made)]
            writer.write(batch)
            read, number = read + len(batch), number + 1
            if now - ticked >= 1:
                writer.tick()
                ticked = now
        writer.end(30)
        used = time.process_time() - cpu
        sender = writer.sender
        dropped, received = sender.dropped.total(), count()
    print(
        f"{read / seconds / 1e6:.2f} M records/s for {seconds:.0f} s: {read:,} written, "
        f"{received:,} received, {dropped:,} dropped; {used / seconds:.2f} cores"
    )
    return read == received + dropped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=500_000.0, help="records a second")
    options = parser.parse_args()
    made = batches(100_000)
    few = made[:1]
    rows = [
        ("qtctl, from columns", best(partial(rate, made, by_columns), 2.0)),
        (PEER, best(partial(rate, few, by_objects), 1.0)),
    ]
    print(f"kernels compiled: {COMPILED}")
    print_rates(rows, "records", PEER)
    failed = COMPILED and too_slow(rows, PEER, LIMITS)
    if not send(made, options.rate, options.seconds):
        print("records are missing")
        failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
