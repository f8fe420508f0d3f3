"""Memory and CPU of one process that follows many guests.

    python -m benchmarks.guests [--guests 100] [--records 100]

The guests are fakes, each with its own log. The figures are those from the start of ``tail`` until
the events are on in every guest, of ten idle seconds, and of the records that every guest writes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.common import MIB, QTCTL, Home, Usage, end, poll
from tests.fake_qmp import FakeProcess

LIMIT_BYTES = 400 * MIB
PATTERN = "virtio_blk_*"
LINE = "virtio_blk_handle_read vdev 0x1 req 0x2 sector 1 nsectors 1"
_PATIENCE_S = 300.0
_IDLE_S = 10.0
_STARTERS = 4


def fakes(home: Home, count: int, stack: contextlib.ExitStack) -> list[FakeProcess]:
    """Start fakes, several at once; they end with ``stack``."""
    made = [
        FakeProcess(
            *("-qmp", f"unix:{home.path}/{number},server=on,wait=off", "-name", f"vm{number}"),
            *("-D", str(home.path / f"{number}.log")),
            program="qemu-system-fake",
        )
        for number in range(count)
    ]
    for one in made:
        stack.callback(one.stop)
    with ThreadPoolExecutor(_STARTERS) as pool:
        list(pool.map(lambda one: one.__enter__(), made))
    return made


def main() -> int:
    """Measure and print; return 1 if the limit is broken or a record is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--guests", type=int, default=100)
    parser.add_argument("--records", type=int, default=100, help="of each guest")
    options = parser.parse_args()
    with Home() as home, contextlib.ExitStack() as stack:
        guests = fakes(home, options.guests, stack)
        named = [word for one in guests for word in ("-t", one.address)]
        out = stack.enter_context((home.path / "out").open("w+"))
        process = subprocess.Popen(
            [*QTCTL, *named, "-q", "tail", PATTERN, "--ndjson"],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
        )
        stack.callback(end, process)
        usage, began = Usage(process.pid), time.monotonic()
        on = poll(lambda: all(one.tell()["enabled"] for one in guests), _PATIENCE_S, every=1.0)
        usage.sample()
        print(f"{options.guests} guests, events on in all of them: {on}")
        print(f"until then: {time.monotonic() - began:.1f} s, {usage.cpu:.1f} s of CPU")
        before = usage.cpu
        time.sleep(_IDLE_S)
        usage.sample()
        print(f"idle: {(usage.cpu - before) / _IDLE_S:.3f} s of CPU a second")
        for one in guests:
            one.tell(emit=[LINE] * options.records)
        wanted = options.guests * options.records
        poll(lambda: (home.path / "out").read_text().count(LINE[:22]) >= wanted, 60.0, every=1.0)
        usage.sample()
        end(process)
        summary = json.loads((home.path / "out").read_text().splitlines()[-1])
        print(f"{summary['read']:,} of {wanted:,} records read, {summary['lost']} lost")
        print(f"memory: {usage.peak_rss / MIB:.0f} MiB at most (limit {LIMIT_BYTES // MIB})")
    return not on or summary["read"] != wanted or usage.peak_rss > LIMIT_BYTES


if __name__ == "__main__":
    sys.exit(main())
