"""Keep one spool bounded: ``keeper.py SPOOL GUEST_PID LIMIT_BYTES``. Runs as a process of its own.

Imports nothing of qtctl, so that it starts fast and stays small. It ends when the spool is removed
or the guest is gone; then a spool that was left behind is removed too.
"""

import ctypes
import os
import sys
import time

POLL_S = 0.1


def keep(path: str, guest_pid: int, limit_bytes: int) -> None:
    """Free the oldest bytes of ``path`` whenever more than ``limit_bytes`` are allocated."""
    libc = ctypes.CDLL(None)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    while os.fstat(fd).st_nlink:
        if not os.path.exists(f"/proc/{guest_pid}"):  # noqa: PTH110
            os.unlink(path)  # noqa: PTH108
            os.rmdir(os.path.dirname(path))  # noqa: PTH106, PTH120
            return
        state = os.fstat(fd)
        if state.st_blocks * 512 > limit_bytes:
            libc.fallocate(fd, 0x01 | 0x02, 0, max(0, state.st_size - limit_bytes // 2) & ~4095)
        time.sleep(POLL_S)


if __name__ == "__main__":
    try:
        keep(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except OSError:
        sys.exit(1)
