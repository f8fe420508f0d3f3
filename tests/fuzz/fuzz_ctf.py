"""Mutate packets and metadata of CTF, and hold the reader to what must always be true.

    python -m tests.fuzz.fuzz_ctf --minutes 5 [--seed N]

Nothing is raised, whatever the bytes; the same bytes in other chunks give the same records and
losses; compiled and interpreted kernels agree (``test_decoder_contract.py``). Metadata are parsed,
or refused with a ValueError.
"""

from __future__ import annotations

import struct

from qtctl.backends.base import Clocks
from qtctl.backends.ust.ctf import declared_events
from qtctl.backends.ust.decoder import CtfDecoder
from qtctl.backends.ust.layout import TraceLayout
from qtctl.backends.ust.metadata import parse_metadata
from qtctl.events.declarations import parse_declarations
from qtctl.records.event_table import EventTable
from tests import ctffiles as ctf
from tests.fuzz.lines import check, main

_DECLARED = parse_declarations(
    'one(int a, const char *s) "a=%d s=%s"\nnone(void) \n'
    'pair(const char *a, int8_t n, const char *b) "%s %d %s"\n'
).by_name
_TABLE = EventTable.build([*_DECLARED, "undeclared"], _DECLARED)
_LAYOUT = ctf.layout(_TABLE)
_TEXT = struct.pack("<i", -5) + b"hi\0"


def decode(chunks: list[bytes]) -> list[object]:
    """Decode and check; take the bytes for metadata, too."""
    decoder = CtfDecoder(_LAYOUT, pid=9)
    seen: list[object] = []
    for chunk in chunks:
        check(decoder.feed(chunk, Clocks(5)), seen)
    check(decoder.flush(Clocks(5)), seen)
    assert decoder.pending_bytes == 0
    data = b"".join(chunks)
    try:
        trace = parse_metadata(data)
        TraceLayout(trace, EventTable.build([*declared_events(trace)], {}))
    except ValueError:
        pass
    return seen


def seeds() -> list[bytes]:
    """Return packets with all that they may have, and metadata."""
    packets = [
        ctf.packet(ctf.record(0, 5, _TEXT), ctf.record(1, 6), size=200),
        ctf.packet(ctf.record(2, 7, b"a\0\x07b\0"), sequence=1, discarded=5),
        ctf.packet(ctf.record(3, 7, bytes(8)), ctf.record(77, 5), sequence=3, discarded=2),
    ]
    return [b"".join(packets) * 3, ctf.table_text(_TABLE).encode()]


if __name__ == "__main__":
    main(seeds(), decode)
