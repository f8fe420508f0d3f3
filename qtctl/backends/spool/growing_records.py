"""Source: a file of binary records that another process appends to. Knows no format.

As ``GrowingFile``, but the bytes do not show where a record begins: only the decoder can count
records, so nothing is skipped here except holes.
"""

from __future__ import annotations

import os

from qtctl.backends.spool.growing import GrowingFile, Skipped
from qtctl.backends.spool.spool import MIB

HEAD_BYTES = MIB
"""Bytes of a spool's begin that are kept: they hold the names of the events."""


class GrowingRecords(GrowingFile):
    """Reads what is appended to a file of records from ``offset`` on (default: its present end)."""

    _head = HEAD_BYTES
    _always_seeks = True

    def head(self) -> bytes:
        """Return the file's first bytes, at most 1 MiB."""
        return os.pread(self._fd, HEAD_BYTES, 0)

    def keep_up(self) -> None:
        """Do nothing: only the decoder can count records."""

    def _skip(self, size: int, allowed: int) -> list[bytes | Skipped]:
        if size == self.offset:
            return []
        try:
            data_at = os.lseek(self._fd, self.offset, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            data_at = size
        if data_at <= self.offset:
            return []
        self.offset = data_at
        return [Skipped(None)]
