"""Remove uprobes and their tracefs instance once qtctl has ended: ``keeper.py INSTANCE GROUP``.

Runs as a separate process that outlives qtctl, with a pipe from it as its standard input: the pipe
ends when qtctl closes it or is killed. The kernel takes 50 ms for each of its events to remove.
Imports nothing of qtctl, so that it starts fast and stays small.
"""

import errno
import os
import signal
import sys
import time

REMOVE_S = 60.0
_POLL_S = 0.05


def remove(instance: str, group: str) -> str:
    """Remove a group of uprobes and its instance, as far as they are there.

    Several processes may do so at once. Returns what could not be removed, else ''.
    """
    deadline = time.monotonic() + REMOVE_S
    write(f"{instance}/tracing_on", "0")
    write(f"{instance}/events/{group}/enable", "0")
    while True:
        why = _remove_probes(os.path.dirname(os.path.dirname(instance)), group)  # noqa: PTH120
        try:
            os.rmdir(instance)  # noqa: PTH106 - pathlib takes long to import
        except FileNotFoundError:
            pass
        except OSError as error:
            why = f"{instance}: {error.strerror}"
            if error.errno != errno.EBUSY:
                return why
        if not why or time.monotonic() > deadline:
            return why
        time.sleep(_POLL_S)


def _remove_probes(root: str, group: str) -> str:
    try:
        with open(f"{root}/uprobe_events") as file:  # noqa: PTH123
            words = {line.partition(" ")[0] for line in file}
    except OSError:
        return ""
    begin, why = f"p:{group}/", ""
    for word in words:
        if word.startswith(begin):
            failed = write(f"{root}/uprobe_events", f"-{word[1:]}\n")
            why = why if failed in ("", os.strerror(errno.ENOENT)) else f"{word[2:]}: {failed}"
    return why


def write(path: str, text: str) -> str:
    """Write to a file of tracefs and keep what it holds; return why that failed, else ''."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError as error:
        return error.strerror or str(error)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(fd)
    return ""


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.read(0, 1)
    sys.exit(bool(remove(*sys.argv[1:])))
