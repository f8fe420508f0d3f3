"""The rows of a view: bounded, held still, compact, and each still what it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable
from qtctl.ui.scrollback import Note, Scrollback, VisibleRows
from tests.samples import batches

DECLARED = parse_declarations(
    'start(void *dev, void *req, int n) "dev %p req %p n %d"\n'
    'finish(void *dev, void *req, const char *s) "dev %p req %p s %s"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "unknown"], DECLARED)


def decoded(*lines: str) -> Batch:
    """Return the batch of lines of a log."""
    data = "".join(f"{line}\n" for line in lines).encode()
    [batch] = batches(LogDecoder(TABLE, pid=77).end(data, Clocks(1_795_000_000_123_456_789)))
    return batch


def numbered(first: int, count: int) -> Batch:
    """Return records whose ``n`` is their number."""
    return decoded(*(f"7@{n // 1000}.{n % 1000:06}:start dev 0x10 req {0x5000 + n % 100:#x} n {n}"
                     for n in range(first, first + count)))  # fmt: skip


def filled(*counts: int, limit: int = 1 << 20) -> Scrollback:
    kept = Scrollback(limit)
    for count in counts:
        kept.add(numbered(kept.total, count))
    return kept


def numbers(kept: Scrollback) -> list[int]:
    rows = VisibleRows(kept.stretches)
    return list(rows.down(rows.first))


def content(kept: Scrollback, number: int) -> int | str:
    stretch, place = VisibleRows(kept.stretches).at(number)
    if isinstance(stretch.content, Note):
        return stretch.content.text
    return int(
        stretch.content.select(slice(place, place + 1)).arguments(0).values["n"].tolist()[0] or 0
    )


def test_rows_keep_their_numbers_however_they_come() -> None:
    kept = filled(*[1] * 1500, 3000, *[1] * 10, limit=1 << 24)
    assert len(kept.stretches) < 500
    assert numbers(kept) == list(range(4510))
    assert [content(kept, number) for number in (0, 1023, 1024, 1499, 1500, 4509)] == [
        *(0, 1023, 1024, 1499, 1500, 4509)
    ]


def test_the_oldest_are_forgotten_when_there_are_too_many() -> None:
    kept = filled(*[2000] * 40, limit=1 << 20)
    shown = numbers(kept)
    assert shown[-1] == 79_999
    assert 5_000 < len(shown) < 40_000
    assert sum(stretch.size for stretch in kept.stretches) <= 1 << 20
    assert content(kept, shown[0]) == shown[0]


def test_a_record_takes_no_more_than_its_arguments() -> None:
    [stretch] = filled(1000).stretches
    assert stretch.size < 1000 * 75 + 2100


def test_rows_hold_still_and_what_came_meanwhile_is_there_afterwards() -> None:
    kept = filled(100)
    kept.hold(True)
    kept.add(numbered(100, 50))
    assert numbers(kept) == list(range(100))
    kept.hold(False)
    assert numbers(kept) == list(range(150))


def test_a_gap_is_told_where_too_many_came_meanwhile() -> None:
    kept = filled(100, limit=1 << 18)
    kept.hold(True)
    for _ in range(20):
        kept.add(numbered(kept.total, 500))
    assert numbers(kept) == list(range(100))
    kept.hold(False)
    assert "rows came while these held still, and were not kept" in str(content(kept, 100))
    shown = numbers(kept)
    assert shown[:101] == list(range(101))
    assert shown[101] > 200
    assert [content(kept, number) for number in shown[101:]] == shown[101:]


def test_notes_stand_at_their_place() -> None:
    kept = filled(3)
    kept.add(Note("lost", "bad"))
    kept.add(numbered(4, 2))
    assert [content(kept, number) for number in numbers(kept)] == [0, 1, 2, "lost", 4, 5]


def test_clearing_leaves_nothing() -> None:
    kept = filled(10)
    kept.clear()
    assert numbers(kept) == []
    kept.add(numbered(10, 1))
    assert numbers(kept) == [10]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_rows_above_and_below(counts: list[int], data: st.DataObject) -> None:
    kept = filled(*counts)
    number = data.draw(st.integers(0, kept.total + 5))
    rows = VisibleRows(kept.stretches)
    assert list(rows.up(number)) == list(range(min(number, kept.total - 1), -1, -1))
    assert list(rows.down(number)) == list(range(number, kept.total))
    taken = sorted(data.draw(st.sets(st.integers(0, kept.total - 1))))
    found = [stretch.first + int(place) for stretch, places in rows.runs(taken) for place in places]
    assert found == taken
