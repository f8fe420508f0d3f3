"""A link to the qtctl of another host, over the user's ``ssh``: ``qtctl serve`` runs there.

That one is sent JSON objects, one a line, a ping each second among them, and answers in chunks of
the format of recordings: JSON objects (NOTE), the first of which is a hello, and records. It ends
when its input ends or is silent for ``SILENT_S``, however the link was cut. ssh asks for nothing
(``BatchMode``). Checked with OpenSSH 9.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from qtctl.errors import ConnectionFailed, LinkLost, QtctlError
from qtctl.monitor.hosts import OtherHost
from qtctl.recordings.chunks import HEAD_BYTES, ChunkKind, content, find_head, read_head
from qtctl.session.clocks import Offset, offset_of
from qtctl.shapes import Malformed, any_text, member, members, parsed, shown, whole
from qtctl.text.style import shortened
from qtctl.version import VERSION

PROTOCOL = 1
"""Both ends of a link must have the same."""
PING_S = 1.0
SILENT_S = 4.0
"""After so long without a ping the qtctl on the other host gives its guest back and ends."""
_QUIET_S = 10.0
"""After so long without an answer to a ping the link is taken for lost."""
_CONNECT_S = 10
_HELLO_S = 20.0
_END_S = 8.0
"""How long the other end may take to give its guest back."""
_MOST_NOISE = 1 << 20
_READ_BYTES = 1 << 18
_OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_S}"),
    *("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3", "-o", "RemoteCommand=none"),
)
# A login shell of any kind passes this on to sh. pipx installs to ~/.local/bin, which is in no PATH
# of a shell that ssh starts.
_COMMAND = "exec sh -c 'PATH=$PATH:$HOME/.local/bin exec qtctl serve'"
_NOT_FOUND, _USAGE, _SSH_FAILED = 127, 2, 255
_BY_CODE: Mapping[int, type[QtctlError]] = {
    kind.exit_code: kind for kind in (QtctlError, ConnectionFailed, LinkLost)
}


class HostLink:
    """The qtctl on another host, inside ``async with``; ``say`` is called with lines it prints.

    ``offset`` is the other clock's, by the best ping so far.

    Raises:
        ConnectionFailed: ssh fails, or there is no such qtctl; the guest was not touched.
    """

    def __init__(self, host: OtherHost, say: Callable[[str], None] = lambda text: None) -> None:
        self.host = host
        self.version = ""
        self.offset: Offset | None = None
        self.on_beat: Callable[[dict[str, Any]], None] = lambda beat: None
        """Called with each answer to a ping."""
        self._say = say
        self._data = bytearray()
        self._printed: deque[str] = deque(maxlen=8)
        self._greeted = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        words = ["ssh", *_OPTIONS, *self.host.ssh_words, _COMMAND]
        pipe = asyncio.subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C is for this process, which then ends the other.
            self._ssh = await asyncio.create_subprocess_exec(
                *words, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except FileNotFoundError:
            raise ConnectionFailed(
                f"cannot reach {self.host.host}: there is no ssh here",
                hint="apt install openssh-client",
            ) from None
        assert self._ssh.stdin is not None
        self._to = self._ssh.stdin
        self._tasks = [asyncio.ensure_future(self._read_messages())]
        try:
            await self._greet()
        except BaseException:
            await self._close()
            raise
        self._tasks.append(asyncio.ensure_future(self._ping()))
        return self

    async def _greet(self) -> None:
        """Read on to the hello; what a login shell prints before it is skipped."""
        try:
            async with asyncio.timeout(_HELLO_S):
                while (at := find_head(bytes(self._data), 0)) < 0:
                    if len(self._data) > _MOST_NOISE or not await self._read_on():
                        raise await self._not_greeted()
                del self._data[:at]
                hello = await self._note()
        except TimeoutError:
            raise self._unreachable(f"no answer in {_HELLO_S:.0f} s") from None
        self.version = any_text(hello.get("qtctl", ""), "a version")
        if hello.get("protocol") != PROTOCOL:
            raise ConnectionFailed(
                f"{self.host.host} has qtctl {self.version}, which does not speak with the "
                f"{VERSION} here",
                hint=self._install(),
            )
        self._greeted = True
        self._printed.clear()

    async def _not_greeted(self) -> QtctlError:
        """Return the error of a link that ended before its hello."""
        code = await self._ssh.wait()
        await asyncio.wait(self._tasks, timeout=1)
        host, said = self.host.host, " / ".join(self._printed)
        if code == _NOT_FOUND:
            return ConnectionFailed(
                f"{host} has no qtctl in its PATH: {said}", hint=self._install()
            )
        if code == _USAGE:
            return ConnectionFailed(
                f"the qtctl of {host} is older than the {VERSION} here: {said}",
                hint=self._install(),
            )
        if code == _SSH_FAILED:
            return self._unreachable(said or "ssh failed, and printed nothing")
        return ConnectionFailed(
            f"{host}: qtctl could not be started, and ended with {code}: {said}",
            hint=f"{self.host.by_hand} qtctl --version",
        )

    def _unreachable(self, why: str) -> ConnectionFailed:
        return ConnectionFailed(
            f"cannot reach {self.host.destination} by ssh, which may ask nothing here: "
            f"{shortened(why)}",
            hint=f"{self.host.by_hand} true",
        )

    def _install(self) -> str:
        """Return the command that installs this version there."""
        file, host = f"qtctl-{VERSION}.tar.gz", self.host
        port = "" if host.port is None else f"-P {host.port} "
        return (
            f"scp {port}dist/{file} {host.destination}: && {host.by_hand} pipx install --force "
            f"./{file} (in a checkout; ./dev wheel makes the file)"
        )

    @property
    def other_version(self) -> str:
        """A sentence if the qtctl there is of another version; else empty."""
        if self.version == VERSION:
            return ""
        return f"{self.host.host} has qtctl {self.version}; here is {VERSION}"

    def send(self, **message: Any) -> None:
        """Send an object."""
        with contextlib.suppress(ConnectionError):  # reported where the answer is awaited
            self._to.write(json.dumps(message).encode() + b"\n")

    async def next(self) -> tuple[int, bytes]:
        """Return the kind and content of the next chunk that is no answer to a ping.

        Raises:
            LinkLost: the link ended.
            QtctlError: the other end failed, with its error.
        """
        while True:
            kind, raw = await self._chunk()
            if kind != ChunkKind.NOTE:
                return kind, raw
            note = self._read_note(raw)
            if note.get("type") == "beat":
                self._measure(note)
                self.on_beat(note)
            elif note.get("type") == "error":
                raise self.error(note)
            else:
                return kind, raw

    async def note(self, expected: str) -> dict[str, Any]:
        """Return the next object, which must be of a type; raise as :meth:`next` does."""
        return self.noted(*await self.next(), expected)

    def noted(self, kind: int, raw: bytes, expected: str) -> dict[str, Any]:
        """Return the object of a chunk, which must be of a type; raise :meth:`senseless` else."""
        note = self._read_note(raw) if kind == ChunkKind.NOTE else {}
        if note.get("type") != expected:
            raise self.senseless(f"{shown(note)} where {expected!r} was to come")
        return note

    async def _note(self) -> dict[str, Any]:
        return self._read_note((await self._chunk())[1])

    def _read_note(self, raw: bytes) -> dict[str, Any]:
        try:
            return members(parsed(raw), "an answer")
        except Malformed as malformed:
            raise self.senseless(str(malformed)) from None

    def senseless(self, what: str) -> QtctlError:
        """Return the error for an answer that no qtctl gives."""
        return QtctlError(
            f"{self.host.host} answered with {what}", hint=f"{self.host.by_hand} true"
        )

    def error(self, note: Mapping[str, Any]) -> QtctlError:
        """Return the error that the other end reported."""
        first, *more = str(note.get("message")).split("\n")
        hint = f"on {self.host.host}: {note['hint']}" if note.get("hint") else ""
        code = note.get("exit_code")
        code = code if isinstance(code, int) and 0 < code < _SSH_FAILED else QtctlError.exit_code
        error = _BY_CODE.get(code, QtctlError)(f"{self.host.host}: {first}", hint=hint, more=more)
        error.exit_code = code
        return error

    async def _chunk(self) -> tuple[int, bytes]:
        head = read_head(await self._take(HEAD_BYTES))
        if head is None:
            raise self.senseless("bytes that are no chunk")
        raw = content(head, await self._take(head.stored))
        if raw is None:
            raise self.senseless("a damaged chunk")
        return head.kind, raw

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            try:
                async with asyncio.timeout(_QUIET_S):
                    more = await self._read_on()
            except TimeoutError:
                raise self._lost(f"no answer for {_QUIET_S:.0f} s") from None
            if not more:
                raise self._lost(await self._last_words())
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken

    async def _read_on(self) -> bool:
        assert self._ssh.stdout is not None
        data = await self._ssh.stdout.read(_READ_BYTES)
        self._data += data
        return bool(data)

    async def _last_words(self) -> str:
        """Return in words how ssh ended."""
        try:
            code = await asyncio.wait_for(self._ssh.wait(), _END_S)
        except TimeoutError:
            return "its qtctl closed its output"
        await asyncio.wait(self._tasks[:1], timeout=1)
        said = f": {self._printed[-1]}" if self._printed else ""
        return f"ssh ended with {code}{said}"

    def _lost(self, why: str) -> LinkLost:
        return LinkLost(
            f"lost {self.host.host}: {why}; its qtctl gives the guest back by itself within 10 s",
            hint=f"{self.host.by_hand} qtctl status",
        )

    async def _read_messages(self) -> None:
        """Pass on what is printed there, and keep the last of it."""
        assert self._ssh.stderr is not None
        rest = b""
        while data := await self._ssh.stderr.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._heard(line)
        if rest:
            self._heard(rest)

    def _heard(self, line: bytes) -> None:
        if text := line.decode(errors="surrogateescape").rstrip():
            self._printed.append(text)
            if self._greeted:
                self._say(text)

    async def _ping(self) -> None:
        """Send a ping each second: first some at once, to know the other clock."""
        for pause in (0.0, 0.05, 0.05):
            await asyncio.sleep(pause)
            self.send(type="ping", sent_ns=time.time_ns())
        while True:
            await asyncio.sleep(PING_S)
            self.send(type="ping", sent_ns=time.time_ns())

    def _measure(self, beat: dict[str, Any]) -> None:
        """Keep the offset by an answered ping, if it is known better by it than before."""
        now_ns = time.time_ns()
        try:
            names = ("sent_ns", "received_ns", "answered_ns")
            sent, received, answered = (whole(member(beat, name), name) for name in names)
        except Malformed as malformed:
            raise self.senseless(str(malformed)) from None
        found = offset_of(sent, received, answered, now_ns)
        if self.offset is None or found.bound_ns <= self.offset.bound_ns:
            self.offset = found

    async def __aexit__(self, *_: object) -> None:
        """End the other end, which gives its guest back first."""
        await self._close()

    async def _close(self) -> None:
        for task in self._tasks[1:]:
            task.cancel()
        self._to.close()
        try:
            async with asyncio.timeout(_END_S):
                while await self._read_on():  # or the other end may wait for room
                    self._data.clear()
                await self._ssh.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._ssh.kill()
            await self._ssh.wait()
        await asyncio.wait(self._tasks[:1], timeout=1)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
