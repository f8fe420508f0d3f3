"""Two runs, record by record: nothing is called the same that is not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from qtctl.analysis.alignment import Alignment
from qtctl.analysis.fingerprints import Correspondence
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from tests.running import Qtctl

CASES = Path(__file__).parents[1] / "data/cases/backends"
DECLARED = """
read(void *dev, void *req, int n, const char *name) "dev %p req %p n %d name %s"
done(void *req, int ret) "req %p ret %d"
tick(void) ""
"""
KNOWN = parse_declarations(DECLARED).by_name
TABLE = EventTable.build(None, KNOWN)

Row = tuple[str, int, int]
"""Event, address (0: NULL) and number."""
ROWS = st.lists(
    st.tuples(st.sampled_from(["read", "done", "tick"]), st.integers(0, 3), st.integers(0, 2)),
    max_size=60,
)


def text(rows: Sequence[Row], base: int = 0x7F0000000000, tid: int = 7) -> str:
    lines = []
    for at, (name, address, number) in enumerate(rows):
        where = f"{base + 16 * address:#x}" if address else "(nil)"
        args = {
            "read": f" dev {base:#x} req {where} n {number} name s{number}",
            "done": f" req {where} ret {number}",
            "tick": "",
        }[name]
        lines.append(f"{tid}@1000.{at:06}:{name}{args}\n")
    return "".join(lines)


def items(text: str, cuts: Sequence[int] = ()) -> list[Item]:
    decoder = LogDecoder(TABLE)
    data = text.encode()
    found: list[Item] = []
    for low, high in pairwise([0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]):
        found += decoder.feed(data[low:high], Clocks(0))
    return [*found, *decoder.flush(Clocks(0))]


def aligned(one: Sequence[Item], two: Sequence[Item]) -> Alignment:
    alignment, sides = Alignment(), (iter(one), iter(two))
    while (number := alignment.behind()) is not None:
        item = next(sides[number], None)
        if item is None:
            alignment.end(number)
        else:
            alignment.take(number, item)
    return alignment


def plain(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without what does not stand in their text."""
    return [row if row[0] != "tick" else ("tick", 0, 0) for row in rows]


CUTS = st.lists(st.integers(0, 5000), max_size=3)


@settings(phases=[Phase.generate])
@given(one=ROWS, two=ROWS, cuts=CUTS, more=CUTS)
def test_every_record_is_counted_once(
    one: list[Row], two: list[Row], cuts: list[int], more: list[int]
) -> None:
    found = aligned(items(text(one), cuts), items(text(two), more))
    assert found.parted is None
    assert found.same + found.changes + found.only[0] == len(one)
    assert found.same + found.changes + found.only[1] == len(two)
    blind = [[(name, bool(address), n) for name, address, n in plain(rows)] for rows in (one, two)]
    assert found.alike == (blind[0] == blind[1])
    if plain(one) != plain(two):
        assert found.differ or not found.alike
    if found.places:
        first = next(
            (at for at, (a, b) in enumerate(zip(*blind, strict=False)) if a != b),
            min(len(one), len(two)),
        )
        assert found.places[0].at == (first + 1, first + 1)


