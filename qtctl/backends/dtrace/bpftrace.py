"""QEMU's USDT probes, and bpftrace attached to them.

Source: ``scripts/tracetool/format/d.py`` of QEMU 7.2 (provider ``qemu``, a probe an event with a
semaphore), SystemTap's ``sys/sdt.h`` for the notes; checked on bpftrace 0.17 and Linux 6.18.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtctl.backends.child_pipe import ChildPipe
from qtctl.backends.dtrace.probes import PROVIDER, TEXT_BYTES, probe_notes
from qtctl.backends.elf import Elf
from qtctl.errors import QtctlError, Unsupported
from qtctl.model import Declaration, Kind

PROBE_LIMIT = 512
"""Probes that are attached at once: each takes bpftrace 0.17 a tenth of a second."""
_TEXTS_LIMIT = 4
_PLAIN_ARGUMENTS = 6
_BUFFER_PAGES = 1024
_START_S = 10.0
_PROBE_S = 1.0
_END_S = 2.0
_WAKE_S = 0.6
_POLL_S = 0.02
_ATTACHED = b"__BPFTRACE_NOTIFY_PROBES_ATTACHED"
_LIMITS = ("MAX_PROBES", "MAX_BPF_PROGS", "NODE_MAX")
_HINT = "QEMU's qemu-trace-stap, with SystemTap, or another backend: qtctl tail --backend NAME"
_SIZES = {"1": "uint8", "2": "uint16", "4": "uint32", "8": "uint64"}
_LETTERS = ("a", "b", "c", "d")
_REGISTERS = {
    **{f"{wide}{x}x": f"{x}x" for x in _LETTERS for wide in ("r", "e", "")},
    **{f"{x}l": f"{x}x" for x in _LETTERS},
    **{f"{wide}{x}": x for x in ("si", "di", "bp", "sp") for wide in ("r", "e", "")},
    **{f"{x}l": x for x in ("si", "di", "bp", "sp")},
    **{f"r{n}{part}": f"r{n}" for n in range(8, 16) for part in ("", "d", "w", "b")},
}
"""All of x86_64's names of registers, and bpftrace's."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One event as it is traced.

    ``expressions`` are its arguments in bpftrace's language, as they are printed: numbers first,
    then ``texts`` texts.
    """

    index: int
    name: str
    expressions: tuple[str, ...]
    texts: int


def probes_of(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Return the probes of provider ``qemu`` in a binary: the places of the arguments, by event.

    A probe at several locations that differ has ``?`` for each argument.

    Raises:
        Unsupported: the binary cannot be read, or its notes are malformed.
    """
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image,
        ):
            return _places(probe_notes(Elf(image)))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise Unsupported(f"cannot read the USDT probes of {path}: {error}", hint=_HINT) from error


