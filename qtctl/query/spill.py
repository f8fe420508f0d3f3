"""A private folder on disk for what does not fit into memory; what killed runs left is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

import platformdirs

__all__ = ["SpillFolder"]

_PREFIX = "qtctl-query-"
_NEW_S = 60.0


class SpillFolder:
    """A folder (mode 0700) below the cache folder, removed by :meth:`close`.

    It is locked as long as it is used, so that the next one that is made can tell it from one whose
    owner was killed. Temporary folders will not do: they often are in memory.
    """

    def __init__(self) -> None:
        base = platformdirs.user_cache_path("qtctl")
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(base)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove it with all that it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _sweep(base: Path) -> None:
    """Remove folders that nobody uses; one that was only just made may not be locked yet."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - path.stat().st_mtime > _NEW_S:
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
