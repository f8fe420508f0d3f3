"""A private folder on disk for DuckDB to spill into; folders of killed runs are removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from qtctl.folders import cache_folder

_PREFIX = "qtctl-query-"
_NEW_S = 60.0


class SpillFolder:
    """A folder (mode 0700) below the user's cache folder; :meth:`close` removes it.

    It is locked while in use: the constructor removes unlocked ones, whose owners were killed. It
    is not below /tmp, which often is in memory.
    """

    def __init__(self) -> None:
        base = cache_folder()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder and its contents."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(base: Path) -> None:
    """Remove unlocked folders, but not a new one: its owner may be about to lock it."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - path.stat().st_mtime > _NEW_S:
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
