"""Signs of the simple backend: the command ``trace-file`` of the human monitor."""

from __future__ import annotations

from qtctl.backends.base import Process

QUESTION = "trace-file"


def in_process(process: Process) -> bool | None:
    """Return whether the binary holds the command's name."""
    return None if process.image is None else process.image.find(b"trace-file") >= 0


def in_answer(answer: str) -> bool:
    """Return whether the monitor knows the command."""
    return "unknown command" not in answer
