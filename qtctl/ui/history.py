"""The history of the prompt's lines, in a file of the user."""

from __future__ import annotations

import os
from pathlib import Path

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from qtctl.folders import state_folder

_KEEP_BYTES = 1 << 20


def open_history() -> tuple[History, str]:
    """Return the history, and why it cannot be saved: empty if it can.

    Its file is ``history`` in the XDG state folder (mode 0600). A file of more than 1 MiB loses
    its older half.
    """
    path = state_folder() / "history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _shorten(path)
    except OSError as error:
        return InMemoryHistory(), f"lines are not saved in {path}: {error.strerror}"
    return _Kept(str(path)), ""


def _shorten(path: Path) -> None:
    if path.stat().st_size > _KEEP_BYTES:
        kept = path.read_bytes()[-_KEEP_BYTES // 2 :]
        fresh = path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(kept[kept.find(b"\n\n") + 1 :])
        fresh.replace(path)


class _Kept(FileHistory):
    """Saves bytes that are not UTF-8 in a readable form, and ignores a full disk."""

    def store_string(self, string: str) -> None:
        try:
            super().store_string(string.encode("utf-8", "backslashreplace").decode())
        except OSError:
            return
