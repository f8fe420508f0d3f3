"""Where a QEMU with the log backend writes, with its habits."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import IO

from .trace import QmpError
from .versions import Series


class LogTarget:
    """The current log: stderr, a file, or nothing after a failure."""

    def __init__(self, series: Series, *, path: Path | None = None, wanted: bool = True) -> None:
        """Open ``path`` (stderr without one) unless nothing would ever be logged."""
        self._series = series
        self._wanted = wanted
        self._name: str | None = None
        self._file: IO[bytes] | None = None
        self._stderr = False
        self._opened = False
        if path is not None:
            self.set(str(path))
        else:
            self._reopen()

    @property
    def path(self) -> Path | None:
        """The file that lines go to now."""
        return Path(self._name) if self._file is not None and self._name is not None else None

    def set(self, template: str) -> None:
        """Do what HMP ``logfile`` does."""
        if template.count("%") and not re.fullmatch(r"[^%]*%d[^%]*", template):
            raise QmpError(f"Bad logfile template: {template}")
        self._name = template.replace("%d", str(os.getpid()))
        if self._file is not None:
            self._file.close()
            self._file = None
        # 10.0 and later let go of stderr only once the new file is open.
        survivor = self._stderr and self._series.stderr_survives
        self._stderr = False
        try:
            self._reopen()
        except QmpError:
            self._stderr = survivor
            raise

    def reopen(self) -> None:
        """Do what HMP ``log ITEMS`` does besides: try again after a failure."""
        if self._file is None and not self._stderr:
            self._reopen()

    def _reopen(self) -> None:
        if not self._wanted:
            return
        if self._name is None:
            self._stderr = self._opened = True
            return
        # 7.2 only ever empties the first file, and stderr counts as one.
        empty = self._series.logfile_truncates or not self._opened
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if empty else os.O_APPEND)
        try:
            # A Path would turn the empty name, which QEMU refuses, into the current folder.
            opened = os.open(self._name, flags, 0o644)
            os.set_inheritable(opened, True)  # as fopen of QEMU opens it
            self._file = os.fdopen(opened, "wb", buffering=0)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise QmpError(f"Error opening logfile {self._name}: {reason}") from None
        finally:
            self._opened = True

    def write(self, data: bytes) -> None:
        """Write lines to wherever they go now."""
        if self._file is not None:
            self._file.write(data)
        elif self._stderr:
            sys.stderr.buffer.write(data)
            sys.stderr.buffer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
