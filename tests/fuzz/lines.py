"""What the fuzz targets for decoders of text lines share: mutation, cutting, the loop."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence

from qtctl.records.batch import Batch
from qtctl.records.items import Loss

Decode = Callable[[list[bytes]], list[object]]
"""Decodes chunks, checks what must hold, returns what must not depend on the chunks."""

_WORDS = (b"\n", b" ", b": ", b"[", b"]", b"-", b"\0", b"\xff", b"9" * 25, b"x" * 500, b"0x", b"(")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change a few things in ``data``."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(out) + 1)
        size = rng.choice((1, 2, 5, 40, 400))
        match rng.randrange(6):
            case 0:
                out[at : at + size] = rng.randbytes(size)
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = rng.choice(_WORDS)
            case 3:
                start = rng.randrange(len(out) + 1)
                out[at:at] = out[start : start + size]
            case 4:
                out[at : at + 1] = rng.randbytes(1)
            case _:
                del out[at + rng.randrange(2000) :]
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """Cut ``data`` into chunks."""
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(0, 12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def check(items: Sequence[Batch | Loss], seen: list[object]) -> None:
    """Check what every batch promises, and note its records."""
    for item in items:
        if isinstance(item, Loss):
            assert item.count is None or item.count >= 0
            seen.append(item.count)
            continue
        assert len(item) > 0
        assert (item.begin >= item.start).all()
        assert (item.stop >= item.begin).all()
        assert item.stop.max() <= len(item.data)
        assert (item.time_ns >= 0).all()
        for record in item.records():
            text = record.raw if record.raw is not None else record.line
            moment = record.time_ns
            seen.append((record.name, tuple(record.args.items()), moment, record.tid, text))


def main(seeds: Sequence[bytes], decode: Decode) -> None:
    """Mutate ``seeds`` for as long as the command line says; stop at the first failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    deadline = time.monotonic() + options.minutes * 60
    rounds = 0
    while time.monotonic() < deadline:
        rng = random.Random(f"{seed}/{rounds}")
        whole = rng.choice(seeds)
        start = rng.randrange(len(whole))
        data = mutated(whole[start : start + 6000], rng)
        try:
            assert decode(cut(data, rng)) == decode([data])
        except BaseException:
            print(f"failed: --seed {seed}, round {rounds}: {data!r}", file=sys.stderr)
            raise
        rounds += 1
    print(f"{rounds} rounds, seed {seed}: nothing found")
