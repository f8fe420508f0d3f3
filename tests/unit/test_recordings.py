"""Recordings that are cut, damaged, foreign or newer: what can be read is, and the rest is told."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.errors import QtctlError
from qtctl.events.declarations import parse_declarations
from qtctl.events.selection import Selection
from qtctl.recordings import chunks
from qtctl.recordings.chunks import Chunk, ChunkKind
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from qtctl.session.replay import Replay
from tests.fuzz import fuzz_recording
from tests.recordings import read, write
from tests.running import Qtctl
from tests.samples import DATA
from tests.simplefiles import event, header, mapping

DECLARED = parse_declarations('few(int8_t a, const char *s) "%d %s"\nnone(void) ""\n').by_name
BEGIN = header() + mapping(0, "few") + mapping(1, "none")


def batch(first: int, rows: int) -> Batch:
    """Give records whose number is their time and their argument."""
    data = BEGIN + b"".join(event(0, n, n, b"x%d" % n) for n in range(first, first + rows))
    [found] = SimpleDecoder(EventTable.build(None, DECLARED)).feed(data, Clocks(0))
    assert isinstance(found, Batch)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a recording of three chunks of 2, 3 and 4 records."""
    path = tmp_path_factory.mktemp("recordings") / "whole"
    write(path, [batch(0, 2), batch(2, 3), batch(5, 4)], DECLARED, every=True)
    return path.read_bytes()


