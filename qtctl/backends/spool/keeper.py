"""Keep one spool bounded: ``keeper.py SPOOL GUEST_PID LIMIT_BYTES HEAD_BYTES``.

Runs as a separate process. Imports nothing of qtctl, so that it starts fast and stays small. It
ends when the spool is removed or the guest is gone; then a spool that was left behind is removed.
"""

import ctypes
import os
import sys
import time

POLL_S = 0.1


def keep(path: str, guest_pid: int, limit_bytes: int, head_bytes: int) -> int:
    """Detach, then free the oldest bytes of ``path`` whenever too many are allocated.

    The first ``head_bytes`` are left, whatever is freed behind them.

    Returns the exit code of the process that was started; the keeper itself goes on.
    """
    # By descriptor: the path of a guest in a container leads nowhere once that guest has ended.
    folder, name = os.path.split(path)
    place, folder_name = os.path.split(folder)
    outer = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    inner = os.open(folder_name, os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=outer)
    fd = os.open(name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=inner)
    if os.fork():
        return 0
    libc = ctypes.CDLL(None)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    while os.fstat(fd).st_nlink:
        if not os.path.exists(f"/proc/{guest_pid}"):  # noqa: PTH110
            for one in os.listdir(inner):  # noqa: PTH208 - also the socket of a killed guest
                os.unlink(one, dir_fd=inner)
            os.rmdir(folder_name, dir_fd=outer)
            break
        state = os.fstat(fd)
        if state.st_blocks * 512 > limit_bytes:
            end = (state.st_size - limit_bytes // 2) & ~4095
            libc.fallocate(fd, 0x01 | 0x02, head_bytes, max(0, end - head_bytes))
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(keep(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    except OSError:
        sys.exit(1)
