"""Finding tracefs, and making a private instance of it.

Source: Documentation/trace/ftrace.rst and kernel/trace/trace.c of Linux, 6.1 to 6.18. QEMU opens
the one global ``trace_marker`` (trace/ftrace.c of QEMU); an instance with ``copy_trace_marker``
gets a copy of what is written there, in a separate buffer with its own clock and options.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from qtctl.backends.ring.layout import EventFormat, Layout, parse_format, parse_layout
from qtctl.errors import Unsupported
from qtctl.monitor.processes import link_of

PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
TOTAL_KIB = 32 << 10
"""Kernel memory of an instance, shared out over the processors."""
_LEAST_KIB = 1 << 10
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"
# Instances inherit the options of the global buffer, whatever somebody made of them.
_NEEDED = ("overwrite", "event-fork")
_ABSENT = ("stacktrace", "userstacktrace", "block")
_MARK_OPTIONS = {"markers": "1", "record-tgid": "1"}
# The kernel notes which process a thread is of only while some event is on. This one is, with a
# filter that nothing passes.
_TGID_EVENT = "events/sched/sched_process_exit"


def find_tracefs(
    use: str = "the ftrace backend writes", then: str = ", then start QEMU anew"
) -> Path:
    """Return where tracefs is mounted, readable for this process.

    ``use`` is what happens there, and ``then`` what to do once it is mounted.

    Raises:
        Unsupported: it is not mounted, or this user may not read it; with a hint.
    """
    closed = ""
    for place in PLACES:
        try:
            os.stat(place / "trace_marker")  # noqa: PTH116 - Path.exists hides the reason
            os.listdir(place / "instances")  # noqa: PTH208
        except PermissionError:
            closed = closed or str(place)
        except OSError:
            continue
        else:
            return place
    if closed:
        raise Unsupported(
            f"tracefs, where {use}, is at {closed}, which only root may read",
            hint="run qtctl as root (sudo)",
        )
    if "tracefs" not in Path("/proc/filesystems").read_text():
        raise Unsupported(
            f"this kernel has no tracefs (CONFIG_TRACING), where {use}",
            hint="another backend: --backend NAME",
        )
    raise Unsupported(
        f"tracefs, where {use}, is not mounted",
        hint=f"mount -t tracefs nodev {PLACES[0]} (as root){then}",
    )


def check_namespace() -> None:
    """Check that this process and the kernel's tracer use the same thread ids.

    Raises:
        Unsupported: this process is in another pid namespace than the host's.
    """
    if link_of("/proc/self/ns/pid") not in (None, _INITIAL_PID_NAMESPACE):
        raise Unsupported(
            "in a container the threads of the guest cannot be told in the kernel's trace",
            hint="run qtctl on the host",
        )


def has_private(root: Path) -> bool:
    """Return whether instances can get copies of writes to trace_marker (Linux 6.x)."""
    return (root / "options/copy_trace_marker").exists()


def per_cpu_kib(total_kib: int = TOTAL_KIB) -> int:
    """Return the size of the buffer of one processor, in KiB, its share of ``total_kib``."""
    return max(_LEAST_KIB, total_kib // (os.cpu_count() or 1))


@contextlib.contextmanager
def making(folder: Path, cpu_kib: int, hint: str = "") -> Iterator[None]:
    """Make an instance and set it up; inside of the block, set up the rest of it.

    ``cpu_kib`` is the size of its buffer for each processor. ``hint`` is what to do instead.

    Raises:
        Unsupported: the kernel refuses, also inside of the block; what was made is removed again.
    """
    try:
        folder.mkdir()
        set_up(folder, cpu_kib)
        yield
    except OSError as error:
        remove_instance(folder)
        raise Unsupported(
            f"cannot set up the tracefs instance {folder}: {error.filename or ''} {error.strerror}",
            hint="; ".join(filter(None, (_remedy(error, cpu_kib), hint))),
        ) from error


def _remedy(error: OSError, cpu_kib: int) -> str:
    """Return what may help where the kernel refuses an instance."""
    if error.errno == errno.EROFS:
        return "mount tracefs writable: mount -o remount,rw /sys/kernel/tracing"
    if error.errno == errno.ENOMEM:
        return f"free memory: its buffers take {cpu_kib} KiB for each processor"
    if is_locked():
        return "kernel lockdown may forbid it: cat /sys/kernel/security/lockdown"
    return "run qtctl as root; dmesg may tell more"


def is_locked() -> bool:
    """Return whether kernel lockdown is on."""
    with contextlib.suppress(OSError):
        return "[none]" not in Path("/sys/kernel/security/lockdown").read_text()
    return False


def set_up(folder: Path, cpu_kib: int) -> None:
    """Set clock, size (KiB for each processor) and options of an instance, whatever it inherited.

    Raises:
        OSError: the kernel refuses.
    """
    write(folder / "trace_clock", "mono")
    write(folder / "buffer_size_kb", str(cpu_kib))
    with contextlib.suppress(OSError):  # Linux 5.0; wakes a reader for any record
        write(folder / "buffer_percent", "0")
    for option in _NEEDED:
        write(folder / "options" / option, "1")
    _choose(folder, dict.fromkeys(_ABSENT, "0"))


def _choose(folder: Path, options: Mapping[str, str]) -> None:
    """Set options, but for those that this kernel lacks."""
    for option, value in options.items():
        with contextlib.suppress(OSError):
            write(folder / "options" / option, value)


def take_marks(folder: Path) -> None:
    """Have copies of what is written to trace_marker, and note which process a thread is of.

    Raises:
        OSError: the kernel refuses.
    """
    _choose(folder, _MARK_OPTIONS)
    with contextlib.suppress(OSError):
        write(folder / _TGID_EVENT / "filter", "common_pid < 0")
        write(folder / _TGID_EVENT / "enable", "1")
    write(folder / "tracing_on", "1")
    write(folder / "options/copy_trace_marker", "1")


def read_format(folder: Path, event: str) -> EventFormat:
    """Return the format of an event (``kvm:kvm_exit``), of tracefs or of an instance.

    Raises:
        OSError: there is no such event.
        ValueError: this kernel has another form of records than is known.
    """
    return parse_format((folder / "events" / event.replace(":", "/", 1) / "format").read_text())


def read_layout(folder: Path, event: EventFormat) -> Layout:
    """Return the layout of the pages of tracefs' buffer, or of an instance's.

    Raises:
        OSError: it cannot be read.
        ValueError: this kernel has another form of pages than is known.
    """
    page, head = (folder / "events" / name for name in ("header_page", "header_event"))
    return parse_layout(page.read_text(), head.read_text(), event)


def watch_threads(folder: Path, pid: int) -> None:
    """Limit an instance's events to the guest's threads, also future ones by ``event-fork``."""
    known: set[str] = set()
    while fresh := set(os.listdir(f"/proc/{pid}/task")) - known:  # noqa: PTH208
        write(folder / "set_event_pid", " ".join(fresh), append=True)
        known |= fresh


def remove_instance(folder: Path) -> str:
    """Remove an instance; return a sentence on what failed, else ''."""
    stop_recording(folder)
    try:
        folder.rmdir()
    except FileNotFoundError:
        return ""
    except OSError as error:
        used = " by another process" if error.errno == errno.EBUSY else ""
        return f"the tracefs instance {folder} stays ({error.strerror}{used}): rmdir {folder}"
    return ""


def stop_recording(folder: Path) -> None:
    """Stop recording.

    Copies first: where one instance that takes them is off, the kernel gives up on the write and
    the instances behind it get nothing (write_marker_to_buffer in trace.c, 6.18).
    """
    for name in ("options/copy_trace_marker", "tracing_on"):
        with contextlib.suppress(OSError):
            write(folder / name, "0")


def write(path: Path, text: str, *, append: bool = False) -> None:
    """Write a setting; ``append``: what the file holds stays.

    Raises:
        OSError: the kernel refuses; ``filename`` is the path.
    """
    flags = os.O_WRONLY | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    handle = os.open(path, flags)
    try:
        os.write(handle, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)


def stats(folder: Path, *names: str) -> list[int]:
    """Return the sums over all CPUs of counters of a buffer, by the kernel's names."""
    found = dict.fromkeys(names, 0)
    for path in folder.glob("per_cpu/cpu*/stats"):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in found:
                    found[name] += int(value)
    return list(found.values())
