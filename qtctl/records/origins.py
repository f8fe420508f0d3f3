"""Where records come from: a file may hold those of several guests, processes and runs."""

from __future__ import annotations

from typing import NamedTuple


class Origin(NamedTuple):
    """What is known of where a record comes from; None: unknown.

    ``pid`` is the process id. ``guest`` is the name by which the lines of a file call the guest, or
    else its pod or container; ``host`` the machine that a system log names; ``run`` the number of
    the guest's run in a file that has several, from 1; ``thread`` the thread's name; ``file`` the
    file, where several are read at once.
    """

    pid: int | None = None
    guest: str | None = None
    host: str | None = None
    run: int | None = None
    thread: str | None = None
    file: str | None = None

    @property
    def process(self) -> Origin:
        """The process; records of two processes are never paired."""
        return self._replace(thread=None)

    @property
    def words(self) -> str:
        """The process in words; empty if nothing is known of it."""
        parts = [
            self.guest if self.guest and self.guest != str(self.pid) else "",
            "" if self.pid is None else f"pid {self.pid}",
            f"on {self.host}" if self.host else "",
            "" if self.run is None else f"run {self.run}",
            f"in {self.file}" if self.file else "",
        ]
        return " ".join(filter(None, parts))


UNKNOWN = Origin()
