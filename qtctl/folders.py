"""Where things of the user's own go, and how they are written there."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["runtime_folder", "write_whole"]


def runtime_folder() -> Path | None:
    """Return ``$XDG_RUNTIME_DIR``, or what systemd makes it where it is not told, or None.

    The second is for a shell that came by su or cron. platformdirs would invent a folder, with a
    warning. Source: pam_systemd(8).
    """
    if told := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(told)
    made = Path(f"/run/user/{os.getuid()}")
    return made if made.is_dir() else None


def write_whole(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file whole or not at all: a full disk leaves no half, and what was there before.

    Raises:
        FileExistsError: it is there, and ``replace`` is false.
        OSError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path) if replace else os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
