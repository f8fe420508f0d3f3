"""Splitting a tmux window (checked with tmux 3.3a; ``man tmux``).

Of tmux's environment, only the socket in ``$TMUX`` and ``$TMUX_PANE`` stay valid for the life of a
pane; the rest of ``$TMUX`` is stale once panes are moved.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from qtctl.errors import QtctlError, UsageError

SIDES: Mapping[str, tuple[str, ...]] = {"right": ("-h",), "left": ("-h", "-b"), "bottom": ("-v",)}
_PASSED = ("LANG", "NO_COLOR", "QMP_SOCKET", "HOME", "PATH")
_PASSED_FAMILIES = ("QTCTL_", "XDG_", "LC_", "PYTHON")
_LIMIT_S = 5.0
# tmux's remain-on-exit cannot be used: 3.3a may keep the pane of a command that succeeded.
_HELD = '"$@" || { printf "%s" "Enter closes this pane. "; read -r _; }'


class TmuxPane(NamedTuple):
    """The pane that qtctl runs in: its server's socket, and its id."""

    socket: str
    pane: str


def here(env: Mapping[str, str]) -> TmuxPane | None:
    """Return the pane of this process from its environment; None outside of tmux."""
    socket, pane = env.get("TMUX", "").partition(",")[0], env.get("TMUX_PANE", "")
    return TmuxPane(socket, pane) if socket and pane else None


def split(
    place: TmuxPane, command: Sequence[str], *, side: str, size: str, env: Mapping[str, str]
) -> str:
    """Run ``command`` in a new pane beside ``place`` and return its id; the focus stays.

    ``size`` is in columns or rows, or per cent (``40%``). The command gets the variables of ``env``
    that qtctl reads. The pane of a command that fails stays open, so that its error can be read.

    Raises:
        UsageError: there is no room for such a pane.
        QtctlError: tmux is missing, or refuses.
    """
    passed = [
        f"-e{name}={value}"
        for name, value in env.items()
        if name in _PASSED or name.startswith(_PASSED_FAMILIES)
    ]
    options = ("-d", "-P", "-F#{pane_id}", "-t", place.pane, "-l", size, "-c", str(Path.cwd()))
    held = ("sh", "-c", _HELD, "sh", *command)
    call = ("tmux", "-S", place.socket, "split-window", *SIDES[side], *options, *passed)
    try:
        ran = subprocess.run(
            [*call, "--", *held],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise QtctlError("tmux is not installed here", hint="qtctl pane --here") from None
    except subprocess.TimeoutExpired:
        raise QtctlError(f"tmux did not answer split-window within {_LIMIT_S:g} s") from None
    if ran.returncode:
        message = ran.stderr.strip() or f"exit code {ran.returncode}"
        if "no space" in message or "size" in message:
            raise UsageError(f"tmux cannot make that pane: {message}", hint="another --size")
        hint = "qtctl pane --here in another terminal"
        raise QtctlError(f"tmux split-window: {message}", hint=hint)
    return ran.stdout.strip()
