"""QEMU's USDT probes as uprobes in a tracefs instance.

Source: Documentation/trace/uprobetracer.rst of Linux, checked on 6.18: the kernel counts a probe's
semaphore while it is enabled. Each probe fetches its arguments from places of its own; those with
as many arguments share one kernel event, since removing takes 50 ms for each event, and
``__probe_ip`` of a record tells which probe it was.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qtctl.backends.dtrace.operands import Operand, parse_places
from qtctl.backends.dtrace.probes import UsdtProbe, probes_in
from qtctl.backends.elf import Elf
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.layout import EventFormat
from qtctl.errors import Unsupported
from qtctl.model import Declaration, Kind
from qtctl.records.columns import Int64Array

HINT = "qtctl tail --backend NAME, with another backend of this guest"
_MEMORY_SHARE = 16
"""The part of the machine's memory that buffers may take: 1/16."""
_CPU_KIB = 64 << 10
_IP = "__probe_ip"
_ENTRY = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)")


class Traced(NamedTuple):
    """A probe as it is traced: event ``number`` of the table, at ``offset`` in the file.

    ``numbers`` and ``texts`` are fetch arguments, ``bits`` how many of each number are fetched.
    """

    number: int
    offset: int
    semaphore: int
    numbers: tuple[str, ...]
    bits: tuple[int, ...]
    texts: tuple[str, ...]

    def event(self, group: str) -> str:
        """Return the name of the kernel event, the same for probes with as many arguments.

        It has the group's name too, for ``uprobe_profile`` does not name groups.
        """
        sizes = "".join(str(bits // 8) for bits in self.bits)
        return f"a{sizes}t{len(self.texts)}_{group}"

    def definition(self, group: str, path: str) -> str:
        """Return its line for ``uprobe_events``."""
        count = f"(0x{self.semaphore:x})" if self.semaphore else ""
        words = [f"p:{group}/{self.event(group)}", f"{path}:0x{self.offset:x}{count}"]
        pairs = enumerate(zip(self.numbers, self.bits, strict=True))
        words += [f"a{place}={fetch}:u{bits}" for place, (fetch, bits) in pairs]
        words += [f"p{number}={fetch}:u64" for number, fetch in enumerate(self.texts)]
        words += [f"s{number}={_text(fetch)}:ustring" for number, fetch in enumerate(self.texts)]
        return " ".join(words)

    def fields(self) -> list[tuple[str, int]]:
        """Return the names and sizes of the fields that its records must have, in order."""
        count = range(len(self.texts))
        return [
            *((f"a{number}", bits // 8) for number, bits in enumerate(self.bits)),
            *((f"p{number}", 8) for number in count),
            *((f"s{number}", 4) for number in count),
        ]


class Sites(NamedTuple):
    """Which event a record is, by its kernel event and the address of its probe.

    ``addresses`` are in order; ``events`` and ``kinds`` belong to them. Records have the address
    at ``address_at``, and their arguments from ``arguments_at`` on.
    """

    address_at: int
    arguments_at: int
    addresses: Int64Array
    events: np.ndarray[tuple[int], np.dtype[np.int32]]
    kinds: np.ndarray[tuple[int], np.dtype[np.int32]]


def probes_of(path: str | Path) -> list[UsdtProbe]:
    """Return the probes of provider ``qemu`` in a binary.

    Raises:
        Unsupported: the binary cannot be read, or its notes are malformed.
    """
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image,
        ):
            return probes_in(Elf(image))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise Unsupported(f"cannot read the USDT probes of {path}: {error}", hint=HINT) from error


def traced(index: int, probe: UsdtProbe, declaration: Declaration | None) -> Traced | None:
    """Plan how a probe is traced; None if the kernel cannot fetch what its declaration names.

    All arguments of an event without a declaration are numbers.
    """
    found = parse_places(probe.places)
    if found is None or None in found:
        return None
    places = [place for place in found if place is not None]
    where = index, probe.offset, probe.semaphore
    if declaration is None:
        bits = tuple(place.bits for place in places)
        return Traced(*where, tuple(place.fetch for place in places), bits, ())
    declared = declaration.arguments
    if len(places) == len(declared) + 1:  # the vCPU of a 7.2 event with the property "vcpu"
        places = places[1:]
    if len(places) != len(declared):
        return None
    numbers: list[Operand] = []
    texts: list[Operand] = []
    for place, argument in zip(places, declared, strict=True):
        is_text = argument.kind is Kind.STRING
        if place.bits < (64 if is_text else argument.bits):
            return None
        (texts if is_text else numbers).append(place)
    return Traced(
        *where,
        tuple(place.fetch for place in numbers),
        # What is above the declared type's bits is cut off when it is read.
        (64,) * len(numbers),
        tuple(place.fetch for place in texts),
    )


def _text(fetch: str) -> str:
    """Return the fetch argument of the text that a pointer leads to."""
    return f"@{int(fetch[1:]):#x}" if fetch.startswith("\\") else f"+0({fetch})"


def addresses(pid: int, binary: str, offsets: Iterable[int]) -> dict[int, int]:
    """Return where bytes of a process's executable lie in its memory, by offset in the file.

    Raises:
        Unsupported: one of them is not mapped.
    """
    state = os.stat(binary)  # noqa: PTH116 - follows the link to a file that may be deleted
    device = f"{os.major(state.st_dev):02x}:{os.minor(state.st_dev):02x}"
    name = os.readlink(binary).replace("\n", "\\012")  # noqa: PTH115 - as the kernel writes it
    spans = []
    for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").split("\n"):
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        # Some file systems (btrfs) have other devices here than for stat(2).
        is_same = entry[5] == device and int(entry[6]) == state.st_ino
        if is_same or line.endswith(f" {name}"):
            begin, end, offset = (int(entry[number], 16) for number in (1, 2, 4))
            spans.append((offset, offset + end - begin, begin, "x" in entry[3]))
    spans.sort(key=lambda span: not span[3])  # the code, where parts are mapped several times
    found = {}
    for offset in offsets:
        for low, high, begin, _ in spans:
            if low <= offset < high:
                found[offset] = begin + offset - low
                break
        else:
            raise Unsupported(f"guest {pid} has not mapped all of its executable", hint=HINT)
    return found


def make_instance(folder: Path, pid: int) -> None:
    """Make and set up the instance; it records nothing but events of the guest's threads.

    Raises:
        Unsupported: the kernel refuses.
    """
    with tracefs.making(folder, _buffer_kib(), HINT):
        tracefs.watch_threads(folder, pid)


def _buffer_kib() -> int:
    """Return the size of the buffer of one processor."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 10
    return min(_CPU_KIB, tracefs.per_cpu_kib(total // _MEMORY_SHARE))


def define(root: Path, group: str, binary: str, probes: Sequence[Traced]) -> None:
    """Define the uprobes; none fires yet.

    Raises:
        Unsupported: the kernel refuses; some may be defined.
    """
    path = root / "uprobe_events"
    lines = dict.fromkeys(probe.definition(group, binary) + "\n" for probe in probes)
    try:
        tracefs.write(path, "".join(lines), append=True)
    except FileNotFoundError:
        raise Unsupported(
            "this kernel has no uprobe events (CONFIG_UPROBE_EVENTS)", hint=HINT
        ) from None
    except OSError as error:
        last = _last_error(root)
        why = f": {last}" if last else ""
        locked = "; kernel lockdown forbids it" if tracefs.is_locked() else ""
        raise Unsupported(
            f"the kernel refuses uprobes: {error.strerror}{locked}{why}",
            hint=HINT if os.geteuid() == 0 else f"as root; {HINT}",
        ) from error
    begin = f"p:{group}/"
    defined = sum(line.startswith(begin) for line in path.read_text().splitlines())
    if defined != len(lines):
        raise Unsupported(
            f"the kernel took {defined} of {len(lines)} uprobes: before Linux 5.4 a kernel event "
            "has one probe only",
            hint=HINT,
        )


def hits(root: Path, group: str) -> int:
    """Return how often the kernel came to the probes of a group, in any process."""
    found = 0
    for line in (root / "uprobe_profile").read_text(errors="replace").splitlines():
        words = line.split()
        if len(words) > 1 and words[-2].endswith(f"_{group}"):
            found += int(words[-1])
    return found


def is_alone(pid: int, binary: str) -> bool:
    """Return whether no other process runs the same file, and so comes to the same probes."""
    for path in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if int(path.parent.name) != pid and path.samefile(binary):
                return False
    return True


def _last_error(root: Path) -> str:
    """Return the kernel's last message on a refused definition, else ''."""
    with contextlib.suppress(OSError):
        lines = (root / "error_log").read_text(errors="replace").splitlines()
        found = [line for line in lines if "trace_uprobe: error" in line]
        return found[-1].partition("error: ")[2] if found else ""
    return ""


def formats(folder: Path, group: str, probes: Sequence[Traced]) -> dict[str, EventFormat]:
    """Read the format of each kernel event, and check it.

    Raises:
        ValueError: this kernel has another form of records than is known.
    """
    found: dict[str, EventFormat] = {}
    for probe in probes:
        event = probe.event(group)
        if event in found:
            continue
        one = tracefs.read_format(folder, f"{group}:{event}")
        at = one.fields[_IP].offset + one.fields[_IP].size
        for name, size in probe.fields():
            if name not in one.fields or one.fields[name][:2] != (at, size):
                raise ValueError(f"field {name} of {event} is not at {at}")
            at += size
        found[event] = one
    return found


def sites_of(
    probes: Sequence[Traced],
    group: str,
    known: Mapping[str, EventFormat],
    places: Mapping[int, int],
) -> Sites:
    """Return the sites of probes; ``places`` are addresses by offset in the file."""
    field = next(iter(known.values())).fields[_IP]
    rows = sorted(
        (places[one.offset], one.number, known[one.event(group)].number) for one in probes
    )
    columns = zip(*rows, strict=True)
    found, events, kinds = (np.array(column, np.int64) for column in columns)
    return Sites(
        field.offset,
        field.offset + field.size,
        found,
        events.astype(np.int32),
        kinds.astype(np.int32),
    )
