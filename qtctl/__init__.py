"""Switch QEMU's trace events on a running guest and read their records.

    async with qtctl.attach("unix:/run/vm.sock") as guest:
        async with guest.follow("virtio_blk_*", where="nsectors > 8") as stream:
            async for record in stream.records():
                print(record.name, record.args)

    qtctl.open("disk.qtr").pandas("virtio_blk_handle_read")

Everything public is here; ``docs/api.md`` has a runnable example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtctl.errors import (
    ConnectionFailed,
    DataLost,
    LeaseError,
    LinkLost,
    MonitorBusy,
    NothingMatched,
    OutcomeUnknown,
    QtctlError,
    Refused,
    TimedOut,
    Unsupported,
    UsageError,
)
from qtctl.model import (
    Address,
    Argument,
    Backend,
    Budget,
    Clock,
    Control,
    Declaration,
    EventState,
    Flood,
    Guest,
    GuestEvent,
    Holder,
    Mark,
)
from qtctl.version import VERSION as __version__  # noqa: N811

if TYPE_CHECKING:
    from qtctl.events.selection import Selection
    from qtctl.events.states import SwitchReport
    from qtctl.monitor.guests import running_guests
    from qtctl.records.arrow import arrow_tables
    from qtctl.records.batch import Batch
    from qtctl.records.columns import Record
    from qtctl.records.counts import Counts
    from qtctl.records.items import Loss
    from qtctl.records.origins import Origin
    from qtctl.session.attach import attach
    from qtctl.session.session import Session
    from qtctl.session.stream import Stream
    from qtctl.session.trace import Trace, open

_LAZY = {
    "arrow_tables": "qtctl.records.arrow",
    "Batch": "qtctl.records.batch",
    "Counts": "qtctl.records.counts",
    "Loss": "qtctl.records.items",
    "Origin": "qtctl.records.origins",
    "Record": "qtctl.records.columns",
    "Selection": "qtctl.events.selection",
    "Session": "qtctl.session.session",
    "Stream": "qtctl.session.stream",
    "SwitchReport": "qtctl.events.states",
    "Trace": "qtctl.session.trace",
    "attach": "qtctl.session.attach",
    "open": "qtctl.session.trace",
    "running_guests": "qtctl.monitor.guests",
}

__all__ = [
    "Address",
    "Argument",
    "Backend",
    "Batch",
    "Budget",
    "Clock",
    "ConnectionFailed",
    "Control",
    "Counts",
    "DataLost",
    "Declaration",
    "EventState",
    "Flood",
    "Guest",
    "GuestEvent",
    "Holder",
    "LeaseError",
    "LinkLost",
    "Loss",
    "Mark",
    "MonitorBusy",
    "NothingMatched",
    "Origin",
    "OutcomeUnknown",
    "QtctlError",
    "Record",
    "Refused",
    "Selection",
    "Session",
    "Stream",
    "SwitchReport",
    "TimedOut",
    "Trace",
    "Unsupported",
    "UsageError",
    "__version__",
    "arrow_tables",
    "attach",
    "open",
    "running_guests",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: `qtctl enable` must not load NumPy.
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'qtctl' has no attribute {name!r}")
