"""Where private things go that end with the session: spools, sockets."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["runtime_folder"]


def runtime_folder() -> Path | None:
    """Return ``$XDG_RUNTIME_DIR``, or what systemd makes it where it is not told, or None.

    The second is for a shell that came by su or cron. platformdirs would invent a folder, with a
    warning. Source: pam_systemd(8).
    """
    if told := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(told)
    made = Path(f"/run/user/{os.getuid()}")
    return made if made.is_dir() else None
