"""Signs of the ftrace backend: the name ``trace_marker`` in the binary, and that file open.

Without tracefs, or permission, an ftrace build writes to /dev/null: it counts as one without.
"""

from __future__ import annotations

from qtctl.backends.base import Process


def in_process(process: Process) -> bool | None:
    """Return whether the kernel's trace_marker is open."""
    if process.image is not None and process.image.find(b"trace_marker") < 0:
        return False
    if process.links is None:
        return None
    return any(link.endswith("/trace_marker") for link in process.links)
