"""Fuzz recordings with right checksums: ``python -m tests.fuzz.fuzz_recording --minutes 1``.

Each input is a good recording of which one part has another value, with all checksums made anew.
Whatever comes, no verb may report a bug of qtctl, and nothing below 0x20 may reach the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qtctl.cli import main as qtctl
from qtctl.recordings import chunks
from qtctl.recordings.chunks import Chunk, ChunkKind
from tests.samples import DATA

_HOSTILE = DATA / "cases" / "hostile"
SEEDS = [*sorted(_HOSTILE.glob("seed-*.qtr")), _HOSTILE / "raw-osc-in-argument-name.qtr"]
_NAMES = ("virtio_blk_handle_read", "virtio_blk_req_complete")
VERBS: tuple[tuple[str, ...], ...] = (
    ("replay", "FILE"),
    ("replay", "FILE", "--all", "--ndjson"),
    ("replay", "FILE", "--where", "req > 5 or s == 'x'"),
    ("count", "--from", "FILE", "--json"),
    ("count", _NAMES[0], "--from", "FILE", "--hist", "nsectors"),
    ("latency", *_NAMES, "--from", "FILE"),
    ("diff", "FILE", "SEED"),
    ("export", "--to", "csv", "FILE"),
    ("export", "--to", "perfetto", "FILE", "-o", "OUT"),
    ("export", "--to", "ctf", "FILE", "-o", "OUT"),
    ("export", "--to", "parquet", "FILE", "-o", "OUT"),
    ("query", "SELECT event, count(*), max(time_ns) FROM events GROUP BY 1", "FILE"),
)
_WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**32, 2**63, -(2**63), 2**64, 10**30, 1e300, 0.5, "",
    "x", "\ud800", "\udcff", "é", "\x1b]0;x\x07", "%s", "%n", "%999999999999999999999d", "%.*s",
    "../../x", "a/b", "rows", "log", "text", "x" * 300, "x" * 70_000, "\0", "\n", [], {}, [[]],
    [1], [1, 2], {"type": "rows"}, {"type": "mark", "text": "\x1b[2J"}, ["x", None],
    {"type": "flood"}, {"type": "loss", "backend": "log", "count": 2**70},
)  # fmt: skip


def parts(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind, rows and content of each chunk."""
    at = chunks.HEADER_BYTES
    while (head := chunks.read_head(data, at)) is not None:
        at += chunks.HEAD_BYTES
        content = chunks.content(head, data[at : at + head.stored])
        assert content is not None
        yield head.kind, head.rows, content
        at += head.stored


def _spots(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything in a JSON document."""
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _spots(node[key])


def changed(document: Any, rng: random.Random) -> Any:
    """Return a JSON document with one part of it changed."""
    document = copy.deepcopy(document)
    spots = list(_spots(document))
    if not spots or rng.random() < 0.03:
        return rng.choice(_WEIRD)
    at, key = rng.choice(spots)
    choice = rng.randrange(8)
    if choice == 0:
        del at[key]
    elif choice == 1 and isinstance(at, list):
        at.insert(key, copy.deepcopy(rng.choice(at)))
    elif choice == 2:
        other, place = rng.choice(spots)
        at[key] = copy.deepcopy(other[place])
    elif choice == 3 and isinstance(at[key], int):
        at[key] += rng.choice((-1, 1, 255, 2**31, 2**62))
    elif choice == 4:
        at[key] = [[copy.deepcopy(at[key])]]
    else:
        at[key] = rng.choice(_WEIRD)
    return document


def _text(document: Any, rng: random.Random) -> bytes:
    text = json.dumps(document)
    if rng.random() < 0.03:  # what json.dumps does not make
        number = re.search(r"\d+", text)
        spot = number.span() if number else (0, 0)
        weird = rng.choice(("9" * 5000, "[" * 100_000, "NaN", "Infinity", "\x00", "1e9999"))
        text = text[: spot[0]] + weird + text[spot[1] :]
    return text.encode()


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """Return a recording with one of its chunks changed; the index then finds the moved chunks."""
    held = list(parts(seed))
    which = rng.randrange(len(held))
    out = seed[: chunks.HEADER_BYTES]
    places: list[int] = []
    for at, (kind, rows, content) in enumerate(held):
        if at == which:
            content = _changed_content(kind, content, rng)
        elif kind == ChunkKind.END:
            content = json.dumps({**json.loads(content), "chunks": places}).encode()
        if kind in (ChunkKind.FACTS, ChunkKind.NAMES):
            places.append(len(out))
        chunk = Chunk.pack(ChunkKind(kind), content, rows)
        out += chunk.data
    return out + (chunks.trailer(chunk) if rng.random() < 0.7 else b"")


def _changed_content(kind: int, content: bytes, rng: random.Random) -> bytes:
    if kind != ChunkKind.DATA:
        return _text(changed(json.loads(content), rng), rng)
    (size,) = struct.unpack_from("<I", content)
    index, packed = json.loads(content[4 : 4 + size]), bytearray(content[4 + size :])
    if rng.random() < 0.6:
        index = changed(index, rng)
    else:
        for _ in range(rng.randrange(1, 5)):
            packed[rng.randrange(len(packed))] = rng.randrange(256)
    text = _text(index, rng)
    return struct.pack("<I", len(text)) + text + bytes(packed)


@contextlib.contextmanager
def _captured(fd: int) -> Iterator[list[str]]:
    """Append what is written to a descriptor in the block to the list: qtctl does not use print."""
    held: list[str] = []
    stream = (sys.stdout, sys.stderr)[fd - 1]
    stream.flush()
    kept = os.dup(fd)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), fd)
        try:
            yield held
        finally:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            os.dup2(kept, fd)
            os.close(kept)
            file.seek(0)
            held.append(file.read().decode("utf-8", "backslashreplace"))


def check(data: bytes, verb: tuple[str, ...], folder: Path) -> None:
    """Hold the promises for one input and one verb."""
    path, out = folder / "input.qtr", folder / "out"
    path.write_bytes(data)
    words = {"FILE": str(path), "OUT": str(out), "SEED": str(SEEDS[0])}
    with _captured(1) as stdout, _captured(2) as stderr:
        code = qtctl([words.get(word, word) for word in verb])
    said = stderr[0]
    shutil.rmtree(out, ignore_errors=True)
    out.unlink(missing_ok=True)
    assert "bug in qtctl" not in said and "Traceback" not in said, said
    assert code in (0, 1, 2, 3), (code, said)
    printed = stdout[0] + said
    if "csv" not in verb:  # CSV is for programs, which get what the record says
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", printed), printed


def run(count: float, minutes: float, seed: int) -> int:
    """Check inputs until there were ``count``, or the time is over; return how many."""
    rng, rounds = random.Random(seed), 0
    seeds = [path.read_bytes() for path in SEEDS]
    end = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory() as folder:
        while rounds < count and time.monotonic() < end:
            data, verb = mutated(rng.choice(seeds), rng), rng.choice(VERBS)
            try:
                check(data, verb, Path(folder))
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"qtctl-fuzz-{seed}-{rounds}.qtr"
                kept.write_bytes(data)
                print(f"seed {seed}, input {rounds}, kept as {kept}: {' '.join(verb)}", flush=True)
                raise
            rounds += 1
    return rounds


def main() -> None:
    """Run until the time is over, or ``--count`` inputs were tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--count", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rounds = run(options.count, options.minutes, seed)
    print(f"{rounds} inputs, no surprise")


if __name__ == "__main__":
    main()
