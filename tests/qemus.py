"""Finds the real QEMUs at hand and boots 512-byte guests in them."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

PROGRAM = "qemu-system-x86_64"

Image = Literal[
    "ports", "virtio-blk", "counting", "sectors", "idle",
    "second-disk", "dirtying", "masked", "ejecting", "panicking",
]  # fmt: skip
#: What a guest does over and over, as code of a boot sector: once at the start, and in each turn.
#: One that is not busy takes so many turns, then it rests until the timer ticks.
_LOOPS: dict[Image, tuple[str, str, int]] = {
    # Port I/O: ``memory_region_ops_*``.
    "ports": ("fa", "e4 64 e6 80 b0 0a e6 70 e4 71", 100),
    # Reads one sector through the BIOS: four ``virtio_*`` events a turn.
    "virtio-blk": ("31 c0 8e c0", "bb 00 80 b8 01 02 b9 01 00 ba 80 00 cd 13 e4 64 e6 80", 1),
    # Port I/O, two a turn; counts the turns in the 32-bit word at ``COUNTER``:
    # cli; xor ax,ax; mov ds,ax; again: in al,64h; out 80h,al; add dword [COUNTER],1.
    "counting": ("fa 31 c0 8e d8", "e4 64 e6 80 66 83 06 00 70 01", 100),
    # Reads one sector after the other, so that no ``virtio_blk_handle_read`` is like another:
    # xor ax,ax; mov ds,ax; again: mov dl,80h; mov si,PACKET; mov ah,42h; int 13h;
    # inc dword [PACKET + 8].
    "sectors": ("31 c0 8e d8", "b2 80 be 00 7d b4 42 cd 13 66 ff 06 08 7d", 1),
    # Waits with interrupts off.
    "idle": ("fa", "f4", 0),
    # Reads sectors of the second disk: as "sectors", with 81h and inc byte.
    "second-disk": ("31 c0 8e d8", "b2 81 be 00 7d b4 42 cd 13 fe 06 08 7d", 1),
    # Writes to each page from 64 KiB to 576 KiB. First it switches the line A20, for TCG of QEMU
    # 7.2 sees which pages are dirty only after such a flush of its TLB: in al,92h; xor al,2;
    # out 92h,al; mov ax,1000h; next: mov es,ax; inc byte [es:0]; add ax,100h; cmp ax,9000h;
    # jb next.
    "dirtying": (
        "fa",
        "e4 92 34 02 e6 92 b8 00 10 8e c0 26 fe 06 00 00 05 00 01 3d 00 90 72 f1",
        1,
    ),
    # Masks all interrupts and waits for one: mov al,ffh; out 21h,al; sti; again: hlt.
    "masked": ("b0 ff e6 21 fb", "f4", 0),
    # Ejects the PCI device in slot 4: mov dx,ae08h; mov eax,10h; out dx,eax.
    "ejecting": ("", "ba 08 ae 66 b8 10 00 00 00 66 ef", 1),
    # As "sectors"; after each 64 it reports a panic to the device pvpanic:
    # test word [PACKET + 8],3fh; jnz over; mov dx,505h; mov al,1; out dx,al; over:
    "panicking": (
        "31 c0 8e d8",
        "b2 80 be 00 7d b4 42 cd 13 66 ff 06 08 7d f7 06 08 7d 3f 00 75 06 ba 05 05 b0 01 ee",
        1,
    ),
}
COUNTER = 0x7000
#: What ``sectors`` asks the BIOS for, at 7d00h: one sector to 0:8000h, from sector 0.
_PACKET = bytes.fromhex("10 00 01 00 00 80 00 00 00 00 00 00 00 00 00 00")
_PACKET_OFFSET = 0x100

#: Makes the timer tick 100 times a second: mode 2, divisor 11932.
_TICKS = "b0 34 e6 43 b0 9c e6 40 b0 2e e6 40"
#: Counts turns: mov bp,N before them; dec bp; jnz behind each.
_COUNT, _AGAIN = "bd {:02x} 00", "4d 75 {:02x}"
#: Waits for the next tick: sti; hlt.
_REST = "fb f4"

_POLL_SECONDS = 0.01
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


#: SeaBIOS does not boot from a virtio disk of a few sectors. A file with a hole takes no room.
_DISK_BYTES = 1 << 30


def boot_sector(image: Image, *, busy: bool) -> bytes:
    """Return the 512 bytes of a boot sector that runs one loop.

    A guest that is not busy leaves the processors to the tests: it rests after some turns until
    the timer ticks, 100 times a second.
    """
    setup, turn, turns = _LOOPS[image]
    if turns and not busy:
        setup = f"{_TICKS} {setup}"
        again = _AGAIN.format(256 - len(bytes.fromhex(turn)) - 3)
        turn = f"{_COUNT.format(turns)} {turn} {again} {_REST}"
    loop = bytes.fromhex(turn)
    loop += bytes([0xEB, 256 - len(loop) - 2])
    code = (bytes.fromhex(setup) + loop).ljust(_PACKET_OFFSET, b"\0") + _PACKET
    return code.ljust(510, b"\0") + b"\x55\xaa"


@dataclass(frozen=True, slots=True)
class Qemu:
    """One QEMU program that can be started here."""

    label: str
    command: tuple[str, ...]
    data_args: tuple[str, ...]
    root: Path | None
    version: tuple[int, int, int]

    @property
    def series(self) -> str:
        """The release series, such as ``7.2``."""
        return f"{self.version[0]}.{self.version[1]}"

    def inside(self, path: Path) -> str:
        """Spell a path of this machine as that QEMU sees it."""
        return str(path) if self.root is None else f"/{path.relative_to(self.root)}"


def _probe(
    label: str, command: Sequence[str], data_args: Sequence[str] = (), root: Path | None = None
) -> Qemu | None:
    try:
        answer = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", answer)
    if found is None:
        return None
    version = (int(found[1]), int(found[2]), int(found[3]))
    return Qemu(label, tuple(command), tuple(data_args), root, version)


def _folder() -> Path:
    named = os.environ.get("QTCTL_QEMU_DIR")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "qtctl-qemu"


def _on_path() -> Qemu | None:
    return _probe("path", [PROGRAM]) if shutil.which(PROGRAM) else None


def _unpacked() -> Qemu | None:
    share = _folder() / "10.0" / "usr" / "share"
    program = _folder() / "10.0" / "usr" / "bin" / PROGRAM
    data_args = [part for name in ("qemu", "seabios") for part in ("-L", str(share / name))]
    return _probe("unpacked", [str(program)], data_args) if program.exists() else None


def _rooted() -> Qemu | None:
    root = (_folder() / "sid").resolve()
    chroot = shutil.which("chroot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if os.geteuid() != 0 or chroot is None or not (root / "usr" / "bin" / PROGRAM).exists():
        return None
    return _probe("rooted", [chroot, str(root), PROGRAM], root=root)


def _built() -> Qemu | None:
    named = os.environ.get("QTCTL_TEST_QEMU")
    # A build from a distribution's source has no firmware of its own; QEMU skips what is missing.
    firmware = [part for name in ("qemu", "seabios") for part in ("-L", f"/usr/share/{name}")]
    return _probe("built", [named], firmware) if named else None


_FINDERS = {"path": _on_path, "unpacked": _unpacked, "rooted": _rooted, "built": _built}

#: Every place a QEMU may be found; tests are parametrised on these, so a missing one is seen.
LABELS = tuple(_FINDERS)

_WHERE = {
    "path": f"no {PROGRAM} on PATH",
    "unpacked": "no 10.0/ in $QTCTL_QEMU_DIR",
    "rooted": "no sid/ in $QTCTL_QEMU_DIR, or not root",
    "built": "$QTCTL_TEST_QEMU names no QEMU",
}


@functools.cache
def find(label: str) -> Qemu | None:
    """Return the QEMU of a label, or nothing when this machine has none."""
    return _FINDERS[label]()


def require(label: str) -> Qemu:
    """Return a QEMU that starts here, or skip the test; in CI the one on PATH must be there."""
    import pytest

    from tests import needs

    qemu = find(label)
    if label == "built" and qemu is not None:
        needs.tracefs()  # a QEMU with the ftrace backend ends at once without it
    if qemu is None and label == "path":
        needs.packaged(PROGRAM, "qemu-system-x86")
    if qemu is None:
        pytest.skip(_WHERE[label])
    return qemu


_DISKS = {
    "nvme": ("-device", "nvme,serial=n,drive=nvme"),
    "scsi": ("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=scsi"),
    "lsi": ("-device", "lsi53c895a,id=l", "-device", "scsi-hd,bus=l.0,drive=lsi"),
    "ahci": ("-device", "ide-hd,drive=ahci"),
    "usb": ("-device", "qemu-xhci", "-device", "usb-storage,drive=usb"),
}
_DEVICES = (
    "usb-kbd", "usb-tablet", "megasas", "VGA", "virtio-serial-pci", "virtio-rng-pci",
    "virtio-balloon-pci", "pvpanic", "pci-testdev", "i6300esb", "isa-serial", "rtl8139,romfile=",
    "virtio-net-pci,romfile=",
)  # fmt: skip


def many_devices(folder: Path) -> list[str]:
    """Return the options of a machine with many devices, whose disks are files of ``folder``."""
    words = ["-machine", "q35", "-m", "64"]
    for name, device in _DISKS.items():
        (folder / name).write_bytes(bytes(1 << 20))
        words += ["-drive", f"if=none,id={name},format=raw,file={folder / name}", *device]
    return words + [word for device in _DEVICES for word in ("-device", device)]


class RealGuest:
    """A guest running one of the boot sectors; ends and cleans up with its ``with`` block.

    ``address`` is the QMP socket as this machine sees it, ``directory`` a private folder that
    QEMU can reach too, ``stderr_path`` where its stderr goes unless ``stderr`` was given.
    ``{dir}`` in ``extra`` stands for that folder as QEMU spells it; ``defaults`` keeps the
    default devices (VGA, parallel0).
    """

    def __init__(
        self,
        qemu: Qemu,
        *,
        image: Image = "ports",
        busy: bool = False,
        extra: Sequence[str] = (),
        stderr: int | IO[bytes] | None = None,
        qmp: bool = True,
        defaults: bool = False,
    ) -> None:
        self.qemu = qemu
        self.image: Image = image
        self.busy = busy
        self.extra = tuple(extra)
        self._stderr = stderr
        self._qmp = qmp
        self._defaults = defaults
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """The guest's private folder."""
        assert self._directory is not None, "the guest is not started"
        return self._directory

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """QEMU itself (a chroot replaces itself by it)."""
        assert self._process is not None, "the guest is not started"
        return self._process

    @property
    def pid(self) -> int:
        """The process id of QEMU."""
        return self.process.pid

    @property
    def address(self) -> str:
        """Path of the QMP socket on this machine."""
        return str(self.directory / "qmp.sock")

    @property
    def stderr_path(self) -> Path:
        """The file that holds QEMU's stderr."""
        return self.directory / "stderr"

    def inside(self, name: str) -> str:
        """Spell a file of the private folder as QEMU sees it, for its command line or HMP."""
        return self.qemu.inside(self.directory / name)

    def arguments(self) -> list[str]:
        """Return QEMU's whole command line."""
        qmp = ["-qmp", f"unix:{self.inside('qmp.sock')},server=on,wait=off"] if self._qmp else []
        return [
            *self.qemu.command,
            *self.qemu.data_args,
            *("-accel", "tcg", "-m", "32"),
            # Without the default devices SeaBIOS gets to the boot sector in a quarter second.
            *(() if self._defaults else ("-nodefaults",)),
            *("-display", "none", "-serial", "none", "-monitor", "none", "-nic", "none"),
            *("-drive", f"if=virtio,format=raw,readonly=on,file={self.inside('boot.img')}"),
            *qmp,
            *(part.replace("{dir}", self.qemu.inside(self.directory)) for part in self.extra),
        ]

    def start(self) -> None:
        """Boot, and return once the monitor greets."""
        base = None if self.qemu.root is None else self.qemu.root / "tmp"
        self._directory = Path(tempfile.mkdtemp(prefix="qtctl-guest-", dir=base))
        try:
            disk = self._directory / "boot.img"
            disk.write_bytes(boot_sector(self.image, busy=self.busy))
            os.truncate(disk, _DISK_BYTES)
            with self.stderr_path.open("wb") as own:
                self._process = subprocess.Popen(
                    self.arguments(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=own if self._stderr is None else self._stderr,
                )
            if self._qmp:
                self._await_greeting()
        except BaseException:
            self.stop()
            raise

    def _await_greeting(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.process.poll() is not None:
                said = self.stderr_path.read_text(errors="replace")
                raise RuntimeError(f"{self.qemu.label}: QEMU ended at once: {said.strip()}")
            with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as lines:
                link.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    link.connect(self.address)
                    if "QMP" in json.loads(lines.readline()):
                        return
                except (OSError, ValueError):
                    if time.monotonic() > deadline:
                        raise
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End QEMU, also a stopped one, and remove the guest's files."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
                # A stopped process takes the signal only when it runs again.
                self._process.send_signal(signal.SIGCONT)
                try:
                    self._process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
            self._process.wait()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