RUN: list[Row] = [(("read", "done")[n % 2], 1 + n // 2 % 3, n // 10 % 7) for n in range(2000)]
ITEMS = items(text(RUN))


@settings(max_examples=50, phases=[Phase.generate])
@given(at=st.integers(0, 1999), kind=st.sampled_from(["change", "drop", "add"]), cuts=CUTS)
def test_one_difference_is_found_at_its_place(at: int, kind: str, cuts: list[int]) -> None:
    other = list(RUN)
    name = other[at][0]
    if kind == "change":
        other[at] = name, other[at][1], 99
    elif kind == "drop":
        del other[at]
    else:
        other.insert(at, ("tick", 0, 0))
    found = aligned(ITEMS, items(text(other), cuts))
    assert (found.changes, found.only) == {
        "change": (1, [0, 0]),
        "drop": (0, [1, 0]),
        "add": (0, [0, 1]),
    }[kind]
    [place] = found.places
    assert place.at == (at + 1, at + 1)
    assert len(place.before) == min(at, 3)
    arguments = {("read", "n"), ("read", "name")} if name == "read" else {("done", "ret")}
    assert set(found.changed) == (arguments if kind == "change" else set())


def test_addresses_and_threads_match_by_order_of_appearance() -> None:
    found = aligned(items(text(RUN)), items(text(RUN, base=0x550000000000, tid=8)))
    assert found.alike
    assert found.differ == {"threads", "addresses"}
    assert (found.addresses.differ, found.threads.differ) == (0, 0)
    other = list(RUN)
    other[1000] = other[1000][0], 1 + other[1000][1] % 3, other[1000][2]
    found = aligned(items(text(RUN)), items(text(other, base=0x550000000000)))
    assert found.alike
    assert found.first_addresses == (1001, 1001)
    assert found.addresses.differ > 0


def test_null_is_no_address() -> None:
    found = aligned(items(text([("done", 0, 1)])), items(text([("done", 1, 1)])))
    assert not found.alike
    assert found.changes == 1


def test_an_argument_that_always_differs_costs_nothing_else() -> None:
    other = [
        (name, address, number + 50) if name == "read" else (name, address, number)
        for name, address, number in RUN
    ]
    found = aligned(items(text(RUN)), items(text(other)))
    assert (found.changes, found.only, found.same) == (1000, [0, 0], 1000)
    assert found.changed["read", "n"].count == 1000
    assert found.changed["read", "n"].values == (0, 50)
    assert set(found.changed) == {("read", "n"), ("read", "name")}


def test_a_long_stretch_of_one_run_is_passed_over() -> None:
    extra: list[Row] = [("tick", 0, 0)] * 3000
    found = aligned(items(text(RUN)), items(text([*RUN[:500], *extra, *RUN[500:]])))
    assert (found.same, found.only) == (2000, [0, 3000])
    assert [(place.at, place.counts) for place in found.places] == [((501, 501), (0, 3000))]


def test_runs_with_nothing_in_common_part() -> None:
    one: list[Row] = [("tick", 0, 0)] * 70_000
    two: list[Row] = [("done", 1, 1)] * 70_000
    found = aligned(items(text(one)), items(text(two)))
    assert found.parted == (1, 1)
    assert not found.alike


def test_a_loss_is_never_the_same_as_another() -> None:
    parts = items(text(RUN[:10])), items(text(RUN[10:20]))
    lost = [*parts[0], Loss(Backend.LOG, 3, 0), *parts[1]]
    for other in (lost, [*parts[0], *parts[1]]):
        found = aligned(lost, other)
        assert not found.alike
        assert found.same == 20
        assert found.places[0].at == (11, 11)


def test_what_is_not_parsed_is_compared_as_text() -> None:
    one = "1@1.000001:done some 0x7f0000001000 1\n"
    assert aligned(items(one), items(one.replace("7f0", "550"))).alike
    found = aligned(items(one), items(one.replace("some", "other")))
    assert found.changed["done", "raw"].values == (
        "some 0x7f0000001000 1",
        "other 0x7f0000001000 1",
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40))
def test_numbers_correspond_as_a_dict_would_say(pairs: list[tuple[int, int]]) -> None:
    one, two = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
    fits = len(set(pairs)) == len(set(one.tolist())) == len(set(two.tolist()))
    whole = Correspondence()
    assert (whole.take(one, two) is None) == fits
    by_one = Correspondence()
    for a, b in pairs:
        by_one.take(np.array([a]), np.array([b]))
    assert by_one.differ == whole.differ


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    (tmp_path / "all").write_text(DECLARED)
    with Qtctl(tmp_path / "home") as command:
        yield command


EVENTS_ALL = """
virtio_blk_handle_read(void *vdev, void *req, int sector, int n) \
"vdev %p req %p sector %d nsectors %d"
virtio_blk_rw_complete(void *vdev, void *req, int ret) "vdev %p req %p ret %d"
virtio_blk_req_complete(void *vdev, void *req, int status) "vdev %p req %p status %d"
"""


def test_the_argument_and_the_record_of_the_case_are_found(run: Qtctl, tmp_path: Path) -> None:
    (tmp_path / "blk").write_text(EVENTS_ALL)
    one, two = str(CASES / "x1.log"), str(CASES / "x2.log")
    words = ("diff", one, two, "--events-all", str(tmp_path / "blk"))
    out = run(*words).said(0).out
    assert "argument\tvirtio_blk_handle_read sector\t0\t9\tin 1, first 301\n" in out
    assert "records: 598 the same, 1 changed, 1 only in A, 0 only in B\n" in out
    assert "the runs part at record 301 of A, 301 of B:\n" in out
    assert "at record 400 of A, 400 of B:\n" in out
    assert "no differences" not in out
    document = json.loads(run(*words, "--json").said(0).out)
    assert document["same"] is False
    [argument] = document["arguments"]
    assert (argument["argument"], argument["values"], argument["at"]) == (
        "sector",
        [0, 9],
        [301, 301],
    )
    assert [place["at"] for place in document["places"]] == [[301, 301], [400, 400]]


def test_no_differences_is_said_of_equal_records_alone(run: Qtctl, tmp_path: Path) -> None:
    def ran(one: str, two: str) -> str:
        paths = []
        for name, content in (("one", one), ("two", two)):
            (tmp_path / name).write_text(content)
            paths.append(str(tmp_path / name))
        return run("diff", *paths, "--events-all", str(tmp_path / "all")).said(0).out

    read = [line for line in text(RUN).splitlines(keepends=True) if "done" not in line]
    noise = text(RUN).replace("done", "unheard_of")
    assert ran(noise, "".join(read)) == (
        "no differences in 1000 records; others could not be read, or were lost\n"
        "not compared: 1000 lines of A and 0 of B that are no records\n"
    )
    base = text(RUN)
    assert ran(base, base) == "no differences\n"
    same = "the same 2000 records in the same order; "
    assert ran(base, base.replace("@1000.", "@1001.")) == f"{same}times differ\n"
    assert ran(base, text(RUN, tid=9)) == f"{same}threads differ\n"
    assert ran(base, text(RUN, base=0x550000000000)) == f"{same}addresses differ\n"
