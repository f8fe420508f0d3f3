"""Signs of the simple backend: ``trace-file`` of the human monitor, and its text in the binary."""

from __future__ import annotations

from qtctl.backends.base import Process

QUESTION = "trace-file"


def in_process(process: Process) -> bool | None:
    """Return whether the binary holds what the command prints (``trace/simple.c``)."""
    return None if process.image is None else process.image.find(b'Trace file "') >= 0


def in_answer(answer: str) -> bool:
    """Return whether the monitor knows the command."""
    return "unknown command" not in answer
