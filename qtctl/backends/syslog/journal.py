"""Source: the systemd journal, read through libsystemd (sd-journal(3), checked on systemd 252).

``journalctl --follow`` waits for notifications, which journald sends every 250 ms at most. The
journal's files are mapped memory, and polling them costs microseconds: so they are polled.
Messages are returned as text, a line a message, as ``journalctl -o short-unix`` prints it.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import re
import time
from collections.abc import Callable

from qtctl.errors import Unsupported

DROPPED_ID = "a596d6fe7bfa4994828e72309e95d61e"
"""SD_MESSAGE_JOURNAL_DROPPED (sd-messages.h): journald's report of suppressed messages."""
ROWS = 4096
_LOOK_S = 0.05
_LOCAL_ONLY = 1
_PROCESS_S = 1.0
_LIKE_MESSAGE = re.compile(rb"\n(?=[<\dA-Z])")
"""A line that may look like a message is escaped as rsyslog does, and so marked by the decoder."""
_STORAGE = "run qtctl as root or in group systemd-journal; journald.conf: Storage="

_Text = ctypes.c_char_p
_Size = ctypes.c_size_t
_Handle = ctypes.c_void_p
_FORMS = {
    "sd_journal_open": (ctypes.POINTER(_Handle), ctypes.c_int),
    "sd_journal_open_namespace": (ctypes.POINTER(_Handle), _Text, ctypes.c_int),
    "sd_journal_add_match": (_Handle, _Text, _Size),
    "sd_journal_add_disjunction": (_Handle,),
    "sd_journal_set_data_threshold": (_Handle, _Size),
    "sd_journal_seek_realtime_usec": (_Handle, ctypes.c_uint64),
    "sd_journal_next": (_Handle,),
    "sd_journal_process": (_Handle,),
    "sd_journal_get_fd": (_Handle,),
    "sd_journal_get_data": (_Handle, _Text, ctypes.POINTER(_Handle), ctypes.POINTER(_Size)),
    "sd_journal_get_realtime_usec": (_Handle, ctypes.POINTER(ctypes.c_uint64)),
}


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libsystemd.so.0")
        for name, arguments in _FORMS.items():
            getattr(library, name).argtypes = arguments
        library.sd_journal_close.argtypes = (_Handle,)
        library.sd_journal_close.restype = None
    except (OSError, AttributeError) as error:
        raise Unsupported(
            f"the journal cannot be read: {error}", hint="install libsystemd (245 or later)"
        ) from error
    return library


class JournalReader:
    """Messages of process ``pid`` and of this one, and journald's reports of suppressed ones.

    Starts with messages of the last moment; :meth:`await_mark` skips them. Not to be used by
    two threads at once.

    Raises:
        Unsupported: there is no libsystemd, or the journal cannot be opened.
    """

    def __init__(self, pid: int, namespace: str = "") -> None:
        self._library = _library()
        self._handle = _Handle()
        self._have = False
        self._processed = time.monotonic()
        self._data, self._size = ctypes.c_void_p(), _Size()
        self._dry = False
        place = ctypes.byref(self._handle)
        if namespace:
            opened = self._library.sd_journal_open_namespace(place, namespace.encode(), _LOCAL_ONLY)
        else:
            opened = self._library.sd_journal_open(place, _LOCAL_ONLY)
        self._check(opened)
        self._check(self._library.sd_journal_set_data_threshold(self._handle, 0))
        for match in (f"_PID={pid}", f"_PID={os.getpid()}", f"MESSAGE_ID={DROPPED_ID}"):
            text = match.encode()
            self._check(self._library.sd_journal_add_match(self._handle, text, len(text)))
            self._check(self._library.sd_journal_add_disjunction(self._handle))
        # Asked for once, it keeps the list of files up to date (sd_journal_process).
        self._library.sd_journal_get_fd(self._handle)
        now_us = time.time_ns() // 1000
        self._check(self._library.sd_journal_seek_realtime_usec(self._handle, now_us))

    def _check(self, answer: int) -> None:
        if answer < 0:
            self.close()
            raise Unsupported(f"the journal cannot be read: {os.strerror(-answer)}", hint=_STORAGE)

    def await_mark(self, send: Callable[[], str], timeout_s: float) -> None:
        """Wait until a message of ours is in the journal, so that none is missed from then on.

        Raises:
            Unsupported: it does not come.
        """
        mark = send().encode()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if any(mark in lines for lines in self.read()):
                return
            time.sleep(0.01)
        self.close()
        raise Unsupported("journald took a message and does not show it", hint=_STORAGE)

    def pending(self) -> bool:
        """Return whether there is a message to read. Takes microseconds."""
        if not self._have:
            if time.monotonic() - self._processed > _PROCESS_S:  # files that are new or gone
                self._processed = time.monotonic()
                self._library.sd_journal_process(self._handle)
            self._have = self._library.sd_journal_next(self._handle) > 0
        return self._have

    def __str__(self) -> str:
        return "the journal"

    def behind(self) -> int:
        """Return 0: how many bytes wait is not known."""
        return 0

    def more(self) -> bool:
        """Return whether the last :meth:`read` left messages."""
        return not self._dry

    def next(self) -> None:
        """Return None: there is no other source to go on with."""

    async def wait(self, timeout_s: float) -> None:
        """Poll for a message, since journald is slow to notify, for at most ``timeout_s``."""
        end = time.monotonic() + timeout_s
        while not self.pending() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def read(self) -> list[bytes]:
        """Return new messages, a line each, a few thousand at most."""
        lines: list[bytes] = []
        self._dry = False
        while len(lines) < ROWS:
            if not self.pending():
                self._dry = True
                break
            self._have = False
            line = self._line()
            if line:
                lines.append(line)
        return [b"".join(lines)] if lines else []

    def _line(self) -> bytes:
        # Of a message that journald trimmed, it keeps the datagram, too.
        raw = self._field(b"SYSLOG_RAW").partition(b"]: ")[2]
        message = raw or self._field(b"MESSAGE")
        moment = self._field(b"_SOURCE_REALTIME_TIMESTAMP").decode("ascii", "replace")
        if not moment.isdigit():
            number = ctypes.c_uint64()
            self._library.sd_journal_get_realtime_usec(self._handle, ctypes.byref(number))
            moment = str(number.value)
        program = self._field(b"SYSLOG_IDENTIFIER") or self._field(b"_COMM") or b"-"
        program = program.translate(None, b"[]:\n") or b"-"
        text = _LIKE_MESSAGE.sub(b"#012", message)
        head = f"{moment[:-6] or '0'}.{moment[-6:]:0>6} - ".encode()
        return b"%s%s[%s]: %s\n" % (head, program, self._field(b"_PID"), text)

    def _field(self, name: bytes) -> bytes:
        found = self._library.sd_journal_get_data(
            self._handle, name, ctypes.byref(self._data), ctypes.byref(self._size)
        )
        if found < 0 or not self._data.value:
            return b""
        return ctypes.string_at(self._data.value, self._size.value)[len(name) + 1 :]

    def close(self) -> None:
        """Close the journal."""
        if self._handle:
            self._library.sd_journal_close(self._handle)
            self._handle = _Handle()
