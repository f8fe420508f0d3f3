"""A receiver of OTLP over HTTP that reads what it gets by OpenTelemetry's own classes."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

Answer = tuple[int, bytes, Mapping[str, str]]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
TAKEN: Answer = (200, b"", PROTOBUF)
_REQUESTS: dict[str, Any] = {
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


def rejecting(count: int, why: str) -> Answer:
    """Return an answer that rejects some records of a request."""
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = count
    answer.partial_success.error_message = why
    return 200, answer.SerializeToString(), PROTOBUF


def plain(value: AnyValue) -> Any:
    """Return a value of OTLP as Python has it."""
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)


def attributes(pairs: Any) -> dict[str, Any]:
    """Return attributes as a dict; a key that stands twice is a fault."""
    found = [(one.key, plain(one.value)) for one in pairs]
    assert len(dict(found)) == len(found), found
    return dict(found)


@dataclass
class Receiver:
    """What was received; ``answers`` are given to the next requests, then all are taken.

    ``holding`` keeps every request waiting until it is set.
    """

    answers: list[Answer] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    holding: threading.Event = field(default_factory=threading.Event)
    usual: Answer = TAKEN
    url: str = ""

    def __post_init__(self) -> None:
        self.holding.set()

    def _all(self, name: str, scope: str, items: str) -> Iterator[tuple[dict[str, Any], Any]]:
        for request in self.requests:
            for one in getattr(request, name, ()):
                for inside in getattr(one, scope):
                    assert inside.scope.name == "qtctl"
                    for item in getattr(inside, items):
                        yield attributes(one.resource.attributes), item

    def logs(self) -> list[tuple[dict[str, Any], Any]]:
        """Return the resource and log record of each that was received."""
        return list(self._all("resource_logs", "scope_logs", "log_records"))

    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Return the resource and span of each that was received."""
        return list(self._all("resource_spans", "scope_spans", "spans"))

    def metrics(self) -> dict[str, Any]:
        """Return the newest of each metric."""
        return {m.name: m for _, m in self._all("resource_metrics", "scope_metrics", "metrics")}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.holding.wait()
            empty = not body
            status, text, headers = TAKEN if empty else receiver.usual
            if receiver.answers:
                status, text, headers = receiver.answers.pop(0)
            if status == 200:
                receiver.headers.append(dict(self.headers))
                receiver.requests.append(_REQUESTS[self.path].FromString(body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.holding.set()
        server.shutdown()
        server.server_close()
        thread.join()