def places(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, rows) of each chunk of data."""
    at = chunks.HEADER_BYTES
    while (head := chunks.read_head(data, at)) is not None:
        end = at + chunks.HEAD_BYTES + head.stored
        if head.kind == ChunkKind.DATA:
            yield at, end, head.rows
        at = end


def times(path: Path) -> tuple[list[int], int, str]:
    """Return the times that could be read, the losses, and what the reader says."""
    items, replay = read(path)
    found = [int(t) for item in items if isinstance(item, Batch) for t in item.time_ns]
    for item in items:
        if isinstance(item, Batch) and replay.table.names:
            assert [r.args.get("a") for r in item.records()] == item.time_ns.tolist()
    return found, sum(isinstance(item, Loss) for item in items), replay.problem


def test_cut_at_every_byte(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size < chunks.HEADER_BYTES:
            with pytest.raises(QtctlError, match=r"is empty|in its header|no record|neither"):
                read(path)
            continue
        expected = sum(rows for _, end, rows in places(whole) if end <= size)
        found, _, problem = times(path)
        assert found == list(range(expected)), size
        if size >= len(whole) - chunks.TRAILER_BYTES:
            assert not problem  # the trailer only helps to find the index
            continue
        assert f"{expected} records" in problem, (size, problem)
        assert "cut off" in problem or "not ended" in problem
    path.write_bytes(whole)
    assert times(path) == (list(range(9)), 0, "")


def test_every_bit_that_flips_is_noticed(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flipped"
    for at in range(chunks.HEADER_BYTES, len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        hit = [(begin, end, rows) for begin, end, rows in places(whole) if begin <= at < end]
        expected = list(range(9))
        if hit:
            [(begin, _, rows)] = hit
            before = sum(n for start, _, n in places(whole) if start < begin)
            expected = expected[:before] + expected[before + rows :]
        found, losses, problem = times(path)
        assert found == expected, at
        assert losses == len(hit) or not hit
        assert problem or at >= len(whole) - chunks.TRAILER_BYTES, at


def test_damage_tells_where_and_how_much(whole: bytes, tmp_path: Path) -> None:
    _, (begin, end, _), _ = places(whole)
    data = bytearray(whole)
    data[end - 1] ^= 1
    (tmp_path / "a").write_bytes(data)
    found, losses, problem = times(tmp_path / "a")
    assert found == [0, 1, 5, 6, 7, 8]
    assert losses == 1
    assert problem == (
        f"{tmp_path / 'a'} is damaged at byte {begin}: {end - begin} of {len(whole)} bytes could "
        "not be read, 3 records among them; 6 records were"
    )
    (tmp_path / "b").write_bytes(whole[:begin] + bytes(5_000_000) + whole[end:])
    found, losses, problem = times(tmp_path / "b")
    assert (found, losses) == ([0, 1, 5, 6, 7, 8], 1)
    assert f"damaged at byte {begin}: 5000000 of" in problem


def test_names_that_are_damaged_cost_their_meaning_only(whole: bytes, tmp_path: Path) -> None:
    at = whole.index(b"\xf5qtchunk", whole.index(b"\xf5qtchunk") + 1)
    data = bytearray(whole)
    data[at + chunks.HEAD_BYTES + 3] ^= 1
    (tmp_path / "a").write_bytes(data)
    items, replay = read(tmp_path / "a")
    lines = [r.line for item in items if isinstance(item, Batch) for r in item.records()]
    assert len(lines) == 9
    assert lines[0] == "00" * 8 + "02000000" + b"x0".hex()
    assert "is damaged" in replay.problem


def sealed(version: int, writer: bytes = b"qtctl 9.9") -> bytes:
    begin = struct.pack("<8sI48s", b"\x89QTREC\r\n", version, writer)
    return begin + struct.pack("<I", zlib.crc32(begin))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (sealed(2) + b"whatever", "version 2, written by qtctl 9.9; qtctl .* reads version 1"),
        (sealed(1)[:20], "ends in its header, after 20 bytes"),
        (sealed(1)[:-1] + b"\0" + b"x" * 99, "damaged header"),
        (gzip.compress(sealed(1), mtime=0), "packed with gzip"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(QtctlError, match=says):
        read(tmp_path / "a")


def test_a_header_alone_is_a_recording_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(sealed(1))
    assert times(tmp_path / "a")[:2] == ([], 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "rows", "chunks", "guest", "time_ns"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), JSON | st.binary(max_size=40)), max_size=4))
def test_whatever_well_made_chunks_hold(
    tmp_path_factory: pytest.TempPathFactory, content: list[tuple[int, object]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile"
    data = sealed(1)
    for kind, held in content:
        made = (
            Chunk.pack(ChunkKind.DATA, held, 3)
            if isinstance(held, bytes)
            else Chunk.of(ChunkKind.DATA, held)
        ).data
        head = bytearray(made[: chunks.HEAD_BYTES - 4])
        head[8] = kind
        data += bytes(head) + struct.pack("<I", zlib.crc32(head)) + made[chunks.HEAD_BYTES :]
    path.write_bytes(data)
    read(path)


def test_a_later_kind_of_chunk_is_passed_over(whole: bytes, tmp_path: Path) -> None:
    [(begin, _, _), *_] = places(whole)
    extra = bytearray(Chunk.of(ChunkKind.DATA, {}).data)
    extra[8] = 77
    check = zlib.crc32(extra[: chunks.HEAD_BYTES - 4])
    extra[chunks.HEAD_BYTES - 4 : chunks.HEAD_BYTES] = struct.pack("<I", check)
    (tmp_path / "a").write_bytes(whole[:begin] + bytes(extra) + whole[begin:])
    found, losses, problem = times(tmp_path / "a")
    assert (found, losses) == (list(range(9)), 0)
    assert not problem


def test_events_that_occur_later_are_entered(tmp_path: Path) -> None:
    path = tmp_path / "a"
    first = batch(0, 2)
    data = BEGIN + event(1, 9) + event(0, 3, 3, b"x3")
    table = EventTable.build(["none", "few"], DECLARED)
    [second] = SimpleDecoder(table).feed(data, Clocks(0))
    assert isinstance(second, Batch)
    write(path, [first, second, batch(4, 1)], DECLARED, every=True)
    items, replay = read(path)
    names = [r.name for item in items if isinstance(item, Batch) for r in item.records()]
    assert names == ["few", "few", "none", "few", "few"]
    assert replay.table.names == ("few", "none")


def test_a_large_batch_becomes_several_chunks(tmp_path: Path) -> None:
    once = batch(0, 100)
    large = once.select(np.tile(np.arange(100), 2000))
    write(tmp_path / "a", [large], DECLARED)
    assert len(list(places((tmp_path / "a").read_bytes()))) > 1
    assert len(times(tmp_path / "a")[0]) == 200_000


def test_many_small_batches_share_a_chunk(tmp_path: Path) -> None:
    write(tmp_path / "one", [batch(n % 100, 1) for n in range(500)], DECLARED)
    data = (tmp_path / "one").read_bytes()
    assert len(list(places(data))) <= 3  # one, unless the machine stalls for a second
    assert len(times(tmp_path / "one")[0]) == 500


def test_replay_prints_a_recording(run: Qtctl, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(whole)
    ran = run("replay", str(path), "few", "--where", "a > 6", "--time", "none")
    ran.said(0, "vm1 (pid 4711, QEMU 7.2.22)", "9 read, 2 shown, 7 filtered")
    assert ran.out == "few a=7 s='x7'\nfew a=8 s='x8'\n"
    path.write_bytes(whole[:-30])
    ran = run("replay", str(path), "--time", "none").said(1, "cut off at byte")
    assert len(ran.out.splitlines()) == 9
    run("replay", str(path), "nothing*").said(3)
    run("replay", str(path), "--max-events", "1").said(0)


def test_a_file_that_still_grows_is_read_as_far_as_it_was(whole: bytes, tmp_path: Path) -> None:
    [_, (_, end, _), _] = places(whole)
    path = tmp_path / "a"
    path.write_bytes(whole[:end])
    replay = Replay(path, selection=Selection(()))
    with path.open("ab") as file:
        file.write(whole[end:])
    rows = 0
    while (items := replay.step()) is not None:
        rows += sum(len(item) for item in items if isinstance(item, Batch))
    replay.close()
    assert rows == 5
    assert "was not ended" in replay.problem


HOSTILE = DATA / "cases" / "hostile"
WRONG = {
    "struct-175": "virtio_blk_req_complete is []",
    "struct-325": "the format of virtio_blk_req_complete is '\\ud800'",
    "struct-393": "a place in the index is 9223372036854775808",
    "struct-530": "the name of an event is '\\ud800'",
    "struct-539": "the name of an event is []",
    "struct-561": "a place in the index is",
}


@pytest.mark.parametrize("name", WRONG)
def test_nonsense_with_right_checksums_is_damage(run: Qtctl, name: str) -> None:
    ran = run("replay", str(HOSTILE / f"{name}.qtr"), "--all").said(1, "is damaged at byte")
    assert WRONG[name] in ran.err
    lines = ran.out.splitlines()
    assert len([line for line in lines if "virtio_blk_handle_read vdev" in line]) in (20, 100)


def test_names_behind_a_malformed_list_are_not_guessed(tmp_path: Path) -> None:
    names: tuple[object, ...] = ([["few", None]], {}, [["none", None]])
    path = tmp_path / "a"
    data = [Chunk.of(ChunkKind.NAMES, one).data for one in names]
    path.write_bytes(sealed(1) + b"".join(data))
    _, replay = read(path)
    assert replay.table.names == ("few",)
    assert "the list of events is {}, not a list" in replay.problem


def test_an_event_that_is_listed_twice_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, [batch(0, 1)], DECLARED, names=["none", "few"], end=False)
    held = [(kind, content) for kind, _, content in fuzz_recording.parts(path.read_bytes())]
    data = sealed(1)
    for kind, content in held:
        made = json.loads(content) if kind == ChunkKind.NAMES else None
        data += (
            Chunk.pack(ChunkKind(kind), content, 1).data
            if made is None
            else Chunk.of(ChunkKind.NAMES, [made[0], made[0], *made[2:]]).data
            + Chunk.of(ChunkKind.NAMES, [made[1]]).data
        )
    path.write_bytes(data)
    items, replay = read(path)
    assert replay.table.names == ("none", "few")
    # The number of "few" is that of the second "none" now: no record may be called "few".
    names = [r.name for item in items if isinstance(item, Batch) for r in item.records()]
    assert names == ["none"]


def test_mutations_with_right_checksums_are_no_bug() -> None:
    assert fuzz_recording.run(count=60, minutes=60, seed=20261128) == 60
