"""Duration of a flood under ``tail --guard``, on a real QEMU that does nothing but port I/O.

    python -m benchmarks.guard [--runs 20]

The duration is the time from the first to the last growth of the log. In half of the runs the
reader of qtctl's output reads nothing. The limit is on the longest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from benchmarks.common import Home, qtctl, the_qemu
from tests.qemus import RealGuest

LIMIT_S = 1.0
_EVENTS = "memory_region_ops_*"
_GUARD = 20_000
_SILENCE_S = 3.0
_START_S = 30.0


def flooded_s(*, read: bool) -> float:
    """Return for how many seconds the log of a guest grew."""
    with Home() as home, RealGuest(the_qemu(), image="ports", busy=True) as guest:
        ours, theirs = os.pipe()
        words = ("tail", _EVENTS, "--guard", str(_GUARD), *(("--where", "1 == 2") if read else ()))
        began = last = 0.0
        size, started = guest.stderr_path.stat().st_size, time.monotonic()
        try:
            with qtctl(home, guest.address, *words, stdout=theirs, stderr=subprocess.DEVNULL):
                while (now := time.monotonic()) - (last or started + _START_S) < _SILENCE_S:
                    if (grown := guest.stderr_path.stat().st_size) != size:
                        size, last, began = grown, now, began or now
                    time.sleep(0.002)
        finally:
            os.close(ours)
            os.close(theirs)
        if not began:
            raise RuntimeError("the guest never logged anything")
        return last - began


def main() -> int:
    """Measure and print; return 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    times = {
        read: [flooded_s(read=read) for _ in range(max(1, runs // 2))] for read in (True, False)
    }
    for read, found in times.items():
        how = "records filtered" if read else "a reader that reads nothing"
        print(f"{how}: median {statistics.median(found):.2f} s, longest {max(found):.2f} s")
    longest = max(max(found) for found in times.values())
    print(f"longest {longest:.2f} s (limit {LIMIT_S:g})")
    return longest > LIMIT_S


if __name__ == "__main__":
    sys.exit(main())
