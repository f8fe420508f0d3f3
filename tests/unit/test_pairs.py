"""Pairing of START and END, against a dict that does it one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.groups import TID
from qtctl.analysis.pairs import (
    NO_KEY,
    PairCounts,
    Pairing,
    check_key,
    learn_key,
    other_ends,
)
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.errors import UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable
from tests.samples import FORMS, declarations, forms, only_batch, running
from tests.simplefiles import event, header, mapping

DECLARED = parse_declarations(
    'begin(void *req, int32_t n, const char *s) "%p %d %s"\n'
    'end(void *req, int32_t n, const char *s, int status) "%p %d %s %d"\n'
    'other(void *req) "%p"\n'
    'no_req(int32_t n) "%d"\n'
    'hides(int32_t n, void *req) "%d"\n'
).by_name
TABLE = EventTable.build(None, DECLARED)
HEAD = header() + mapping(0, "begin") + mapping(1, "end") + mapping(2, "other")

Row = tuple[str, int, int, int, bytes]
"""Event, time, then its arguments req, n and s."""
rows = st.lists(
    st.tuples(
        st.sampled_from(["begin", "end", "other", "loss", "cut"]),
        st.integers(0, 1000),
        st.sampled_from([0, 16, 32, (1 << 64) - 16]),
        st.integers(-2, 1),
        st.sampled_from([b"", b"a", b"\xff"]),
    ),
    max_size=60,
)


@pytest.fixture(params=FORMS)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


def encoded(row: Row) -> bytes:
    name, time_ns, req, n, s = row
    if name == "other":
        return event(2, time_ns, req)
    return event(0, time_ns, req, n, s) if name == "begin" else event(1, time_ns, req, n, s, 0)


def batches(content: Sequence[Row]) -> list[Batch | None]:
    """Batches of the rows, cut where they say so; None for each loss."""
    decoder = SimpleDecoder(TABLE)
    assert not decoder.feed(HEAD, Clocks(0))
    out: list[Batch | None] = []
    data = b""
    for row in [*content, ("cut", 0, 0, 0, b"")]:
        if row[0] not in ("cut", "loss"):
            data += encoded(row)
            continue
        for item in decoder.feed(data, Clocks(0)):
            assert isinstance(item, Batch)
            out.append(item)
        data = b""
        if row[0] == "loss":
            out.append(None)
    return out


Found = list[tuple[int, int, int]]


def plainly(content: Sequence[Row], key: Sequence[str], both: bool) -> tuple[Found, PairCounts]:
    """Pair one by one; ``both``: each ``begin`` ends the one before it."""
    open_: dict[tuple[object, ...], tuple[int, int]] = {}
    met: set[tuple[object, ...]] = set()
    found, counts = [], PairCounts()
    for number, (name, time_ns, *values) in enumerate(content):
        if name == "loss":
            counts.dropped += len(open_)
            open_.clear()
            met.clear()
        have = dict(zip(("req", "n", "s"), values, strict=True))
        which = tuple(have[one] for one in key)
        if name == "begin" and both:
            if which in open_:
                found.append((*open_[which], time_ns))
            open_[which] = (number, time_ns)
        elif name == "begin":
            counts.reused += which in open_
            open_[which] = (number, time_ns)
        elif name == "end" and not both:
            if which in open_:
                found.append((*open_.pop(which), time_ns))
            elif which in met:
                counts.unpaired += 1
            else:
                counts.unseen += 1
        if name in ("begin", "end"):
            met.add(which)
    counts.paired, counts.in_flight = len(found), len(open_)
    return found, counts


KEYS = [("req",), ("n",), ("s",), ("req", "n"), ("s", "req", "n"), NO_KEY]


@given(content=rows, key=st.sampled_from(KEYS), both=st.booleans())
def test_as_a_dict_would(content: list[Row], key: tuple[str, ...], both: bool) -> None:
    expected = plainly(content, key, both)
    numbers = [n for n, row in enumerate(content) if row[0] not in ("cut", "loss")]
    for form in forms():
        with running(form):
            pairing = Pairing(TABLE, ["begin"], ["begin" if both else "end"], key)
            found, tags = [], iter(numbers)
            for batch in batches(content):
                if batch is None:
                    pairing.lose()
                    continue
                given_tags = np.array([next(tags) for _ in range(len(batch))], np.int32)
                got = pairing.feed(batch, given_tags)
                assert got.end_ns.tolist() == batch.time_ns[got.row].tolist()
                columns = (got.tag, got.start_ns, got.end_ns)
                found += list(zip(*(column.tolist() for column in columns), strict=True))
        assert (found, asdict(pairing.counts)) == (expected[0], asdict(expected[1]))


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=300),
    limit=st.integers(1, 20),
)
def test_open_starts_are_bounded_and_none_is_unaccounted(
    steps: list[tuple[bool, int]], limit: int
) -> None:
    content = [("begin" if one else "end", at, 16 * n, 0, b"") for at, (one, n) in enumerate(steps)]
    begun = sum(one for one, _ in steps)
    for form in forms():
        with running(form):
            pairing = Pairing(TABLE, ["begin"], ["end"], ["req"], limit=limit)
            for batch in batches(content):
                assert batch is not None
                pairing.feed(batch)
                assert pairing.counts.in_flight <= limit
        counts = pairing.counts
        assert begun == counts.paired + counts.in_flight + counts.reused + counts.forgotten
        assert len(steps) - begun == counts.paired + counts.unpaired + counts.unseen


@pytest.mark.usefixtures("kernels")
def test_the_oldest_are_forgotten() -> None:
    pairing = Pairing(TABLE, ["begin"], ["end"], ["req"], limit=4)
    content = [("begin", n, n, 0, b"") for n in range(1, 6)]
    content += [("end", 10 + n, n, 0, b"") for n in range(1, 6)]
    [batch] = batches(content)
    assert batch is not None
    assert pairing.feed(batch).start_ns.tolist() == [3, 4, 5]
    assert pairing.counts == PairCounts(paired=3, unpaired=2, forgotten=2)


@pytest.mark.usefixtures("kernels")
def test_many_open_starts_are_kept() -> None:
    count = 5000
    pairing = Pairing(TABLE, ["begin"], ["end"], ["req"])
    opened, closed = (
        batches([(name, n, 64 * n, 0, b"") for n in range(count)])[0] for name in ("begin", "end")
    )
    assert opened is not None
    assert closed is not None
    assert len(pairing.feed(opened)) == 0
    assert pairing.counts.in_flight == count
    assert pairing.feed(closed).start_ns.tolist() == list(range(count))
    assert pairing.counts == PairCounts(paired=count)


@pytest.mark.usefixtures("kernels")
def test_keys_that_did_not_come_are_not_taken_for_ones_that_did() -> None:
    # The hashes of these two keys, and of some of the 4,000, begin with the same 16 bits.
    pairing = Pairing(TABLE, ["begin"], ["end"], ["s", "req", "n"])
    for batch in batches([("begin", 0, (1 << 64) - 16, 1, b""), ("end", 0, 32, -1, b"a")]):
        assert batch is not None
        pairing.feed(batch)
    assert pairing.counts == PairCounts(in_flight=1, unseen=1)
    pairing = Pairing(TABLE, ["begin"], ["end"], ["req"])
    count = 2000
    content = [("begin", n, 48 * n, 0, b"") for n in range(count)]
    content += [("end", n, 48 * n + 16, 0, b"") for n in range(count)]
    for batch in batches(content):
        assert batch is not None
        pairing.feed(batch)
    assert pairing.counts == PairCounts(in_flight=count, unseen=count)


def test_threads_are_a_key_and_records_without_one_are_told() -> None:
    text = b"begin 0x1 1 x\nbegin is not this\n"
    text += b"7@1.000001:begin 0x1 1 x\n8@1.000002:begin 0x1 1 x\n"
    text += b"8@1.000005:end 0x1 1 x 0\n7@1.000007:end 0x1 1 x 0\n"
    batch = only_batch(LogDecoder(TABLE).end(text, Clocks(0)))
    pairing = Pairing(TABLE, ["begin"], ["end"], [TID])
    got = pairing.feed(batch)
    assert (got.end_ns - got.start_ns).tolist() == [3000, 6000]
    assert pairing.counts == PairCounts(paired=2, unreadable=2)
    by_request = Pairing(TABLE, ["begin"], ["end"], ["req"])
    assert len(by_request.feed(batch)) == 1
    assert by_request.counts == PairCounts(paired=1, reused=2, unpaired=1, unreadable=1)
    # An argument that no record has is no key, and is told as such.
    hidden = Pairing(TABLE, ["begin"], ["end"], ["nothing"])
    assert len(hidden.feed(batch)) == 0
    assert hidden.counts.unreadable == 6


@pytest.mark.parametrize(
    ("starts", "ends", "key"),
    [
        (["thread_pool_submit_aio"], ["thread_pool_complete_aio"], ("pool", "req", "opaque")),
        (["virtio_blk_handle_read"], ["virtio_blk_req_complete"], ("vdev", "req")),
        (
            ["virtio_blk_handle_read", "virtio_blk_handle_write"],
            ["virtio_blk_req_complete"],
            ("vdev", "req"),
        ),
        (["usb_msd_cmd_submit"], ["usb_msd_cmd_complete"], ("tag",)),
        (["qcow2_writev_start_req"], ["qcow2_writev_done_req"], ("co",)),
        (["nvme_submit_command"], ["nvme_complete_command"], ("s", "q_index", "cid")),
        (["v9fs_read"], ["v9fs_read_return"], ("tag", "id")),
        (["pci_nvme_io_cmd"], ["pci_nvme_enqueue_req_completion"], ("sqid=cqid", "cid")),
    ],
)
def test_plain_keys_are_learned(starts: list[str], ends: list[str], key: tuple[str, ...]) -> None:
    known = declarations("10.2").by_name
    assert learn_key([known[one] for one in starts], [known[one] for one in ends]) == key


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        ("pci_nvme_io_cmd", "pci_nvme_rw_complete_cb", "cid, which repeats across queues"),
        ("nvme_dsm", "nvme_dsm_done", "share s, offset, bytes"),
        ("cuda_data_send", "cuda_data_recv", "share only data"),
        ("qmp_enter_cont", "qmp_exit_cont", "share no argument"),
    ],
)
def test_what_is_not_plain_is_asked_for(start: str, end: str, says: str) -> None:
    known = declarations("10.2").by_name
    with pytest.raises(UsageError, match=says) as caught:
        learn_key([known[start]], [known[end]])
    assert "--key" in caught.value.hint


def test_keys_are_checked() -> None:
    begin, end, other, no_req, hides = (
        DECLARED[one] for one in ("begin", "end", "other", "no_req", "hides")
    )
    for fine in (("req",), ("req", "n", "s"), (TID,), NO_KEY):
        check_key(fine, [begin], [end])
    with pytest.raises(UsageError, match="other has no argument 'n'") as caught:
        check_key(["n"], [begin], [end, other])
    assert "req" in caught.value.hint
    with pytest.raises(UsageError, match="no argument 'req'"):
        check_key(["req"], [begin], [hides])
    text = parse_declarations('text(const char *n) "%s"\n').by_name["text"]
    with pytest.raises(UsageError, match="a text in one"):
        check_key(["n"], [no_req], [text])


def test_other_events_that_complete_a_request() -> None:
    known = declarations("10.2").by_name
    found = other_ends("pci_nvme_io_cmd", ["pci_nvme_rw_complete_cb"], ["cid"], known)
    assert {"pci_nvme_misc_cb", "pci_nvme_aio_flush_cb"} <= set(found)
    assert "pci_nvme_rw_complete_cb" not in found
    assert other_ends("pci_nvme_io_cmd", ["pci_nvme_rw_cb"], [TID], known) == []
