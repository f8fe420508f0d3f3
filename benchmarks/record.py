"""Size and CPU time of a recording, against other files with the same events, and compressors.

    python -m benchmarks.record [--seconds 20]

Sizes: on a QEMU with the log and simple backends (``QTCTL_TEST_QEMU``), ``qtctl record`` follows
the simple file; that file and QEMU's log grow at the same time, with the same events. Peers: the
simple file itself, the log, and both compressed by the libraries of ``zstd -3`` and ``gzip -6``.

Flood: the QEMU on PATH floods its log and is recorded. ``written`` is an independent count.
Limits: a recording is smaller than the simple file; all lines written are read or counted as lost;
RSS is below 200 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import zstandard

from benchmarks.common import CLOSING_S, MIB, Home, Qmp, Usage, poll, qtctl, the_qemu
from tests.qemus import Qemu, RealGuest, find

SETS = {
    "a busy disk": ["virtio_*"],
    "port I/O": ["memory_region_ops_*"],
    "everything but I/O": ["*", "--except", "memory_region_*"],
}
RSS_LIMIT = 200 * MIB
SECOND = ("-qmp", "unix:{dir}/second.sock,server=on,wait=off")


@dataclass
class Ran:
    """One run of ``qtctl record``."""

    records: int
    lost: int
    size: int
    seconds: float
    cpu: float
    peak_rss: int


def recorded(guest: RealGuest, home: Home, out: Path, words: list[str], seconds: float) -> Ran:
    """Record for ``seconds`` of the guest; pause the guest before the recording ends."""
    document_path = home.path / "document"
    with document_path.open("wb") as stdout, Qmp(str(guest.directory / "second.sock")) as link:
        link.run("stop")
        arguments = ("--json", "record", *words, "-o", str(out))
        with qtctl(
            home, guest.address, *arguments, stdout=stdout, stderr=subprocess.DEVNULL
        ) as run:
            usage = Usage(run.pid)
            if not poll(out.exists, 60):
                sys.exit("qtctl did not start to record")
            usage.sample()
            before, began = usage.cpu, time.monotonic()
            link.run("cont")
            while time.monotonic() - began < seconds:
                time.sleep(0.2)
                usage.sample()
            link.run("stop")
            took = time.monotonic() - began
            # All that was written so far is read and stored.
            poll(lambda: _quiet(usage), 30, 0.5)
            cpu = usage.cpu - before
        link.run("cont")
    document = json.loads(document_path.read_text())
    [file] = document["files"]
    return Ran(file["records"], document["lost"], file["bytes"], took, cpu, usage.peak_rss)


def _quiet(usage: Usage) -> bool:
    before = usage.cpu
    time.sleep(1.2)
    usage.sample()
    return usage.cpu - before < 0.05


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def packed(path: Path, begin: int, compressor: Compressor) -> tuple[int, float]:
    """Return the compressed size of a file's bytes from ``begin`` on, and the CPU time used."""
    size, began = 0, time.process_time()
    with path.open("rb") as file:
        file.seek(begin)
        while data := file.read(8 * MIB):
            size += len(compressor.compress(data))
    return size + len(compressor.flush()), time.process_time() - began


def zstd() -> Compressor:
    return zstandard.ZstdCompressor(3).compressobj()


def gzip() -> Compressor:
    return zlib.compressobj(6, wbits=31)


def sizes(qemu: Qemu, name: str, patterns: list[str], seconds: float) -> bool:
    """Compare one set of events; return whether the recording is smaller than the simple file."""
    extra = ["-msg", "timestamp=on", "-trace", "file={dir}/trace", *SECOND]
    with Home() as home, RealGuest(qemu, image="virtio-blk", busy=True, extra=extra) as guest:
        out = home.path / "out.qtr"
        places = {"simple file": guest.directory / "trace", "log": guest.stderr_path}
        begins = {what: path.stat().st_size for what, path in places.items()}
        ran = recorded(guest, home, out, ["--backend", "simple", *patterns], seconds)
        time.sleep(CLOSING_S)
        print(f"\n{name}: {ran.records:,} records in {ran.seconds:.0f} s, {ran.lost:,} lost")
        rows = [("recording", ran.size, ran.cpu)]
        for what, path in places.items():
            begin = begins[what]
            rows.append((what, path.stat().st_size - begin, 0.0))
            for how, compress in (("zstd -3", zstd), ("gzip -6", gzip)):
                rows.append((f"{what}, {how}", *packed(path, begin, compress())))
    if not ran.records:
        print("no records")
        return False
    print(f"{'':24} {'bytes':>13} {'a record':>9} {'of simple':>10} {'CPU, ns a record':>17}")
    plain = rows[1][1]
    for what, size, cpu in rows:
        each, share = size / ran.records, size / plain
        cost = f"{1e9 * cpu / ran.records:17.0f}" if cpu else f"{'-':>17}"
        print(f"{what:24} {size:13,} {each:9.2f} {100 * share:9.1f}% {cost}")
    print("CPU of the recording is that of the whole qtctl process")
    return ran.size < plain


def flood(seconds: float) -> bool:
    """Record a guest that floods its log; return whether all lines are recorded or counted lost."""
    with (
        Home() as home,
        RealGuest(the_qemu(), busy=True, extra=["-D", "{dir}/log", *SECOND]) as guest,
    ):
        log, out = guest.directory / "log", home.path / "out.qtr"
        begin = log.stat().st_size if log.exists() else 0
        ran = recorded(guest, home, out, ["memory_region_ops_*"], seconds)
        time.sleep(CLOSING_S)
        written = size = 0
        with log.open("rb") as file:
            file.seek(begin)
            while data := file.read(8 * MIB):
                written += data.count(b"\n")
                size += len(data)
    print(f"\nflood of the log: {written:,} lines written, {written / ran.seconds:,.0f} a second")
    print(f"recorded {ran.records:,}, lost and counted {ran.lost:,}")
    print(f"log {size / MIB:,.0f} MiB, recording {ran.size / MIB:.1f} MiB")
    print(f"CPU {ran.cpu / ran.seconds:.2f} s a second, peak RSS {ran.peak_rss / MIB:.0f} MiB")
    return written == ran.records + ran.lost and ran.peak_rss < RSS_LIMIT


def main() -> int:
    """Run both; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    good = [flood(options.seconds)]
    qemu = find("built")
    if qemu is None:
        print("\nno sizes beside a simple file: QTCTL_TEST_QEMU names no QEMU with that backend")
    else:
        good += [sizes(qemu, name, words, options.seconds) for name, words in SETS.items()]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
