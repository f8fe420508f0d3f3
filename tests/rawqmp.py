"""A QMP client by hand: bytes in, lines out, and nothing shared with what is tested."""

from __future__ import annotations

import json
import socket
from types import TracebackType
from typing import Any, Self

_SECONDS = 60.0


class RawClient:
    """Connects and is greeted; negotiates unless told not to."""

    def __init__(self, path: str, *, negotiate: bool = True) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(_SECONDS)
        try:
            self.link.connect(path)
        except OSError:
            self.link.close()
            raise
        self._lines = self.link.makefile("rb")
        self.greeting = self.line()
        if negotiate:
            assert self.ask(execute="qmp_capabilities") == {"return": {}}

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.link.sendall(data)

    def line(self) -> Any:
        """Return the next message; None at the end."""
        line = self._lines.readline()
        return json.loads(line) if line else None

    def ask(self, **request: Any) -> Any:
        """Send a request and return the next message that is no event."""
        self.send(json.dumps(request).encode())
        while (message := self.line()) is not None and "event" in message:
            pass
        return message

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
