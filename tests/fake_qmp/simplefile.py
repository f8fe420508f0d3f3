"""The simple backend's file, as HMP ``trace-file`` steers it."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

_HEADER = struct.pack("=QQQ", 2**64 - 1, 0xF2B177CB0AA429B4, 4)


class SimpleFile:
    """Name and state of the trace file; holds the header and the event names, no records."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start off, under the name QEMU makes up."""
        self._names = names
        self._default = f"trace-{os.getpid()}"
        self.path = self._default
        self.on = False

    def status(self) -> str:
        """Return what ``trace-file`` without arguments prints."""
        return f'Trace file "{self.path}" {"on" if self.on else "off"}.\r\n'

    def enable(self) -> None:
        """Empty the file and go on; a bad path is not reported, it just stays off."""
        if self.on:
            return
        mappings = (
            struct.pack("=QQI", 0, index, len(name)) + name.encode()
            for index, name in enumerate(self._names)
        )
        try:
            Path(self.path).write_bytes(_HEADER + b"".join(mappings))
        except OSError:
            return
        self.on = True

    def disable(self) -> None:
        """Go off."""
        self.on = False

    def set(self, path: str) -> None:
        """Change the name, opening the new file if the old one was open."""
        was_on = self.on
        self.on = False
        self.path = path
        if was_on:
            self.enable()
