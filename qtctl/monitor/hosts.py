"""TARGETs on other hosts: ``ssh://[USER@]HOST[:PORT]/TARGET``, where TARGET is one of that host."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from qtctl.errors import UsageError
from qtctl.monitor.address import shown

SCHEME = "ssh://"
_FORM = "ssh://[USER@]HOST[:PORT]/TARGET"
_PARTS = re.compile(
    r"(?:(?P<user>[^@/\s]+)@)?(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s/@:\[\]]+)(?::(?P<port>[0-9]+))?"
)
_MOST_PORT = 65535


class OtherHost(NamedTuple):
    """Another host as ssh takes it, and the TARGET there; ``user`` and ``port`` may be ssh's own.

    ``host`` may be a name of the user's ssh configuration.
    """

    user: str | None
    host: str
    port: int | None
    target: str

    @property
    def destination(self) -> str:
        """The host as ssh takes it: ``[USER@]HOST``."""
        return f"{self.user}@{self.host}" if self.user else self.host

    @property
    def ssh_words(self) -> list[str]:
        """The words that name the host on ssh's command line, behind all options."""
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*port, "--", self.destination]

    @property
    def by_hand(self) -> str:
        """The command by which the user connects."""
        port = "" if self.port is None else f"-p {self.port} "
        return f"ssh {port}{shlex.quote(self.destination)}"


def parse_host(text: str) -> OtherHost | None:
    """Return the host and TARGET that ``ssh://...`` names; None for text of another form.

    Raises:
        UsageError: a part is missing, or cannot be right.
    """
    if not text.startswith(SCHEME):
        return None
    place, slash, target = text.removeprefix(SCHEME).partition("/")
    found = _PARTS.fullmatch(place)
    if found is None:
        raise UsageError(f"{shown(text)} is not {_FORM}", hint="ssh://root@node7/vm1")
    user, host = found["user"], found["host"].strip("[]")
    if host.startswith("-") or (user or "").startswith("-"):  # ssh would take it for an option
        raise UsageError(f"{shown(text)}: no host or user begins with '-'", hint=_FORM)
    port = None if found["port"] is None else int(found["port"][:6])
    if port is not None and not 1 <= port <= _MOST_PORT:
        raise UsageError(f"{shown(text)}: a port is a number from 1 to {_MOST_PORT}")
    if not slash or not target.strip():
        raise UsageError(
            f"{shown(text)} names no guest of {host}", hint=f"{SCHEME}{place}/NAME, /PID or //PATH"
        )
    return OtherHost(user, host, port, target)
