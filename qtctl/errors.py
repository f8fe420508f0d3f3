"""Every error of qtctl, with its exit code: 1, unless the class or its parent has another."""

from __future__ import annotations

from collections.abc import Iterable


class QtctlError(Exception):
    """An error for users: its message names the target and what was tried.

    ``hint`` is what to do next, a command mostly, in one line; it may be empty. ``more`` are lines
    to print below the message, which is one line: a newline in it comes from outside, and is
    escaped.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", more: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.more = tuple(more)

    def __str__(self) -> str:
        text = "\n".join((self.message, *self.more))
        return f"{text}; try: {self.hint}" if self.hint else text


class UsageError(QtctlError):
    """The call is invalid for any guest; nothing was sent to it."""

    exit_code = 2


class SeveralGuests(UsageError):
    """Several guests are running, and the call names none of them."""


class TooBroad(UsageError):
    """More than half of the guest's events would be switched on; nothing was switched."""


class NothingMatched(QtctlError):
    """No event of the guest has that name; nothing was switched."""

    exit_code = 3


class ConnectionFailed(QtctlError):
    """No monitor could be reached; the guest was not touched."""

    exit_code = 4


class MonitorBusy(ConnectionFailed):
    """The monitor serves another client, or does not answer; the guest was not touched."""


class LinkLost(QtctlError):
    """The connection broke in mid-session; leases stay in the journal for the next run."""

    exit_code = 5


class OutcomeUnknown(QtctlError):
    """A command was sent and got no reply in time; QEMU may apply it later."""

    exit_code = 5


def unexpected(error: Exception) -> QtctlError:
    """Wrap an unexpected exception as a QtctlError."""
    if isinstance(error, OSError):
        return QtctlError(error.strerror or str(error))
    return QtctlError(
        f"this is a bug in qtctl: {type(error).__name__}: {error}",
        hint="run it again with -v, and report the traceback",
    )


class DataLost(QtctlError):
    """Records were lost; each loss was reported at its place in the stream."""

    exit_code = 6


class TimedOut(QtctlError):
    """The awaited event did not happen in time."""

    exit_code = 124


class NotChosen(QtctlError):
    """The user left a list without choosing, as with Ctrl-C; nothing was sent to a guest."""

    exit_code = 130


class Refused(QtctlError):
    """QEMU answered with an error; ``message`` quotes it."""


class BadAnswer(QtctlError):
    """A monitor answered with JSON of another shape than QEMU's."""


class Unsupported(QtctlError):
    """This QEMU, kernel or build lacks what the call needs."""


class LeaseError(QtctlError):
    """The lease journal cannot be written or read; nothing was switched."""
