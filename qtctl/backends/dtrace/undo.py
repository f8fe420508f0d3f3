"""Removing the uprobes and the tracefs instance that a feed made."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from qtctl.backends.dtrace import keeper
from qtctl.backends.ring.reader import RingReader
from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

NEEDS = (frozenset({"instance", "group"}),)
_END_S = 0.3
"""How long the end of a lease waits for the keeper, which goes on by itself."""
_POLL_S = 0.01


class Keeper:
    """The process that removes what is in tracefs, whatever becomes of this one."""

    def __init__(self, instance: Path, group: str) -> None:
        self.instance = instance
        self.reader: RingReader | None = None
        """What is closed first: nothing can be removed while it is open."""
        command = [sys.executable, "-I", "-S", keeper.__file__, str(instance), group]
        read, self._pipe = os.pipe()
        try:
            # It goes into the background by itself.
            subprocess.run(
                command, stdin=read, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                check=True, cwd="/",
            )  # fmt: skip
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(read)
        _keepers[str(instance)] = self

    def end(self) -> None:
        """Stop recording, and have all removed; returns before it is."""
        if _keepers.pop(str(self.instance), None) is None:
            return
        if self.reader is not None:
            self.reader.close()
        keeper.write(f"{self.instance}/tracing_on", "0")
        os.close(self._pipe)


_keepers: dict[str, Keeper] = {}


async def end(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """Remove the probes and the instance; return what could not be removed, else ''."""
    return await asyncio.to_thread(_end, resource)


def discard(resource: Resource) -> None:
    """Do the same for a guest that has ended."""
    _end(resource)


def _end(resource: Resource) -> str:
    instance, group = resource.facts["instance"], resource.facts["group"]
    own = _keepers.get(instance)
    if own is None:
        why = keeper.remove(instance, group)
        return f"uprobes of qtctl stay ({why})" if why else ""
    own.end()
    deadline = time.monotonic() + _END_S
    while Path(instance).exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return ""
