"""Signs of the syslog backend: the format of an event that all QEMUs have, as syslog(3) takes it.

``backend/syslog.py`` of tracetool passes ``EVENT FORMAT`` to syslog(3). The log and ftrace backends
end that text with a newline, and the others have no such text. An import of ``openlog`` proves
nothing: other parts of a program may write to syslog, and a static QEMU imports nothing.
"""

from __future__ import annotations

from qtctl.backends.base import Process

_EVENT = b"object_class_dynamic_cast_assert "


def in_process(process: Process) -> bool | None:
    """Return whether the binary holds such a format."""
    image = process.image
    if image is None:
        return None
    at = image.find(_EVENT)
    while at >= 0:
        end = image.find(b"\0", at)
        if image.find(b"\n", at, end) < 0 <= end:
            return True
        at = image.find(_EVENT, at + 1)
    return False
