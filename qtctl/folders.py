"""The user's run-time folder, atomic writing of files, and which file a path leads to."""

from __future__ import annotations

import os
from pathlib import Path


def runtime_folder() -> Path | None:
    """Return ``$XDG_RUNTIME_DIR``, else systemd's folder ``/run/user/UID`` if it exists, else None.

    The variable is unset under su and cron. platformdirs would invent a folder and warn. Source:
    pam_systemd(8).
    """
    if named := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(named)
    made = Path(f"/run/user/{os.getuid()}")
    return made if made.is_dir() else None


def write_whole(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file atomically: on an error, as on a full disk, the old file stays.

    Raises:
        FileExistsError: the file exists, and ``replace`` is false.
        OSError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path) if replace else os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def inode_of(path: str | Path) -> tuple[int, int] | None:
    """Return the device and inode of the file that a path leads to; None if there is none."""
    try:
        state = os.stat(path)  # noqa: PTH116 - takes both
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
