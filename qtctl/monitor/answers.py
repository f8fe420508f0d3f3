"""Checked conversion of what QEMU and lenders answer: the border for JSON from a monitor.

Shapes: ``qapi/*.json`` of QEMU 7.2 to 11.1, and ``lending`` for a lender's own commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from qtctl.errors import BadAnswer
from qtctl.model import Address, EventState
from qtctl.shapes import Malformed, elements, member, members, shown, text, whole

T = TypeVar("T")
_MOST_PID = (1 << 31) - 1


class Version(NamedTuple):
    """QEMU's version in its greeting, and the distribution's text or an empty string."""

    numbers: tuple[int, int, int]
    package: str


_STATES = {str(state): state for state in EventState}


def checked(address: Address, command: str, answer: object, convert: Callable[[Any], T]) -> T:
    """Return the answer to a command, converted by a function of this module.

    Raises:
        BadAnswer: it has another shape.
    """
    try:
        return convert(answer)
    except Malformed as malformed:
        raise BadAnswer(
            f"{address} answered {command} as no QEMU does: {malformed}",
            hint="check that this is a QMP socket of QEMU",
        ) from None


def version_of(greeted: Mapping[str, Any]) -> Version:
    """Return the ``version`` of a greeting."""
    version = dict(greeted)
    qemu = members(member(version, "qemu"), "the version")
    major, minor, micro = (
        whole(member(qemu, name), f"the {name} version", 0) for name in ("major", "minor", "micro")
    )
    return Version((major, minor, micro), text(version.get("package", ""), "the package"))


def states_of(answer: object) -> dict[str, EventState]:
    """Return the states that ``trace-event-get-state`` lists."""
    states = {}
    for one in elements(answer, "the list of events"):
        entry = members(one, "an event")
        name, state = text(member(entry, "name"), "the name of an event"), member(entry, "state")
        if not isinstance(state, str) or state not in _STATES:
            raise Malformed(f"the state of {name} is {shown(state)}")
        states[name] = _STATES[state]
    return states


def run_state_of(answer: object) -> str:
    """Return the ``status`` of ``query-status``."""
    return text(member(members(answer, "the status"), "status"), "the status")


def name_of(answer: object) -> str | None:
    """Return the guest's name of ``query-name``; None if it has none."""
    name = members(answer, "the answer").get("name")
    return None if name is None else text(name, "the name")


def cpus_of(answer: object) -> dict[int, int]:
    """Return the index of each vCPU of ``query-cpus-fast`` by its thread id."""
    cpus = [members(one, "a CPU") for one in elements(answer, "the CPUs")]
    return {
        whole(member(one, "thread-id"), "a thread id"): whole(member(one, "cpu-index"), "an index")
        for one in cpus
    }


def iothreads_of(answer: object) -> dict[int, str]:
    """Return the id of each iothread of ``query-iothreads`` by its thread id."""
    threads = [members(one, "a thread") for one in elements(answer, "the iothreads")]
    return {
        whole(member(one, "thread-id"), "a thread id"): text(member(one, "id"), "an id")
        for one in threads
    }


def virtio_of(answer: object) -> list[tuple[str, str]]:
    """Return name and path of each device of ``x-query-virtio``."""
    devices = [members(one, "a device") for one in elements(answer, "the devices")]
    return [
        (text(member(one, "name"), "a name"), text(member(one, "path"), "a path"))
        for one in devices
    ]


def output_of(answer: object) -> str:
    """Return what a line of the human monitor printed."""
    return text(answer, "the output")


def guest_pid_of(answer: object) -> int | None:
    """Return the guest's pid in a lender's answer to its hello; None if it does not know it."""
    pid = members(answer, "the answer").get("guest_pid")
    return None if pid is None else whole(pid, "the guest's pid", 1, _MOST_PID)


def count_of(answer: object) -> int:
    """Return how many consoles a lender sent an event to."""
    return whole(answer, "the number of consoles", 0)


def lender_of(answer: object) -> dict[str, Any]:
    """Return what a lender says of itself: ``pid``, ``path`` and ``clients``."""
    found = members(answer, "the answer")
    whole(member(found, "pid"), "the lender's pid", 1, _MOST_PID)
    if member(found, "path") is not None:
        text(found["path"], "the lender's socket")
    for one in elements(member(found, "clients"), "its clients"):
        members(one, "a client")
    return found
