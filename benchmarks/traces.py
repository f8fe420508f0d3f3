"""Write simple traces of any size: the records of a capture, repeated with increasing times.

``python -m benchmarks.traces FOLDER RECORDS`` writes ``trace`` and ``trace-events-all`` there.
``python -m benchmarks.traces --pairs FILE`` reads a trace record by record, and counts the pairs
that ``latency`` measures.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from benchmarks.common import PAIR
from tests.samples import DATA
from tests.simplefiles import plainly

CAPTURE = DATA / "qemu-7.2-simple-v4.bin.gz"
EVENTS = DATA / "trace-events-all-7.2.gz"


def declared(folder: Path) -> Path:
    """Unpack the declarations of the capture's QEMU; return their path."""
    path = folder / "trace-events-all"
    path.write_bytes(gzip.decompress(EVENTS.read_bytes()))
    return path


class Repeated:
    """A simple trace file of ``records`` records, which repeat those of a capture."""

    def __init__(self, records: int) -> None:
        data = gzip.decompress(CAPTURE.read_bytes())
        at = 24
        while struct.unpack_from("=Q", data, at)[0] == 0:
            at += 20 + int(struct.unpack_from("=I", data, at + 16)[0])
        self.head = data[:at]
        spans = []
        while at < len(data):
            time_ns, size = struct.unpack_from("=QI", data, at + 16)
            spans.append((at, 8 + size, time_ns))
            at += 8 + size
        self._once = b"".join(data[at : at + size] for at, size, _ in spans)
        self._ends = np.cumsum([size for _, size, _ in spans])
        self._times = np.array([time_ns for _, _, time_ns in spans], np.uint64)
        self._records = records

    def write(self, path: Path) -> None:
        """Write the file."""
        places = np.concatenate([[0], self._ends[:-1]]) + 16
        places = (places[:, None] + np.arange(8)).reshape(-1)
        step = self._times.max() - self._times.min() + np.uint64(1000)
        body = np.frombuffer(self._once, np.uint8).copy()
        whole, rest = divmod(self._records, len(self._times))
        with path.open("wb") as file:
            file.write(self.head)
            for turn in range(whole + 1):
                body[places] = (self._times + np.uint64(turn) * step).view(np.uint8)
                # Cut the last repetition after a whole record.
                size = len(body) if turn < whole else int(self._ends[rest - 1]) if rest else 0
                file.write(body[:size].tobytes())


def count_pairs(path: Path) -> int:
    """Count pairs by ``req``, the second argument of both events, record by record."""
    begun: dict[bytes, int] = {}
    spans = []
    for name, time_ns, _, arguments in plainly(path.read_bytes()):
        if name == PAIR[0]:
            begun[arguments[8:16]] = time_ns
        elif name == PAIR[1] and (then := begun.pop(arguments[8:16], None)) is not None:
            spans.append(time_ns - then)
    return len(spans)


if __name__ == "__main__":
    if sys.argv[1] == "--pairs":
        print(count_pairs(Path(sys.argv[2])))
        sys.exit()
    declared(Path(sys.argv[1]))
    Repeated(int(sys.argv[2])).write(Path(sys.argv[1], "trace"))
