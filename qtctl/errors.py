"""Every error qtctl raises, with its exit code and the next thing to try.

QtctlError                      exit code
 +-- UsageError                 2    a pattern, filter, option or target that cannot be right
 |    +-- TooBroad              2    more than half of the guest's events, and nobody agreed to it
 +-- NothingMatched             3    no event of the guest has such a name
 +-- ConnectionFailed           4    no monitor could be reached
 |    +-- MonitorBusy           4    another client holds the monitor
 +-- LinkLost                   5    the monitor went away in mid-session
 +-- OutcomeUnknown             5    a command was sent and no answer came: it may yet be applied
 +-- DataLost                   6    records were lost and --strict asked to be told
 +-- TimedOut                   124  what was waited for did not happen
 +-- Refused                    1    QEMU answered with an error
 +-- Unsupported                1    this QEMU, machine or build cannot do it
 +-- LeaseError                 1    the lease journal cannot be written or read
"""

from __future__ import annotations


class QtctlError(Exception):
    """An error worded for people: what, on which target, and what to try next.

    ``hint`` is one line that names the next thing to try, or an empty string.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; try: {self.hint}" if self.hint else self.message


class UsageError(QtctlError):
    """The call cannot be right, whatever the guest says; nothing was sent to it."""

    exit_code = 2


class TooBroad(UsageError):
    """More than half of the guest's events would be switched on; nothing was switched."""


class NothingMatched(QtctlError):
    """No event of the guest has such a name; nothing was switched."""

    exit_code = 3


class ConnectionFailed(QtctlError):
    """No monitor could be reached; the guest was not touched."""

    exit_code = 4


class MonitorBusy(ConnectionFailed):
    """The monitor is alive but serves another client; the guest was not touched."""


class LinkLost(QtctlError):
    """The monitor went away in mid-session; leases stay in the journal for the next run."""

    exit_code = 5


class OutcomeUnknown(QtctlError):
    """A command was sent and no answer came in time; QEMU may apply it later."""

    exit_code = 5


def unexpected(error: Exception) -> QtctlError:
    """Return what tells people of an exception that no one worded for them."""
    if isinstance(error, OSError):
        return QtctlError(error.strerror or str(error))
    return QtctlError(
        f"this is a bug in qtctl: {type(error).__name__}: {error}",
        hint="the same with -v, and report what it prints",
    )


class DataLost(QtctlError):
    """Records were lost, each loss already reported at its place."""

    exit_code = 6


class TimedOut(QtctlError):
    """What was waited for did not happen in time."""

    exit_code = 124


class Refused(QtctlError):
    """QEMU answered with an error; ``message`` quotes it."""


class Unsupported(QtctlError):
    """This QEMU, kernel or build cannot do what was asked."""


class LeaseError(QtctlError):
    """The lease journal cannot be written or read; nothing was switched."""
