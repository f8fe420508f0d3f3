"""Mutate lines of the system log and hold the decoder to what must always be true.

    python -m tests.fuzz.fuzz_syslog --minutes 5 [--seed N]

Nothing is raised, whatever the bytes; the same bytes in other chunks give the same records and
losses, in the same order; a decoder keeps no more than the lines of one text
and an unfinished line.
"""

from __future__ import annotations

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import SPAN_BYTES
from qtctl.backends.syslog.decoder import SyslogDecoder
from tests.fuzz.lines import check, main
from tests.samples import capture, event_table

_PID, _LIMIT, _NOW = 30513, 1000, 1_795_400_000_000_000_000


def decode(chunks: list[bytes]) -> list[object]:
    """Decode and check."""
    decoder = SyslogDecoder(event_table("7.2"), pid=_PID, unit="a.scope", line_limit=_LIMIT)
    seen: list[object] = []
    for chunk in chunks:
        check(decoder.feed(chunk, Clocks(_NOW)), seen)
        assert decoder.pending_bytes <= SPAN_BYTES + 1 + _LIMIT
    check(decoder.flush(Clocks(_NOW)), seen)
    assert decoder.pending_bytes == 0
    return seen


def seeds() -> list[bytes]:
    """Return the captured datagrams as each daemon would write them, with its notices."""
    raw = capture("qemu-7.2-syslog-datagrams.txt")
    texts = [line.partition(b": ")[2] for line in raw.splitlines()]
    found = [raw]
    for time in (b"Nov 22 21:39:36", b"2026-11-22T21:39:36.295065+01:00", b"1795383452.853284"):
        head = time + b" host "
        lines = [head + b"qemu-system-x86_64[30513]: " + text for text in texts]
        lines[5] = head + b"rsyslogd: imuxsock[pid: 30513, name: q]: 8 messages lost due to rate-"
        lines[5] += b"limiting (1)"
        lines[9] = head + b"qemu[30513]: message repeated 3 times: [ " + texts[9] + b"]"
        lines[12] = head + b"systemd-journald[9]: Suppressed 12 messages from a.scope"
        lines[15] = head + b"cron[9]: hello"
        found.append(b"\n".join(lines) + b"\n")
    return found


if __name__ == "__main__":
    main(seeds(), decode)
