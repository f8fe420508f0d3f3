"""The settings of a stream, as one value. Quick to import."""

from __future__ import annotations

from typing import NamedTuple

from qtctl.events.selection import Selection
from qtctl.model import Budget


class Follow(NamedTuple):
    """What a stream follows and how.

    ``selection`` is switched on while the stream is entered; an empty one follows what is on and
    switches nothing. ``where`` filters records by an expression; ``limit`` ends the stream after so
    many shown records; ``text`` also yields lines that are no trace events. ``backend`` is a
    backend's name or ``auto``; ``kernel`` are patterns of kernel events to follow beside the
    guest's. Above ``guard`` events or bytes a second, the loudest events are switched
    off until the end. ``news`` also yields QMP events, marks and other consoles' switches.
    ``whole`` leaves out records from before all events were on and after the first went off.
    ``own`` does not leave out the records of this process's own requests to the guest. ``clock`` is
    that of log lines to which QEMU gives no time: ``arrival``, when they are read; ``kernel``, when
    they were written, by a trace of the kernel (as root), also in place of QEMU's own times; or
    ``auto``, by the kernel where it can be traced. The default is ``auto`` beside kernel events,
    else ``arrival``. ``guest`` is its name in records and losses.
    """

    selection: Selection = Selection(())
    where: str | None = None
    backend: str = "auto"
    text: bool = False
    limit: int | None = None
    kernel: tuple[str, ...] = ()
    guard: Budget | None = None
    news: bool = True
    whole: bool = False
    own: bool = False
    clock: str | None = None
    guest: str | None = None
