"""Posts requests to a receiver of OTLP over HTTP, from a thread of its own, in order.

Source: the OTLP specification 1.10, "OTLP/HTTP": which answers are tried again, and that a request
may be accepted in part. ``$OTEL_EXPORTER_OTLP_HEADERS`` and ``$OTEL_EXPORTER_OTLP_COMPRESSION`` are
those of every exporter of OpenTelemetry.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import re
import socket
import threading
import time
from collections import Counter, deque
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from qtctl.errors import ConnectionFailed, UsageError
from qtctl.version import VERSION

QUEUED_BYTES = 64 << 20
_TIMEOUT_S = 10.0
_GRACE_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
PATIENCE_S = 30.0
"""How long one request is tried."""
_BUSY = (429, 502, 503, 504)
_KEPT = 200
"""Bytes of an answer that are read, at most, to quote them; and of one that is parsed, more."""
_ANSWER_BYTES = 1 << 16
_DEFAULT_PORT = 4318

NO_ROOM = "no room: the receiver is too slow"


class OtlpRequest(NamedTuple):
    """A request: ``signal`` is logs, traces or metrics; ``records`` are counted if it fails."""

    signal: str
    body: bytes
    records: int


class Endpoint(NamedTuple):
    """Where a receiver is: signals are posted to ``path/v1/SIGNAL``."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``http://HOST:4318`` and the like; a path that ends in ``/v1/logs`` is cut.

        Raises:
            UsageError: it is no such URL.
        """
        scheme, rest = "http", text
        # A path's double slash may have become one.
        if found := re.fullmatch(r"(\w+):/{1,2}(?!/)(.*)", text, re.DOTALL):
            scheme, rest = found[1].lower(), found[2]
        try:
            parts = urlsplit(f"//{rest}")
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise UsageError(
                f"{text!r} is no endpoint of OTLP over HTTP",
                hint=f"http://127.0.0.1:{_DEFAULT_PORT}",
            )
        path = re.sub(r"(/v1/(logs|traces|metrics))?/*$", "", parts.path)
        return cls(scheme, parts.hostname, port or _DEFAULT_PORT, path)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is opened with the first request."""
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=_TIMEOUT_S)


class _NotTaken(Exception):
    """The receiver will never take this request."""


