"""Signs of the dtrace backend: a USDT probe of provider ``qemu`` in the binary."""

from __future__ import annotations

from qtctl.backends.base import Process
from qtctl.backends.dtrace.probes import PROVIDER, probe_notes


def in_process(process: Process) -> bool | None:
    """Return whether the notes of ``sys/sdt.h`` name the provider."""
    if process.elf is None:
        return None
    return any(parts[0] == PROVIDER for parts in probe_notes(process.elf))
