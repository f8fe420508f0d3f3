"""Detecting the echo backend: every QEMU whose binary can be read has it."""

from __future__ import annotations

from qtctl.backends.base import Process


def in_process(process: Process) -> bool | None:
    """Return whether the binary can be read."""
    return None if process.image is None else True
