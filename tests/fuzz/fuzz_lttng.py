"""Fuzz the decoder of babeltrace2's text: ``python -m tests.fuzz.fuzz_lttng --minutes 1``.

Mutates real text; whatever comes, the decoder must not raise, must give the same for any cut, and
must hand over every line.
"""

from __future__ import annotations

import argparse
import random
import time

from qtctl.backends.base import Clocks
from qtctl.backends.ust.decoder import LttngDecoder
from qtctl.records.batch import Batch
from qtctl.records.items import Loss
from tests.samples import event_table
from tests.unit.test_lttng_decoder import live_text, warning

_TOKENS = (
    b"{ ", b" }", b", ", b" = ", b'"', b"\\", b"\\x4", b"0x", b"-", b"\n", b"qemu:", b"[", b"]",
    b"18446744073709551616", b"WARNING: Tracer discarded ", b" events", b"\0", b"\xff",
)  # fmt: skip


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Return some lines of ``seed``, a few bytes of them changed."""
    lines = seed.splitlines(keepends=True)
    first = rng.randrange(len(lines))
    data = bytearray(b"".join(lines[first : first + rng.randrange(1, 20)]))
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            data[at : at + rng.randrange(1, 30)] = b""
        elif choice == 1:
            data[at:at] = rng.choice(_TOKENS)
        elif choice == 2:
            data[at : at + 1] = bytes([rng.randrange(256)])
        else:
            data[at:at] = warning(f"discarded {rng.choice((1, 5, 2**63, 2**64 - 5))} events")
    return bytes(data)


def read(data: bytes, rng: random.Random | None = None) -> list[object]:
    """Decode ``data``, cut at random places where there is ``rng``."""
    decoder = LttngDecoder(event_table("7.2"))
    out: list[object] = []
    at = 0
    while at < len(data):
        size = rng.randrange(1, 200) if rng else len(data)
        for item in decoder.feed(data[at : at + size], Clocks(1)):
            out += list(item.records()) if isinstance(item, Batch) else [item]
        at += size
    for item in decoder.flush(Clocks(1)):
        out += list(item.records()) if isinstance(item, Batch) else [item]
    assert decoder.pending_bytes == 0
    return out


def check(data: bytes, rng: random.Random) -> None:
    """Hold the promises for one input."""
    whole = read(data)
    lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    warnings = data.count(b"WARNING: Tracer")
    assert lines - warnings <= len(whole) <= lines, (lines, warnings, len(whole), data)
    assert all(i.count is None or i.count > 0 for i in whole if isinstance(i, Loss))
    # A plan is made from the first rows read together, so arguments may differ with the cut
    # where the rows contradict each other; what the records are may not.
    assert _shape(read(data, rng)) == _shape(whole), data


def _shape(items: list[object]) -> list[object]:
    return [
        i if isinstance(i, Loss) else (getattr(i, "name", ""), getattr(i, "time_ns", 0))
        for i in items
    ]


def main() -> None:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    seed, end, count = live_text(), time.monotonic() + 60 * options.minutes, 0
    while time.monotonic() < end:
        check(mutated(seed, rng), rng)
        count += 1
    print(f"{count} inputs, seed {options.seed}: all held")


if __name__ == "__main__":
    main()
