"""Trace events, their states, and the rules by which QEMU switches them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import patterns


class QmpError(Exception):
    """A refusal, with QEMU's error class and words."""

    def __init__(self, words: str, kind: str = "GenericError") -> None:
        super().__init__(words)
        self.words = words
        self.kind = kind


@dataclass(slots=True)
class Event:
    """One trace event."""

    name: str
    available: bool
    vcpu: bool
    enabled: bool = False

    @property
    def state(self) -> str:
        """The state in QMP's words."""
        if not self.available:
            return "unavailable"
        return "enabled" if self.enabled else "disabled"


class TraceEvents:
    """All events of a build, in the order in which QEMU registered them."""

    def __init__(self, listing: Sequence[dict[str, Any]], *, vcpu: bool, cpus: int = 1) -> None:
        """Take a captured ``trace-event-get-state *``, which is in reversed order."""
        self.vcpu = vcpu
        self.cpus = cpus
        self.events = [
            Event(row["name"], row["state"] != "unavailable", bool(row.get("vcpu")))
            for row in reversed(listing)
        ]
        self._by_name = {event.name: event for event in self.events}

    def matching(self, name: str) -> Iterator[Event]:
        """Yield the events a name or pattern stands for, in registration order."""
        if not patterns.is_pattern(name):
            if name in self._by_name:
                yield self._by_name[name]
            return
        yield from (event for event in self.events if patterns.matches(name, event.name))

    def enabled(self) -> list[Event]:
        """Return what is on, in registration order."""
        return [event for event in self.events if event.enabled]

    def _check(self, name: str, *, cpu: int | None, ignore_unavailable: bool) -> None:
        if cpu is not None and not 0 <= cpu < self.cpus:
            raise QmpError(f"invalid vCPU index {cpu}")
        if not patterns.is_pattern(name):
            event = self._by_name.get(name)
            if event is None:
                raise QmpError(f'unknown event "{name}"')
            if cpu is not None and not event.vcpu:
                raise QmpError(f'event "{name}" is not vCPU-specific')
        if ignore_unavailable:
            return
        for event in self.matching(name):
            if not event.available:
                raise QmpError(f'event "{event.name}" is disabled')

    def get(self, name: str, *, cpu: int | None = None) -> list[Event]:
        """Return states as ``trace-event-get-state`` does: the last registered first."""
        self._check(name, cpu=cpu, ignore_unavailable=True)
        found = [event for event in self.matching(name) if cpu is None or event.vcpu]
        return found[::-1]

    def set(
        self, name: str, *, enable: bool, ignore_unavailable: bool = False, cpu: int | None = None
    ) -> None:
        """Switch as ``trace-event-set-state`` does: all of them or, on an error, none."""
        self._check(name, cpu=cpu, ignore_unavailable=ignore_unavailable)
        for event in self.matching(name):
            if event.available and (cpu is None or event.vcpu):
                event.enabled = enable