def _places(notes: Iterable[Sequence[bytes]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for note in notes:
        if len(note) < 3 or note[0] != PROVIDER:
            continue
        places = tuple(note[2].decode("ascii").split())
        name = note[1].decode("ascii")
        if found.setdefault(name, places) != places:
            found[name] = ("?",) * len(places)
    return found


def traced(
    index: int, name: str, places: Sequence[str], declaration: Declaration | None
) -> Traced | None:
    """Plan how an event is traced; None if bpftrace cannot read what its declaration names.

    bpftrace 0.17 knows ``arg0`` to ``arg5``; others are read from the places in the probe's note.
    An event whose arguments are not declared, or not as many, has all of them as numbers.
    """
    found = [_expression(number, place) for number, place in enumerate(places)]
    if None in found:
        return None
    every = [expression for expression in found if expression is not None]
    if declaration is None:
        return Traced(index, name, tuple(every), 0)
    declared = declaration.arguments
    if len(every) == len(declared) + 1:  # the vCPU of a 7.2 event with the property "vcpu"
        every = every[1:]
    if len(every) != len(declared):
        return None
    pairs = list(zip(every, declared, strict=True))
    numbers = [expression for expression, one in pairs if one.kind is not Kind.STRING]
    texts = [f"str({expression})" for expression, one in pairs if one.kind is Kind.STRING]
    if len(texts) > _TEXTS_LIMIT:
        return None
    return Traced(index, name, (*numbers, *texts), len(texts))


def _expression(number: int, place: str) -> str | None:
    if number < _PLAIN_ARGUMENTS:
        return f"arg{number}"
    match = re.fullmatch(r"-?([1248])@(?:\$(-?\d+)|%(\w+)|(-?\d+)?\(%(\w+)\))", place)
    if match is None:
        return None
    size, constant, register, offset, base = match.groups()
    if constant is not None:
        return f"(uint64){int(constant) & 0xFFFFFFFF}" if size == "4" else constant
    name = _REGISTERS.get(register or base)
    if name is None:
        return None
    if register is not None:
        return f'reg("{name}")'
    return f'*({_SIZES[size]} *)(reg("{name}") + {int(offset or 0)})'


def program_for(events: Sequence[Traced], binary: str, mark: str) -> str:
    """Write the program: a line an event, its numbers in hex, ``mark`` between two texts.

    Four times a second each CPU gives a sign of life. The kernel reports lost records only before
    the next one that has room, and a sign of life ensures one. The signs are numbered, for
    the kernel's count includes those of them that found no room.
    """
    sign = 'printf("~ %llx %x %llx\\n", nsecs, cpu, @signs[cpu]);'
    lines = [f"profile:hz:4 {{ @signs[cpu] = @signs[cpu] + 1; {sign} }}", "END { clear(@signs); }"]
    for event in events:
        numbers = " %llx" * (len(event.expressions) - event.texts)
        texts = mark.join(["%s"] * event.texts)
        form = f"{event.index:x} %llx %x{numbers}{' ' * bool(event.texts)}{texts}"
        values = ", ".join(("nsecs", "tid", *event.expressions))
        lines.append(f'usdt:{binary}:qemu:{event.name} {{ printf("{form}\\n", {values}); }}')
    return "\n".join(lines) + "\n"


def wake(cpus: Sequence[int]) -> None:
    """Keep idle CPUs busy for a moment, in threads: an idle one gives no sign of life."""

    def busy(cpu: int) -> None:
        with contextlib.suppress(OSError):  # taken offline, or away from us
            os.sched_setaffinity(0, {cpu})
            until = time.monotonic() + _WAKE_S
            while time.monotonic() < until:
                hashlib.pbkdf2_hmac("sha256", b"", b"", 2000)  # lets other threads run

    for cpu in cpus:
        threading.Thread(target=busy, args=(cpu,), daemon=True, name="qtctl-wake").start()


class Tracer:
    """A running bpftrace. Make it with :func:`start`."""

    def __init__(self, process: subprocess.Popen[bytes], said: int, probes: int) -> None:
        self.process = process
        self.probes = probes
        self.pipe = ChildPipe(process)
        self._stderr = said

    def error_line(self) -> str:
        """Return the first error line of its stderr, else ''."""
        text = os.pread(self._stderr, 1 << 16, 0).decode("utf-8", "replace")
        lines = (line.strip() for line in text.splitlines())
        return next((one for one in lines if "ERROR" in one and "RLIMIT_MEMLOCK" not in one), "")

    async def attached(self) -> None:
        """Wait until the probes are attached.

        Raises:
            Unsupported: bpftrace refuses them, or is not done in 10 s and one more for each probe.
        """
        deadline = time.monotonic() + _START_S + _PROBE_S * self.probes
        while _ATTACHED not in os.pread(self._stderr, 1 << 20, 0):
            if self.process.poll() is not None:
                why = self.error_line() or f"it ended with code {self.process.returncode}"
                raise Unsupported(f"bpftrace did not attach: {why}", hint=_HINT)
            if time.monotonic() > deadline:
                raise Unsupported(
                    f"bpftrace has not attached {self.probes} probes in time",
                    hint="fewer events, or another backend: qtctl tail --backend NAME",
                )
            await asyncio.sleep(_POLL_S)

    async def close(self) -> bool:
        """End it; return whether the kernel has removed all its probes by now.

        It does so whatever happens, but a probe can take it a tenth of a second and more.
        """
        if self.process.stdout is None:
            return True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, _END_S)
        self.process.stdout.close()
        self.process.stdout = None
        os.close(self._stderr)
        gone = self.process.returncode is not None
        if not gone:  # nobody waits for it any more, which Popen would complain of
            self.process.returncode = -signal.SIGKILL
        return gone


def start(program: str, pid: int, probes: int, environment: Mapping[str, str]) -> Tracer:
    """Start bpftrace on ``program`` for one process. It dies with the thread that called this.

    Raises:
        Unsupported: bpftrace is missing, or this user may not attach probes.
    """
    command = shutil.which("bpftrace", path=environment.get("PATH"))
    if command is None:
        raise Unsupported(
            "USDT probes are read with bpftrace, which is not installed",
            hint=f"apt install bpftrace; {_HINT}",
        )
    if os.geteuid() != 0:
        raise Unsupported("bpftrace attaches probes for root only", hint=f"as root; {_HINT}")
    said = os.memfd_create("bpftrace-stderr")
    runner = Path(__file__).with_name("child.py")
    runs = [sys.executable, "-I", "-S", str(runner), str(os.getpid())]
    with os.fdopen(os.memfd_create("bpftrace-program"), "wb") as source:
        source.write(program.encode())
        source.seek(0)
        try:
            process = subprocess.Popen(
                [*runs, command, "-f", "json", "-p", str(pid), "-"],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=said,
                env={
                    **environment,
                    **{f"BPFTRACE_{name}": "1000000" for name in _LIMITS},
                    "BPFTRACE_PERF_RB_PAGES": str(_BUFFER_PAGES),
                    "BPFTRACE_STRLEN": str(TEXT_BYTES + 1),
                    _ATTACHED.decode(): "1",
                },
                start_new_session=True,
            )
        except OSError as error:
            os.close(said)
            raise QtctlError(f"cannot start {command}: {error.strerror}", hint=_HINT) from error
    return Tracer(process, said, probes)
