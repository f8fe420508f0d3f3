"""Mutate pages of the kernel's trace buffer and hold the decoder to what must always be true.

    python -m tests.fuzz.fuzz_ring --minutes 5 [--seed N]

Nothing is raised, whatever the bytes; the same bytes in other chunks give the same records and
losses; there are as many as a plain reader finds.
"""

from __future__ import annotations

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.event_table import EventTable
from tests import ringpages as ring
from tests.fuzz.lines import check, main

_DECLARED = parse_declarations(
    'one(int a, const char *s) "a=%d s=%s"\nnone(void) \n'
    'pair(const char *a, int8_t n, const char *b) "%s %d %s"\n'
).by_name
_TABLE = EventTable.build([*_DECLARED, "undeclared"], _DECLARED)
_ONE, _NONE, _PAIR, _UNDECLARED = range(4)


def decode(chunks: list[bytes]) -> list[object]:
    """Decode and check."""
    decoder = ProbeDecoder(_TABLE, ring.LAYOUT, ring.sites(len(_TABLE)), pid=9)
    seen: list[object] = []
    for chunk in chunks:
        check(decoder.feed(chunk, Clocks(5, 10)), seen)
        assert decoder.pending_bytes < ring.LAYOUT.page_bytes
    check(decoder.flush(Clocks(5, 10)), seen)
    assert decoder.pending_bytes == 0
    assert len(seen) == len([*ring.read(b"".join(chunks))])
    return seen


def seeds() -> list[bytes]:
    """Return pages with records, times and losses of every kind."""
    one = ring.entry(ring.probe(_ONE, -5, texts=(b"a text",)))
    pair = ring.entry(ring.probe(_PAIR, 7, texts=(b"", None)))
    none = ring.entry(ring.probe(_NONE))
    return [
        ring.page(one, none, pair)
        + ring.page(none, ring.extend(1 << 40), one, lost=7)
        + ring.page(ring.discarded(12), ring.absolute(1 << 50), none, lost=-1)
        + ring.page(
            ring.entry(ring.probe(_UNDECLARED, 1)), ring.entry(ring.probe(77)), stamp=1 << 59
        )
        + ring.page(ring.entry(ring.probe(_ONE, 1, texts=(b"x" * 150,))))
    ]


if __name__ == "__main__":
    main(seeds(), decode)
