"""One row for each trace backend: how it is described and chosen, and its parts.

Source: ``docs/devel/tracing.rst`` of QEMU, checked on 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from qtctl.errors import Unsupported, UsageError
from qtctl.model import Backend

if TYPE_CHECKING:
    from qtctl.backends.base import (
        ArgumentsPart,
        Feed,
        FeedPart,
        FeedRequest,
        SignsPart,
        UndoPart,
    )
    from qtctl.backends.saved import SavedPart
    from qtctl.leases.journal import Resource
    from qtctl.model import Guest
    from qtctl.monitor.client import Monitor


class BackendRow(NamedTuple):
    """A backend. Its parts are modules in the folder of its name: see ``base``.

    ``cost`` ranks what it costs the guest, cheapest first, as measured by ``benchmarks/cost.py``.
    ``followed``: qtctl can follow it. ``follows_qmp``: QEMU's event states decide what it gets.
    ``instead`` is a command to use where qtctl cannot follow, ``missing`` a hint for a QEMU without
    it. ``resource`` is the kind of what its feed leases (where that is several at once, they have
    a suffix behind a dash), ``arguments`` how recordings call its
    forms of arguments. ``whole_seconds``: its times may lack a fraction. ``late_s``: how much later
    than its time a record can be read, at most, while qtctl keeps up.
    """

    name: Backend
    summary: str
    cost: int
    followed: bool = True
    follows_qmp: bool = True
    instead: str = ""
    missing: str = ""
    resource: str = ""
    arguments: str = ""
    whole_seconds: bool = False
    late_s: float = 0.05

    @property
    def signs(self) -> SignsPart | None:
        """How a QEMU with it is detected; None for a backend that leaves no signs."""
        return cast("SignsPart | None", self._part("signs"))

    @property
    def saved(self) -> SavedPart | None:
        """How its files are read; None if they are read by another backend's part."""
        return cast("SavedPart | None", self._part("saved"))

    @property
    def undo(self) -> UndoPart:
        """How its resource is ended."""
        return cast("UndoPart", self._part("undo"))

    @property
    def argument_reader(self) -> ArgumentsPart:
        """How recorded arguments of its form are read."""
        return cast("ArgumentsPart", self._part("arguments"))

    async def open_feed(self, request: FeedRequest) -> Feed:
        """Begin to follow a guest.

        Raises:
            Unsupported: it cannot be followed through this backend; it is as it was.
        """
        part = cast("FeedPart", self._part("feed"))
        return await part.open_feed(request)

    def _part(self, name: str) -> Any:
        place = f"{__package__}.{self.name}.{name}"
        if not self.followed or importlib.util.find_spec(place) is None:
            return None
        return importlib.import_module(place)


# In the order in which a guest's backends are listed.
TABLE: dict[Backend, BackendRow] = {
    row.name: row
    for row in (
        BackendRow(Backend.LOG, "lines in QEMU's log", cost=3, resource="log"),
        BackendRow(
            Backend.SIMPLE,
            "a binary file",
            cost=2,
            resource="simple",
            arguments="simple",
            late_s=1.0,
        ),
        BackendRow(
            Backend.FTRACE,
            "the kernel's trace buffer",
            cost=4,
            missing="if it was built with ftrace: start it as root, with tracefs mounted",
            resource="tracefs",
            arguments="kernel",
            late_s=0.001,
        ),
        BackendRow(Backend.SYSLOG, "the system log", cost=6, whole_seconds=True, late_s=1.5),
        BackendRow(
            Backend.UST,
            "LTTng-UST tracepoints",
            cost=1,
            follows_qmp=False,
            instead="lttng enable-event -u 'qemu:PATTERN'",
            resource="lttng",
            arguments="ctf fields",
            late_s=1.0,
        ),
        BackendRow(
            Backend.DTRACE,
            "USDT probes",
            cost=5,
            follows_qmp=False,
            instead="qemu-trace-stap, with SystemTap",
            resource="uprobes",
            arguments="uprobe bpf",
            late_s=0.001,
        ),
        BackendRow(
            Backend.NOP,
            "no tracing at all",
            cost=7,
            followed=False,
            instead="a QEMU configured with --enable-trace-backends=log",
        ),
    )
}


def by_cost() -> list[BackendRow]:
    """Return all rows, the cheapest for the guest first."""
    return sorted(TABLE.values(), key=lambda row: row.cost)


def candidates(
    known: Collection[Backend], asked: str, where: str, *, named: bool = True
) -> list[Backend]:
    """Return the backends to try, best first. ``asked`` is a backend's name or ``auto``.

    ``auto`` means those that this QEMU has, the cheapest for the guest first. ``named``: the user
    names events; without, what is on is followed, and only QMP knows that.

    Raises:
        UsageError: there is no backend of that name, or it needs events to be named.
        Unsupported: this QEMU does not have it, or qtctl cannot follow what it has.
    """
    rows = by_cost()
    if asked != "auto" and asked not in TABLE:
        names = ", ".join(row.name for row in rows)
        raise UsageError(f"no backend is called {asked!r}", hint=names)
    if set(known) <= {Backend.NOP}:
        raise Unsupported(
            f"QEMU on {where} was built without tracing (--enable-trace-backends=nop)",
            hint=TABLE[Backend.NOP].instead,
        )
    if asked != "auto" and asked not in known:
        raise Unsupported(
            f"QEMU on {where} has no {asked} backend; it has {', '.join(known)}",
            hint=TABLE[Backend(asked)].missing,
        )
    wanted = [row for row in rows if row.name in known and asked in ("auto", row.name)]
    usable = [row for row in wanted if row.followed]
    names = ", ".join(row.name for row in wanted)
    if not usable:
        raise Unsupported(
            f"qtctl cannot follow {names} yet, which QEMU on {where} traces to",
            hint=wanted[0].instead,
        )
    usable = [row for row in usable if named or row.follows_qmp]
    if not usable:
        raise UsageError(
            f"{names} emits nothing until a tracer attaches to named events",
            hint="qtctl tail PATTERN",
        )
    return [row.name for row in usable]


def saved_parts() -> Iterator[SavedPart]:
    """Yield the parts that read files of backends."""
    return (part for row in TABLE.values() if (part := row.saved) is not None)


def recorded_arguments(form: str) -> ArgumentsPart:
    """Return the part that reads recorded arguments of a form.

    Raises:
        ValueError: no backend writes that form.
    """
    for row in TABLE.values():
        if form in row.arguments.split():
            return row.argument_reader
    raise ValueError(f"arguments of the form {form!r}")


class Undoing:
    """Undoes leased resources by the backend that leases that kind: for ``leases.leasing``."""

    async def end(self, resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
        """Undo a resource while its guest runs; return what could not be undone, else ''."""
        part = self._part(resource)
        if part is None:
            return f"a {resource.kind} that another version of qtctl made was not undone"
        return await part.end(resource, monitor, guest)

    def discard(self, resource: Resource) -> None:
        """Remove what is left of a resource once its guest has ended."""
        part = self._part(resource)
        if part is not None:
            part.discard(resource)

    def _part(self, resource: Resource) -> UndoPart | None:
        """Return the part that undoes a resource; None if it is not known, or facts are missing."""
        kind, facts = resource.kind.partition("-")[0], resource.facts.keys()
        part = next((row.undo for row in TABLE.values() if kind and row.resource == kind), None)
        return part if part is not None and any(needs <= facts for needs in part.NEEDS) else None
