"""The few things asked of tmux (checked with 3.3a; ``man tmux``): split a window, and no more.

Of what tmux puts into the environment only the socket in ``$TMUX`` and ``$TMUX_PANE`` hold for the
life of a pane; the rest of ``$TMUX`` goes stale when panes are moved.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from qtctl.errors import QtctlError, UsageError

SIDES: Mapping[str, tuple[str, ...]] = {
    "right": ("-h",),
    "left": ("-h", "-b"),
    "bottom": ("-v",),
}
_PASSED = ("LANG", "NO_COLOR", "QMP_SOCKET", "HOME", "PATH")
_PASSED_FAMILIES = ("QTCTL_", "XDG_", "LC_", "PYTHON")
_LIMIT_S = 5.0
# Not by tmux's remain-on-exit: 3.3a may keep a pane for ever whose command ended well.
_HELD = '"$@" || { printf "%s" "Enter closes this pane. "; read -r _; }'


class TmuxPane(NamedTuple):
    """The pane we run in: its server's socket, and its id."""

    socket: str
    pane: str


def here(env: Mapping[str, str]) -> TmuxPane | None:
    """Return the pane that ``env`` says we run in; None outside of tmux."""
    socket, pane = env.get("TMUX", "").partition(",")[0], env.get("TMUX_PANE", "")
    return TmuxPane(socket, pane) if socket and pane else None


def split(
    place: TmuxPane, command: Sequence[str], *, side: str, size: str, env: Mapping[str, str]
) -> str:
    """Run ``command`` in a new pane beside ``place`` and return its id; the focus stays.

    ``size`` is in columns or rows, or per cent (``40%``). Of ``env`` the command is given what
    tells qtctl where things are. A pane whose command fails stays, so that its words can be read.

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
    return _tmux(place, "split-window", *SIDES[side], *options, *passed, "--", *held)


def _tmux(place: TmuxPane, verb: str, *words: str) -> str:
    try:
        ran = subprocess.run(
            ["tmux", "-S", place.socket, verb, *words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
        )
    except FileNotFoundError:
        raise QtctlError("tmux is not installed here", hint="qtctl pane --here") from None
    except subprocess.TimeoutExpired:
        raise QtctlError(f"tmux did not answer {verb} within {_LIMIT_S:g} s") from None
    if ran.returncode:
        said = ran.stderr.strip() or f"exit code {ran.returncode}"
        if "no space" in said or "size" in said:
            raise UsageError(f"tmux cannot make that pane: {said}", hint="another --size")
        raise QtctlError(f"tmux {verb}: {said}", hint="qtctl pane --here in another terminal")
    return ran.stdout.strip()