class _Busy(Exception):
    """The receiver may take the request later: after ``pause_s``, if it said so."""

    def __init__(self, why: str, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Sender:
    """Sends requests; ``sent`` records were taken, those in ``dropped``, by the reason, not.

    At most ``QUEUED_BYTES`` wait. ``waits``: :meth:`put` waits for room; else what comes then is
    dropped. ``problem`` is the newest reason why the receiver did not take something.
    """

    def __init__(self, endpoint: Endpoint, *, waits: bool, limit: int = QUEUED_BYTES) -> None:
        self.endpoint = endpoint
        self.sent = 0
        self.dropped: Counter[str] = Counter()
        self.problem = ""
        self._waits = waits
        self._limit = limit
        self._queue: deque[OtlpRequest] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._ending = False
        self._deadline_s = float("inf")
        self._link = endpoint.connection()
        self._headers = _headers()
        self._packed = os.environ.get("OTEL_EXPORTER_OTLP_COMPRESSION") == "gzip"
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)

    def check(self) -> None:
        """Ask the receiver with an empty request whether it is one, and start sending.

        Raises:
            ConnectionFailed: nobody answers, or something that is no receiver of OTLP.
        """
        try:
            self._post(OtlpRequest("logs", b"", 0))
        except _Busy as busy:
            if isinstance(busy.__cause__, Exception):
                raise self._failed(str(busy)) from busy
            self.problem = str(busy)
        except _NotTaken as error:
            raise self._failed(str(error)) from error
        self._thread.start()

    def _failed(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(
            f"no receiver of OTLP at {self.endpoint}: {why}",
            hint="the receiver's address for OTLP over HTTP, mostly with the port 4318",
        )

    def put(self, request: OtlpRequest) -> None:
        """Queue a request; see ``waits``."""
        with self._changed:
            while self._waits and self._is_full(request) and not self._ending:
                self._changed.wait()
            if self._is_full(request):
                self.dropped[NO_ROOM] += request.records
                self.problem = NO_ROOM
                return
            self._queue.append(request)
            self._held += len(request.body)
            self._changed.notify_all()

    def _is_full(self, request: OtlpRequest) -> bool:
        return bool(self._held) and self._held + len(request.body) > self._limit

    def end_in(self, seconds: float) -> None:
        """Send what is queued for at most so long; nobody waits for room any more."""
        with self._changed:
            self._ending = True
            self._deadline_s = min(self._deadline_s, time.monotonic() + seconds)
            self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Send what is queued, for at most ``seconds``; what is left then is dropped."""
        self.end_in(seconds)
        if self._thread.is_alive():
            self._thread.join(seconds + _GRACE_S)
            with contextlib.suppress(AttributeError, OSError):  # it waits for an answer
                self._link.sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(_GRACE_S)
        with self._changed:
            for request in self._queue:
                self.dropped["the end: no time was left"] += request.records
            self._queue.clear()
        self._link.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._ending:
                    self._changed.wait()
                if not self._queue or time.monotonic() > self._deadline_s:
                    return
                request = self._queue.popleft()
            why = self._deliver(request)
            with self._changed:
                self._held -= len(request.body)
                if why:
                    self.problem = why
                    self.dropped[why] += request.records
                self._changed.notify_all()

    def _deliver(self, request: OtlpRequest) -> str:
        """Send a request, again and again while the receiver is busy; return why it failed."""
        began, pause = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                rejected, why = self._post(request)
            except _NotTaken as error:
                return str(error)
            except _Busy as busy:
                wait = pause * random.uniform(0.8, 1.2) if busy.pause_s is None else busy.pause_s
                over = min(began + PATIENCE_S, self._deadline_s)
                if time.monotonic() + wait > over:
                    return str(busy)
                self.problem = str(busy)
                self._pause(wait)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            with self._changed:
                lost = min(rejected, request.records)
                self.sent += request.records - lost
                if rejected:
                    self.dropped[why] += lost
                    self.problem = why
            return ""

    def _pause(self, seconds: float) -> None:
        """Wait; if the end is asked for meanwhile, only until then."""
        if self._ending:
            time.sleep(seconds)
            return
        with self._changed:
            self._changed.wait_for(lambda: self._ending, seconds)

    def _post(self, request: OtlpRequest) -> tuple[int, str]:
        """Post a request; return how many records were rejected, and why."""
        body = gzip.compress(request.body, 1) if self._packed else request.body
        path = f"{self.endpoint.path}/v1/{request.signal}"
        try:
            self._link.request("POST", path, body, self._headers)
            answer = self._link.getresponse()
            status, text = answer.status, answer.read(_ANSWER_BYTES)
            kind, later = answer.headers.get_content_type(), answer.headers.get("Retry-After", "")
            if not answer.isclosed():
                self._link.close()
        except (OSError, http.client.HTTPException) as error:
            self._link.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if isinstance(error, http.client.HTTPException):
                why = f"it does not speak HTTP: {why}"
            raise _Busy(why) from error
        if status in _BUSY:
            raise _Busy(
                f"it answers {status} {answer.reason}",
                min(float(later), PATIENCE_S) if later.isdigit() else None,
            )
        if status != 200:
            shown = text[:_KEPT].decode("utf-8", "backslashreplace")
            raise _NotTaken(f"it answers {status} {answer.reason}" + f": {shown}" * bool(shown))
        return _rejected(kind, text)


def _rejected(kind: str, text: bytes) -> tuple[int, str]:
    """Return how many records an answer of 200 rejects, and why.

    The three signals' answers have the same form. One that is no OTLP confirms nothing.
    """
    try:
        if kind == "application/json":
            part = json.loads(text or b"{}").get("partialSuccess") or {}
            count = int(part.get("rejectedLogRecords", part.get("rejectedSpans", 0)))
            return count, f"rejected: {part.get('errorMessage', '')}"
        answer = ExportLogsServiceResponse.FromString(text)
        if text and kind not in ("application/x-protobuf", "application/octet-stream"):
            raise ValueError(kind)
        found = answer.partial_success
        return found.rejected_log_records, f"rejected: {found.error_message}"
    except Exception as error:
        shown = text[:_KEPT].decode("utf-8", "backslashreplace")
        raise _NotTaken(f"its answer is no OTLP: {shown}") from error


def _headers() -> dict[str, str]:
    headers = {
        "Content-Type": "application/x-protobuf",
        "User-Agent": f"qtctl/{VERSION}",
    }
    if os.environ.get("OTEL_EXPORTER_OTLP_COMPRESSION") == "gzip":
        headers["Content-Encoding"] = "gzip"
    for pair in os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "").split(","):
        name, equals, value = pair.partition("=")
        if equals:
            headers[unquote(name).strip()] = unquote(value).strip()
    return headers
