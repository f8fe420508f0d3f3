"""Which process the threads are of that the kernel's trace names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtctl.monitor.processes import status_of
from qtctl.records.columns import BoolArray


class Threads:
    """Tells the threads of process ``pid`` from others.

    Of those that have ended, the kernel may have noted the process in ``saved_tgids`` of tracefs,
    which is at ``root``.
    """

    def __init__(self, pid: int, root: Path) -> None:
        self._pid = pid
        self._tasks = Path(f"/proc/{pid}/task")
        self._saved = root / "saved_tgids"

    def own(self, tid: NDArray[np.int32]) -> tuple[BoolArray, BoolArray]:
        """Return which rows are of the process, and of which nobody knows."""
        distinct, place = _distinct(tid)
        owners = [self._owner(thread) for thread in distinct]
        if None in owners:
            saved = self._read_saved()
            pairs = zip(owners, distinct, strict=True)
            owners = [saved.get(thread) if owner is None else owner for owner, thread in pairs]
        own = np.array([owner == self._pid for owner in owners], np.bool_)
        unknown = np.array([owner is None for owner in owners], np.bool_)
        return own[place], unknown[place]

    def _owner(self, thread: int) -> int | None:
        if (self._tasks / str(thread)).exists():
            return self._pid
        process = status_of(thread).get("Tgid")
        return None if process is None else int(process)

    def _read_saved(self) -> dict[int, int]:
        """Return the process of each thread that the kernel noted."""
        try:
            lines = self._saved.read_text().splitlines()
        except OSError:
            return {}
        pairs = (line.split() for line in lines)
        return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}


def _distinct(tid: NDArray[np.int32]) -> tuple[list[int], NDArray[np.int32]]:
    """Return the threads, and which of them each row has; rows of one stand together."""
    edges = np.flatnonzero(tid[1:] != tid[:-1]) + 1
    firsts = np.concatenate(([0], edges))
    found: dict[int, int] = {}
    codes = [found.setdefault(thread, len(found)) for thread in tid[firsts].tolist()]
    sizes = np.diff(np.append(firsts, len(tid)))
    return list(found), np.repeat(np.array(codes, np.int32), sizes)
