"""Signs of the ust backend: the binary needs liblttng-ust."""

from __future__ import annotations

from qtctl.backends.base import Process


def in_process(process: Process) -> bool | None:
    """Return whether the binary is linked to the library."""
    if process.elf is None:
        return None
    return any(name.startswith(b"liblttng-ust") for name in process.elf.needed())
