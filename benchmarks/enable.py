"""``qtctl enable EVENT`` against a bare qemu.qmp script that does the same, on a real QEMU.

    python -m benchmarks.enable [--pairs 40]

Both run alternately, with the same interpreter and cached byte code, on a paused guest. The limit
is on the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import QTCTL, Home, quantile, the_qemu
from tests.qemus import RealGuest

LIMIT = 1.4
EVENT = "virtio_blk_req_complete"
PEER = """\
import asyncio
import sys

from qemu.qmp import QMPClient


async def main() -> None:
    client = QMPClient("peer")
    await client.connect(sys.argv[1])
    await client.execute("trace-event-set-state", {"name": sys.argv[2], "enable": True})
    await client.disconnect()


asyncio.run(main())
"""


def wall(command: list[str], environment: dict[str, str]) -> float:
    """Return the wall-clock time of a command in seconds."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def measure(pairs: int) -> list[tuple[float, float]]:
    """Return pairs of times in seconds: qtctl, and its peer right after it."""
    with Home() as home, RealGuest(the_qemu(), busy=True, extra=["-S"]) as guest:
        script = home.path / "peer.py"
        script.write_text(PEER)
        environment = home.environment
        ours = [*QTCTL, "-t", guest.address, "enable", EVENT]
        theirs = [sys.executable, str(script), guest.address, EVENT]
        for command in (ours, theirs) * 2:
            wall(command, environment)
        return [(wall(ours, environment), wall(theirs, environment)) for _ in range(pairs)]


def main() -> int:
    """Measure and print; return 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    pairs = measure(parser.parse_args().pairs)
    ours = statistics.median(a for a, _ in pairs)
    theirs = statistics.median(b for _, b in pairs)
    ratios = [a / b for a, b in pairs]
    print(f"{Path(QTCTL[-1]).name} enable: median {ours * 1e3:.0f} ms of {len(pairs)}")
    print(f"bare qemu.qmp: median {theirs * 1e3:.0f} ms")
    print(f"ratio of medians {ours / theirs:.2f} (limit {LIMIT:g})")
    print(
        f"ratio of pairs: median {statistics.median(ratios):.2f}, p95 {quantile(ratios, 0.95):.2f}"
    )
    return ours / theirs > LIMIT


if __name__ == "__main__":
    sys.exit(main())
