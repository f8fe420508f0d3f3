"""The user's folders, reading and atomic writing of files, and where a path leads to."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

from qtctl.errors import UsageError

_LIMIT_BYTES = 64 << 20
"""Of a file that is read as a whole; QEMU's ``trace-events-all`` has 300 kB."""
_SILENCE_S = 10.0


def runtime_folder() -> Path | None:
    """Return ``$XDG_RUNTIME_DIR``, else systemd's folder ``/run/user/UID`` if it exists, else None.

    The variable is unset under su and cron. Source: pam_systemd(8).
    """
    made = Path(f"/run/user/{os.getuid()}")
    found = absolute(os.environ.get("XDG_RUNTIME_DIR"), made)
    return found if found is not made or made.is_dir() else None


def config_folder() -> Path:
    """Return qtctl's folder of the user's configuration; it need not exist."""
    return _user_folder("XDG_CONFIG_HOME", "~/.config")


def cache_folder() -> Path:
    """Return qtctl's folder of what can be made again; it need not exist."""
    return _user_folder("XDG_CACHE_HOME", "~/.cache")


def state_folder() -> Path:
    """Return qtctl's folder of leases and typed lines; it need not exist."""
    return _user_folder("XDG_STATE_HOME", "~/.local/state")


def _user_folder(variable: str, usual: str) -> Path:
    home = os.path.expanduser(usual)  # noqa: PTH111 - "~" where there is no home
    return absolute(os.environ.get(variable), Path("/", home)) / "qtctl"


def absolute(named: str | None, usual: Path) -> Path:
    """Return the folder that a variable names, or the usual one: a relative path is ignored.

    Source: the XDG base directory specification.
    """
    return Path(named) if named and named.startswith("/") else usual


def read_text(path: Path, check: Callable[[os.stat_result], None] = lambda state: None) -> str:
    """Read a text file as a whole; also a FIFO or a device, if it ends.

    ``check`` is called with the state of the opened file, before it is read.

    Raises:
        UsageError: it cannot be read, is not UTF-8, has more than 64 MiB, or nothing came for 10 s.
    """
    try:
        return _read_all(path, check).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not a text file: byte {error.start} is not UTF-8") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"cannot read {path}: {why}") from error


def _read_all(path: Path, check: Callable[[os.stat_result], None]) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    data = bytearray()
    with os.fdopen(handle, "rb", buffering=0) as file:
        check(os.fstat(handle))
        while True:
            piece = file.read(1 << 20)
            if piece == b"":
                return bytes(data)
            if piece is None and not select.select([handle], [], [], _SILENCE_S)[0]:
                raise UsageError(f"nothing came from {path} for {_SILENCE_S:g} s")
            data += piece or b""
            if len(data) > _LIMIT_BYTES:
                raise UsageError(f"{path} has more than {_LIMIT_BYTES >> 20} MiB")


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
