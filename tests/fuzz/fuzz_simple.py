"""Mutate real files of the simple backend and hold the decoder to what must always be true.

    python -m tests.fuzz.fuzz_simple --minutes 5 [--seed N]

Nothing is raised, whatever the bytes; the same bytes in other chunks give the same records; each
byte belongs to one record at most; a decoder keeps no more than one unfinished record.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import NamedTuple

from qtctl.backends.base import Clocks
from qtctl.backends.simple.decoder import SimpleDecoder, read_names
from qtctl.backends.simple.forms import NATIVE, Form
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import EventTable
from qtctl.records.items import Items, Loss
from tests.samples import capture, declarations
from tests.simplefiles import DROPPED, KINDS, Row, file_of

_VERSIONS = ("7.2", "10.2")
_LONGEST_PENDING = 1 << 15
_SHORT = 24_000


_SMALL = parse_declarations(
    'none(void) ""\nfew(int8_t a, const char *s) "%d %s"\nsome(void *p, int b) "%p %d"\n'
).by_name


class Seed(NamedTuple):
    """A file, and where the names in it end."""

    table: EventTable
    data: bytes
    begin: int
    form: Form = NATIVE

    def decoder(self) -> SimpleDecoder:
        """Return a decoder of such files."""
        numbered = () if self.form.named else self.table.names
        return SimpleDecoder(self.table, form=self.form, numbered=numbered)


def seeds() -> list[Seed]:
    """Return a shortened file of each capture, and small files of all forms."""
    found = []
    for version in _VERSIONS:
        data = capture(f"qemu-{version}-simple-v4.bin")
        names = read_names(data)
        begin = 24 + sum(20 + len(name) for name in names)
        table = EventTable.build(names, declarations(version).by_name)
        found.append(Seed(table, data[: begin + _SHORT], begin))
    table = EventTable.build(None, _SMALL)
    kinds: list[Row] = [(0, 1, ()), (1, 2, (-1, b"text")), (2, 3, (1 << 40, 7)), (DROPPED, 4, (5,))]
    rows = [
        (code, 1000 * at + time_ns, given) for at in range(40) for code, time_ns, given in kinds
    ]
    for form in KINDS:
        begin = len(file_of(form, table.names, ()))
        found.append(Seed(table, file_of(form, table.names, rows), begin, form))
    return found


def mutated(data: bytes, begin: int, rng: random.Random) -> bytes:
    """Change a few things; mostly behind the names, which are long and dull."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(0 if rng.random() < 0.1 else begin, len(out) + 1)
        size = rng.choice((1, 2, 4, 8, 33, 500, 9000))
        match rng.randrange(7):
            case 0:
                out[at : at + size] = rng.randbytes(size)
            case 1:
                del out[at : at + size]
            case 2:
                out[at:at] = bytes(size)
            case 3:
                out[at:at] = out[begin : begin + size]
            case 4:
                out[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case 5:
                out[at:at] = out[:24]
            case _:
                del out[at + rng.randrange(200) :]
        if len(out) < begin:
            return bytes(out)
    return bytes(out)


def run(sample: Seed, data: bytes, cuts: list[int]) -> list[object]:
    """Decode in chunks and check; return what must not depend on the chunks."""
    decoder = sample.decoder()
    seen: list[object] = []
    taken = 0
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        items = decoder.feed(data[begin:end], Clocks(0))
        taken += check(items, seen)
        assert decoder.pending_bytes < _LONGEST_PENDING
        assert decoder.position + decoder.pending_bytes == end
    taken += check(decoder.flush(Clocks(0)), seen)
    assert decoder.position == len(data)
    assert taken + decoder.unread <= len(data)
    return [*seen, decoder.records, decoder.unread, decoder.first_unread]


def check(items: Items, seen: list[object]) -> int:
    """Check batches and note their records; return how many bytes these take."""
    taken = 0
    for item in items:
        if isinstance(item, Loss):
            seen.append((item.count, item.time_ns))
            continue
        assert (item.begin >= item.start).all()
        assert (item.stop >= item.begin).all()
        assert (item.start[1:] >= item.stop[:-1]).all()
        assert item.stop[-1] <= len(item.data)
        assert (item.time_ns >= 0).all()
        taken += int((item.stop - item.start).sum())
        for record in item.records():
            seen.append((record.name, record.time_ns, record.pid, repr(record.args), record.raw))
    return taken


def main() -> int:
    """Fuzz for a while; print the seed of a failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="run this one only")
    options = parser.parse_args()
    samples = seeds()
    first = time.time_ns() if options.seed is None else options.seed
    deadline = time.monotonic() + 60 * options.minutes
    rounds = 0
    while rounds == 0 or (options.seed is None and time.monotonic() < deadline):
        seed = first + rounds
        rng = random.Random(seed)
        sample = rng.choice(samples)
        bad = mutated(sample.data, sample.begin, rng)
        cuts = sorted(rng.randrange(len(bad) + 1) for _ in range(rng.randint(1, 8)))
        try:
            assert run(sample, bad, []) == run(sample, bad, cuts)
        except Exception:
            print(f"seed {seed} fails: --seed {seed}", file=sys.stderr)
            raise
        rounds += 1
    print(f"{rounds} rounds, none failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
