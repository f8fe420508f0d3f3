"""Mutate saved text of a real trace_pipe and hold the decoder to what must always be true.

    python -m tests.fuzz.fuzz_tracepipe --minutes 5 [--seed N]

Nothing is raised, whatever the bytes; the same bytes in other chunks give the same records and
losses, in the same order; a decoder keeps no more than one unfinished record.
"""

from __future__ import annotations

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.model import Declaration
from qtctl.records.batch import EventTable
from tests.fuzz.lines import check, main
from tests.samples import capture, declarations

_LIMIT = 1000
_LONG = Declaration("virtio_notify", (), "\n\n")
_KNOWN = {**declarations("7.2").by_name, "virtio_notify": _LONG}
_TABLE = EventTable.build(_KNOWN, _KNOWN)


def decode(chunks: list[bytes]) -> list[object]:
    """Decode and check."""
    decoder = TraceDecoder(_TABLE, line_limit=_LIMIT)
    seen: list[object] = []
    for chunk in chunks:
        check(decoder.feed(chunk, Clocks(5, 10)), seen)
        # A record of three lines, each short of the limit.
        assert decoder.pending_bytes <= 3 * (_LIMIT + 1)
    check(decoder.flush(Clocks(5, 10)), seen)
    assert decoder.pending_bytes == 0
    return seen


def seeds() -> list[bytes]:
    """Return the capture, and the same with the processes of threads."""
    text = capture("qemu-7.2-ftrace-trace_pipe-with-kvm.txt")
    marks = b"\n".join(line for line in text.split(b"\n") if b"kvm_emulate" not in line)
    return [
        text,
        marks,
        marks.replace(b"   [00", b" (  30300) [00").replace(b"virtio_blk_rw", b"virtio_notify\n"),
    ]


if __name__ == "__main__":
    main(seeds(), decode)
