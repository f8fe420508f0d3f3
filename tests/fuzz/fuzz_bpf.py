"""Fuzz the decoder of bpftrace's lines: ``python -m tests.fuzz.fuzz_bpf --minutes 1``.

Mutates good lines; whatever comes, the decoder must not raise, must give the same for any cut, and
must hand over every line that is neither empty nor bpftrace's own talk.
"""

from __future__ import annotations

import argparse
import random
import time

from qtctl.records.columns import Record
from tests.samples import capture
from tests.unit.test_bpf_decoder import MARK, decoded, decoder_of, escaped, line, lost

_TOKENS = (
    b" ", b"\\", b"\\u", b"\\uffffff", b'"', b"\n", b"~", b"0", b"f" * 17, b"{", MARK, b"\0",
    b"\xff", b'{"type": "printf", "data": "', b'\\n"}', b"}}",
    b'{"type": "lost_events", "data": ',
)  # fmt: skip
#: bpftrace's own talk, signs of life, and losses, which are added up.
_SILENT = (
    b'{"type": "attached', b'{"type": "printf", "data": "~', b'{"type": "lost_events"'
)  # fmt: skip


def seeds() -> list[bytes]:
    """Return good lines of every form."""
    every = escaped(bytes(range(1, 256)))
    ours = [
        line(b"0 1f 6ee ffffffffffffffff fffffffe " + every),
        line(b"1 2f 6ee fff8 " + every + MARK + b"two"),
        line(b"2 30 6ee"),
        line(b"3 31 6ee 11 12"),
        line(b"~ 32 1"),
        lost(12),
        b"\n",
    ]
    return ours + capture("qemu-7.2-dtrace-bpftrace.jsonl").splitlines(keepends=True)[:5]


def mutated(lines: list[bytes], rng: random.Random) -> bytes:
    """Return some lines, a few bytes of them changed."""
    data = bytearray(b"".join(rng.choices(lines, k=rng.randrange(1, 20))))
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(3)
        if choice == 0:
            data[at : at + rng.randrange(1, 30)] = b""
        elif choice == 1:
            data[at:at] = rng.choice(_TOKENS)
        else:
            data[at : at + 1] = bytes([rng.randrange(256)])
    return bytes(data)


def check(data: bytes, rng: random.Random) -> None:
    """Hold the promises for one input."""
    decoder = decoder_of()
    whole = decoded(data, decoder=decoder)
    assert all(isinstance(item, Record) or (item.count or 0) > 0 for item in whole)
    taken = [one for one in data.split(b"\n") if one]
    silent = sum(one.startswith(_SILENT) for one in taken)
    assert len(taken) - silent <= len(whole) <= len(taken), data
    cuts = [rng.randrange(len(data) + 1) for _ in range(rng.randrange(8))]
    assert sorted(map(repr, decoded(data, cuts))) == sorted(map(repr, whole)), data


def main() -> None:
    """Run until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rng, lines, rounds = random.Random(seed), seeds(), 0
    end = time.monotonic() + options.minutes * 60
    while time.monotonic() < end:
        check(mutated(lines, rng), rng)
        rounds += 1
    print(f"{rounds} inputs, no surprise")


if __name__ == "__main__":
    main()
