"""Signs of the log backend: ``trace:PATTERN`` in the answer to ``help log``, and in the binary."""

from __future__ import annotations

from qtctl.backends.base import Process

QUESTION = "help log"


def in_process(process: Process) -> bool | None:
    """Return whether the binary holds the item's name."""
    return None if process.image is None else process.image.find(b"trace:PATTERN") >= 0


def in_answer(answer: str) -> bool:
    """Return whether ``help log`` lists the item."""
    return "trace:PATTERN" in answer
