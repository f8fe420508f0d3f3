"""The monitor socket: one client at a time, as QEMU serves them, with faults if asked for."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from . import wire
from .commands import Arguments, Command, Commands, Parameter
from .emit import Emitter
from .faults import ODD, Fault, Faults
from .machine import Machine
from .trace import QmpError

_TICK_SECONDS = 0.01
_REQUEST_MEMBERS = ("execute", "arguments", "id")


class _HangUpError(Exception):
    """Ends the connection from this side."""


class FakeQmp:
    """A monitor that behaves as a real QEMU's.

    ``address`` is what to connect to: the socket's path, or ``HOST:PORT`` with ``tcp``.
    """

    def __init__(
        self,
        *,
        qemu: str = "7.2",
        backends: Collection[str] = ("log",),
        name: str | None = "demo",
        socket_path: Path | None = None,
        tcp: bool | tuple[str, int] = False,
        log: Path | None = None,
        timestamps: bool = False,
        rate: float = 0,
        noise: bool = False,
        seed: int = 0,
        faults: Iterable[str] = (),
    ) -> None:
        self.machine = Machine(qemu=qemu, backends=backends, name=name, log=log)
        series = self.machine.series
        self.emitter = Emitter(
            series.declarations, prefix=series.prefix if timestamps else "none", seed=seed
        )
        self.commands: list[dict[str, Any]] = []
        self.connections = 0
        self.finished = asyncio.Event()
        self._faults = Faults(faults)
        self._rate = rate
        self._noise = noise
        self._socket_path = socket_path
        self._tcp = ("127.0.0.1", 0) if tcp is True else tcp
        self._own: Path | None = None
        self._listener: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writer: asyncio.StreamWriter | None = None
        self._negotiated = self._oob = False
        self._cycle = itertools.count()
        self._runner = Commands(self.machine)
        self._runner.add("x-fake-emit", Command(self._emit, (Parameter("lines", "array"),)))
        self._runner.add("x-fake-event", Command(self._event, (Parameter("event", "string"),)))
        self.machine.on_event = self.push_event

    # -- what tests look at ------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where to connect."""
        assert self._listener is not None, "the fake is not started"
        if self._tcp:
            host, port = self._listener.getsockname()[:2]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return str(self._socket_path)

    @property
    def log_path(self) -> Path | None:
        """The file that the log backend writes now, if any."""
        return self.machine.log.path

    def events_enabled(self) -> list[str]:
        """Return the names of the events that are on, sorted."""
        return sorted(event.name for event in self.machine.trace.enabled())

    def executed(self, command: str) -> list[dict[str, Any]]:
        """Return the arguments of every call of a command so far."""
        return [call.get("arguments", {}) for call in self.commands if call["execute"] == command]

    # -- what tests do to it -----------------------------------------------------------------

    def set_faults(self, *faults: str) -> None:
        """Replace the faults."""
        self._faults = Faults(faults)

    def emit_lines(self, *lines: str | bytes) -> None:
        """Write exactly these lines to the log."""
        for line in lines:
            data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogateescape")
            self.machine.log.write(data + b"\n")

    def emit_events(self, count: int) -> int:
        """Write lines for the enabled events, in turn; returns how many were written."""
        enabled = self.machine.trace.enabled()
        if not enabled or "log" not in self.machine.backends:
            return 0
        lines = []
        for _ in range(count):
            turn = next(self._cycle)
            if self._noise and turn % 5 == 4:
                lines.append(self.emitter.noise())
            lines.append(self.emitter.line(enabled[turn % len(enabled)].name))
        self.machine.log.write(b"".join(lines))
        return count

    def push_event(self, name: str, data: dict[str, Any] | None = None) -> None:
        """Send a QMP event to the client, if one has negotiated."""
        if self._writer is None or not self._negotiated:
            return
        now = time.time_ns() // 1000
        stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
        message: dict[str, Any] = {"timestamp": stamp, "event": name}
        if data is not None:
            message["data"] = data
        self._writer.write(wire.dump(message))

    # -- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen and serve."""
        self._listener = self._listen()
        self._tasks.append(asyncio.create_task(self._accept(self._listener)))
        if self._rate > 0:
            self._tasks.append(asyncio.create_task(self._emit_for_ever()))

    def _listen(self) -> socket.socket:
        if self._tcp:
            family = socket.AF_INET6 if ":" in self._tcp[0] else socket.AF_INET
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._tcp)
        else:
            if self._socket_path is None:
                self._own = Path(tempfile.mkdtemp(prefix="qtctl-fake-"))
                self._socket_path = self._own / "qmp.sock"
            self._socket_path.unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self._socket_path))
        listener.listen(1)
        listener.setblocking(False)
        return listener

    async def stop(self) -> None:
        """Hang up, stop listening and remove what was created."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._listener is not None:
            self._listener.close()
            if not self._tcp and self._socket_path is not None:
                self._socket_path.unlink(missing_ok=True)
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        self.machine.log.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _emit_for_ever(self) -> None:
        began, done = time.monotonic(), 0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            due = int((time.monotonic() - began) * self._rate)
            if self.machine.running:
                self.emit_events(due - done)
            done = due

    # -- serving -----------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket) -> None:
        """Serve clients one after the other; the next waits in the kernel's backlog."""
        loop = asyncio.get_running_loop()
        while True:
            link, _ = await loop.sock_accept(listener)
            self.connections += 1
            reader, writer = await asyncio.open_connection(sock=link)
            self._describe(link)
            self._writer = writer
            self._negotiated = self._oob = False
            try:
                await self._serve(reader, writer)
            except (_HangUpError, ConnectionError):
                pass
            finally:
                self._writer = None
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            if self.finished.is_set():
                return

    def _describe(self, link: socket.socket) -> None:
        if self._tcp:
            here, there = (":".join(map(str, end[:2])) for end in _ends(link))
            self.machine.chardev = f"tcp:{here},server=on <-> {there}"
        else:
            self.machine.chardev = f"unix:{self._socket_path},server=on"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._greet(reader, writer)
        cutter = wire.Cutter()
        while data := await reader.read(1 << 16):
            for message in cutter.feed(data):
                await self._answer(message, writer)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._faults.take("hangup-at-connect"):
            raise _HangUpError
        if self._faults.take("no-greeting"):
            while await reader.read(1 << 16):
                pass
            raise _HangUpError
        if fault := self._faults.take("late-greeting"):
            await asyncio.sleep(fault.seconds)
        greeting = wire.dump(self.machine.transcript.greeting)
        if self._faults.take("garbage-greeting"):
            greeting = b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\x1b[2J\r\n"
        elif self._faults.take("wrong-greeting"):
            greeting = b'{"hello": "world"}\r\n'
        elif fault := self._faults.take("greeting-without"):
            greeting = wire.dump(_without(self.machine.transcript.greeting, fault))
        if self._faults.take("greeting-byte-by-byte"):
            await self._dribble(writer, greeting, itertools.repeat(1))
        else:
            writer.write(greeting)
        await writer.drain()
        if self._faults.take("hangup-after-greeting"):
            raise _HangUpError

    @staticmethod
    async def _dribble(writer: asyncio.StreamWriter, data: bytes, sizes: Iterable[int]) -> None:
        at = 0
        for size in sizes:
            if at >= len(data):
                return
            writer.write(data[at : at + size])
            await writer.drain()
            # Give the reader a turn, so that it really sees pieces.
            await asyncio.sleep(0)
            at += size

    async def _answer(self, message: wire.Message, writer: asyncio.StreamWriter) -> None:
        newer = self.machine.series.json_positions
        try:
            request = wire.parse(message.text, newer=newer)
        except wire.SyntaxFaultError as fault:
            place = f"{message.place(fault.at)}: " if newer else ""
            words = f"{place}JSON parse error, {fault.words}"
            writer.write(wire.dump(_error(QmpError(words), {})))
            await writer.drain()
            return
        tag: dict[str, Any] = {}
        try:
            tag, name, arguments = self._take_apart(request)
        except QmpError as error:
            known = isinstance(request, dict) and "id" in request
            tag = {"id": request["id"]} if known and isinstance(request, dict) else {}
            writer.write(wire.dump(_error(error, tag)))
            await writer.drain()
            return
        await self._execute(name, arguments, tag, writer)

    def _take_apart(self, request: object) -> tuple[dict[str, Any], str, Arguments]:
        if not isinstance(request, dict):
            raise QmpError("QMP input must be a JSON object")
        known = (*_REQUEST_MEMBERS, "exec-oob") if self._oob else _REQUEST_MEMBERS
        for member in request:
            if member not in known:
                raise QmpError(f"QMP input member '{member}' is unexpected")
        if "exec-oob" in request:
            if "execute" in request:
                raise QmpError("QMP input member 'execute' clashes with 'exec-oob'")
            self._runner.refuse_oob(str(request["exec-oob"]))
        if "execute" not in request:
            raise QmpError("QMP input lacks member 'execute'")
        if not isinstance(request["execute"], str):
            raise QmpError("QMP input member 'execute' must be a string")
        arguments = request.get("arguments", {})
        if not isinstance(arguments, dict):
            raise QmpError("QMP input member 'arguments' must be an object")
        self.commands.append(request)
        tag = {"id": request["id"]} if "id" in request else {}
        return tag, request["execute"], arguments

    async def _execute(
        self, name: str, arguments: Arguments, tag: dict[str, Any], writer: asyncio.StreamWriter
    ) -> None:
        if self._faults.take("no-reply", name):
            return
        if self._faults.take("error-reply", name):
            error = QmpError("a fault the test asked for")
            writer.write(wire.dump(_error(error, tag)))
            await writer.drain()
            return
        before = self._negotiated
        try:
            reply: dict[str, Any] = {"return": self._run(name, arguments), **tag}
        except QmpError as error:
            reply = _error(error, tag)
        await self._reply(name, reply, writer)
        if self._negotiated and not before and (fault := self._faults.take("event-flood")):
            await self._flood(fault.count(10_000), writer)
        if name == "quit" and "return" in reply:
            self.finished.set()
            raise _HangUpError
        freeze = self._faults.take("freeze")
        if freeze and len(self.commands) >= freeze.count(1):
            await asyncio.Event().wait()

    def _run(self, name: str, arguments: Arguments) -> Any:
        if not self._negotiated:
            return self._negotiate(name, arguments)
        if name == "qmp_capabilities":
            raise QmpError(
                "Capabilities negotiation is already complete, command ignored", "CommandNotFound"
            )
        if name == "query-name":
            self._trace("qmp_enter_query_name", json.dumps(arguments))
        return self._runner.run(name, arguments)

    def _trace(self, event: str, text: str) -> None:
        """Log an event that QMP itself fires. Real QEMUs have one for each command."""
        on = any(one.name == event for one in self.machine.trace.enabled())
        if on and "log" in self.machine.backends:
            self.machine.log.write(self.emitter.raw(event, text))

    def _negotiate(self, name: str, arguments: Arguments) -> Any:
        if name != "qmp_capabilities":
            raise QmpError(
                "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
            )
        if self._faults.take("refuse-negotiation"):
            raise QmpError("a fault the test asked for")
        Command(lambda _: {}, (Parameter("enable", "array", optional=True),)).check(arguments)
        for capability in arguments.get("enable", []):
            if capability != "oob":
                raise QmpError(f"Parameter 'null' does not accept value '{capability}'")
        self._negotiated = True
        self._oob = "oob" in arguments.get("enable", [])
        return {}

    async def _flood(self, count: int, writer: asyncio.StreamWriter) -> None:
        for number in range(count):
            self.push_event("X_FAKE_FLOOD", {"number": number})
            if number % 100 == 0:
                await writer.drain()
        await writer.drain()

    async def _reply(self, name: str, reply: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        take = self._faults.take
        if take("hangup-before-reply", name):
            raise _HangUpError
        if take("applied-but-unanswered", name):
            return
        if fault := take("late-reply", name):
            await asyncio.sleep(fault.seconds)
        data = self._spoil(name, reply)
        if take("hangup-mid-reply", name):
            writer.write(data[: len(data) // 2])
            await writer.drain()
            raise _HangUpError
        if take("split-json", name):
            # A long reply in small pieces only would outlast the patience of who asks.
            small = itertools.islice(itertools.cycle(range(1, 8)), 1000)
            rest = itertools.cycle(range(1000, 8000, 777))
            await self._dribble(writer, data, itertools.chain(small, rest))
            return
        writer.write(data)
        await writer.drain()

    def _spoil(self, name: str, reply: dict[str, Any]) -> bytes:
        """Turn a reply into bytes, the wrong ones if a fault says so."""
        take = self._faults.take
        if take("wrong-id", name):
            return wire.dump({**reply, "id": "not-the-id-you-sent"})
        if take("missing-id", name):
            return wire.dump({key: value for key, value in reply.items() if key != "id"})
        if take("id-less-error", name):
            return wire.dump(_error(QmpError("a fault the test asked for"), {}))
        tag = json.dumps(reply.get("id")).encode()
        if take("deep-json", name):
            return b'{"return": %s%s, "id": %s}\r\n' % (b"[" * 100_000, b"]" * 100_000, tag)
        if take("huge-line", name):
            return b'{"return": "%s", "id": %s}\r\n' % (b"x" * 12_000_000, tag)
        if take("invalid-utf8", name):
            return b'{"return": {"name": "\xff\xfe\x80"}, "id": %s}\r\n' % tag
        if fault := take("reply-not-object", name):
            return b"42\r\n" if fault.arguments.get("KIND") == "number" else b"[1, 2]\r\n"
        if (fault := take("odd", name)) and "return" in reply:
            return wire.dump({**reply, "return": ODD[fault.arguments["SHAPE"]]})
        if take("id-list", name):
            return wire.dump({**reply, "id": [1]})
        if take("huge-number", name):
            return b'{"return": %s, "id": %s}\r\n' % (b"9" * 5000, tag)
        if take("control-characters", name):
            return wire.dump(_with_controls(reply))
        return wire.dump(reply)

    # -- commands that only the fake has -----------------------------------------------------

    def _emit(self, arguments: Arguments) -> Any:
        self.emit_lines(*map(str, arguments["lines"]))
        return {}

    def _event(self, arguments: Arguments) -> Any:
        self.push_event(arguments["event"], {"from": "x-fake-event"})
        return {}


def _ends(link: socket.socket) -> tuple[Any, Any]:
    return link.getsockname(), link.getpeername()


def _error(error: QmpError, tag: dict[str, Any]) -> dict[str, Any]:
    return {**tag, "error": {"class": error.kind, "desc": error.words}}


_CONTROLLED = ("name", "desc", "package", "filename", "label", "qom-path")
CONTROLS = "\x1b[31m\x07\x08\x9b2J\x7f\r\n"


def _without(greeting: dict[str, Any], fault: Fault) -> dict[str, Any]:
    """Return a greeting of which a member is missing."""
    name = fault.arguments["MEMBER"]
    within: Any = copy.deepcopy(greeting)
    top, within = within, within["QMP"]
    for place in {"qemu": ("version",), "major": ("version", "qemu")}.get(name, ()):
        within = within[place]
    del within[name]
    return cast("dict[str, Any]", top)


def _with_controls(value: Any, key: str = "return") -> Any:
    if isinstance(value, dict):
        return {name: _with_controls(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_controls(inner, key) for inner in value]
    if isinstance(value, str) and key in ("return", *_CONTROLLED):
        return value + CONTROLS
    return value
