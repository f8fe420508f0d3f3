"""Following a guest through the echo backend."""

from __future__ import annotations

import os
import time

from qtctl.backends.base import Clocks, FeedRequest
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.spool.growing import GrowingFile
from qtctl.errors import Unsupported
from qtctl.model import Backend
from qtctl.records.items import Items


class EchoFeed:
    """Reads a file from its beginning; :func:`open_feed` makes it."""

    def __init__(self, path: str, decoder: LogDecoder) -> None:
        self.source = path
        self._file = GrowingFile(path, offset=0)
        self._decoder = decoder

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._file.offset

    def behind(self) -> int:
        """Return how many bytes wait to be read."""
        return self._file.behind()

    def read(self) -> Items:
        """Return the items since the last call."""
        out: Items = []
        for data in self._file.read():
            if isinstance(data, bytes):
                out += self._decoder.feed(data, Clocks(time.time_ns()))
        return out

    def keep_up(self) -> None:
        """Do nothing: the file keeps what is not read."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait until the file grows, for at most ``timeout_s``."""
        await self._file.wait(timeout_s)
        return []

    async def settle(self) -> None:
        """Do nothing: the file holds all that was emitted."""

    def settled(self) -> bool:
        """Return whether the file has been read to its end."""
        return not self.behind()

    def finish(self) -> Items:
        """Return the rest of an unfinished line."""
        return self._decoder.flush(Clocks(time.time_ns()))

    async def close(self) -> None:
        """Close the file."""
        self._file.close()


async def open_feed(request: FeedRequest) -> EchoFeed:
    """Open the file.

    Raises:
        Unsupported: ``$QTCTL_ECHO`` names no file.
    """
    path = os.environ.get("QTCTL_ECHO")
    if not path:
        raise Unsupported("the echo backend reads the file that $QTCTL_ECHO names")
    return EchoFeed(path, LogDecoder(request.table, backend=Backend("echo")))
