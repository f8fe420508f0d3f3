"""Drives qtctl on terminals: a bare pty, and a real tmux on a socket of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import needs
from tests.running import PATIENCE_SECONDS, eventually


class Pty:
    """A qtctl on a pty of its own; ``output`` is all that it drew, as it came.

    ``with Pty(("-t", where), qtctl.environment()) as prompt: prompt.until("qtctl>")``
    """

    def __init__(
        self, args: Sequence[str], env: Mapping[str, str], *, columns: int = 100, rows: int = 30
    ) -> None:
        self.output = bytearray()
        self.fd, slave = pty.openpty()
        self.resize(columns, rows)

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "qtctl", *args],
            env={"TERM": "xterm", **env},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: its last user has left
            while data := os.read(self.fd, 1 << 16):
                self.output += data

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text: str | bytes) -> None:
        """Type."""
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def until(self, text: str, since: int = 0) -> int:
        """Wait until ``text`` was drawn after the place ``since``; return the place behind it."""
        wanted = text.encode()

        def place() -> int:
            return self.output.find(wanted, since) + 1

        with contextlib.suppress(AssertionError):
            eventually(lambda: place() or self.ended, text)
        assert place(), (text, bytes(self.output[since:]))
        return place() - 1 + len(wanted)

    @property
    def text(self) -> str:
        """All that was drawn."""
        return self.output.decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def finish(self) -> int:
        """Wait for its end; return its exit code."""
        eventually(lambda: self.ended, f"an end of {self.text[-500:]!r}")
        self._reader.join()
        assert "Traceback" not in self.text, self.text
        assert "bug in qtctl" not in self.text, self.text
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.ended:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._reader.join()
        os.close(self.fd)


class Tmux:
    """A tmux server of its own, with one window."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        columns: int = 100,
        rows: int = 30,
    ) -> None:
        self._program = needs.program("tmux", "tmux")
        self._folder = tempfile.TemporaryDirectory(prefix="qtctl-tmux-")
        self.socket = str(Path(self._folder.name) / "socket")
        self._env = dict(env)
        self._start = ("-x", str(columns), "-y", str(rows), *command)

    def run(self, *words: str) -> str:
        """Run a tmux command on this server; return what it prints."""
        call = [self._program, "-u", "-S", self.socket, "-f", "/dev/null", *words]
        done = subprocess.run(call, env=self._env, capture_output=True, text=True, check=True)
        return done.stdout

    def send(self, *keys: str, pane: str = "") -> None:
        """Press keys, as ``tmux send-keys`` names them."""
        self.run("send-keys", *(("-t", pane) if pane else ()), *keys)

    def enter(self, line: str, pane: str = "") -> None:
        """Type a line and press Enter."""
        self.send("-l", line, pane=pane)
        self.send("Enter", pane=pane)

    def screen(self, pane: str = "", *more: str) -> str:
        """Return what a pane shows; ``-S -`` for its scroll-back as well."""
        return self.run("capture-pane", "-p", *(("-t", pane) if pane else ()), *more)

    def until(self, text: str, pane: str = "", seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a pane shows ``text``; return what it shows."""

        def shown() -> str:
            screen = self.screen(pane)
            return screen if text in screen else ""

        with contextlib.suppress(AssertionError):
            return str(eventually(shown, text, seconds))
        raise AssertionError(f"{text!r} was never shown:\n{self.screen(pane)}")

    def __enter__(self) -> Self:
        self.run("new-session", "-d", *self._start)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.run("kill-server")
        self._folder.cleanup()
