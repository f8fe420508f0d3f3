"""The question that people ask, and what is measured: on batches, without a guest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qtctl.analysis.groups import OTHERS
from qtctl.analysis.latency import Latency, Question
from qtctl.analysis.pairs import PairCounts
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import NothingMatched, UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock, Mark
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from tests.samples import only_batch

DECLARED = parse_declarations(
    'io_read(void *dev, void *req, int size) "%p %p %d"\n'
    'io_write(void *dev, void *req, int size) "%p %p %d"\n'
    'io_done(void *dev, void *req, int status) "%p %p %d"\n'
    'lonely(int number) "%d"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "undeclared"], DECLARED)
NAMES = TABLE.names


def asked(start: str = "io_read", end: str = "io_done", **more: Any) -> Question:
    return Question.ask(start, end, NAMES, DECLARED, "here", **more)


def batch(text: str, now_ns: int = 0) -> Batch:
    """Lines of ``SECONDS EVENT ARGUMENTS``."""
    lines = []
    for line in text.strip().splitlines():
        second, _, rest = line.strip().partition(" ")
        lines.append(f"7@{int(second)}.000000:{rest}\n")
    return only_batch(LogDecoder(TABLE).end("".join(lines).encode(), Clocks(now_ns)))


SECOND = 1_000_000_000
RUN = """
    1 io_read 0x1 0xa 8
    2 io_write 0x2 0xa 64
    3 io_done 0x2 0xa 0
    5 io_done 0x1 0xa -5
    6 io_read 0x1 0xb 8
"""


def spans(measured: Latency) -> dict[object, tuple[int, int]]:
    """Pairs and their time together in seconds, by group."""
    spreads = [measured.spans.statistics(n) for n in range(len(measured.spans))]
    values = measured.groups.values if measured.question.by else ["all"]
    return {
        value: (spread.count, spread.total // SECOND)
        for value, spread in zip(values, spreads, strict=False)
    }


def test_patterns_take_in_several_events() -> None:
    assert asked("io_*e*d*").starts == ("io_read",)
    assert asked("io_*", key=["dev", "req"]).starts == ("io_read", "io_write", "io_done")
    assert (asked().key, asked().learned) == (("dev", "req"), True)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({}, {"all": (1, 4)}),
        ({"by": "dev"}, {1: (1, 4)}),
        ({"by": "status"}, {-5: (1, 4), 0: (0, 0)}),
        ({"by": "tid"}, {7: (1, 4)}),
        ({"by": "event"}, {"io_read": (1, 4)}),
        ({"where": "size == 8"}, {"all": (1, 4)}),
        ({"where": "size == 9"}, {}),
        ({"where": "status == 0"}, {}),
        ({"where": "status < 0"}, {"all": (1, 4)}),
        ({"where": "event == 'io_read'"}, {"all": (1, 4)}),
    ],
)
def test_groups_and_filters(more: dict[str, Any], found: dict[object, tuple[int, int]]) -> None:
    measured = Latency(asked(**more))
    measured.take(batch(RUN))
    got = spans(measured) if len(measured.spans) else {}
    assert {k: v for k, v in got.items() if v[0]} == {k: v for k, v in found.items() if v[0]}
    assert measured.counts.in_flight == 1
    assert measured.counts.unseen == 1  # that of the io_write, which was not asked for
    assert measured.filtered == (0 if found else 1)


def test_two_starts_of_one_end() -> None:
    both = Latency(Question(("io_read", "io_write"), ("io_done",), ("req",), False, by="event"))
    both.take(batch(RUN.replace("0x1 0xa", "0x1 0xc")))
    assert spans(both) == {"io_read": (1, 4), "io_write": (1, 1)}


def test_batches_and_losses() -> None:
    measured = Latency(asked())
    measured.take(batch("1 io_read 0x1 0xa 8\n2 io_read 0x1 0xb 8"))
    measured.take(Mark("nothing to do with it", 0))
    measured.take(batch("4 io_done 0x1 0xb 0"))
    measured.take(Loss(Backend.LOG, 3, 0))
    measured.take(batch("9 io_done 0x1 0xa 0"))
    assert spans(measured) == {"all": (1, 2)}
    assert (measured.counts.dropped, measured.counts.unseen) == (1, 1)
    measured.take(batch("9 io_done 0x1 0xa 0"))
    assert (measured.counts.unpaired, measured.counts.unseen) == (1, 1)
    assert measured.counts.in_flight == 0


def test_an_interval_has_its_own_figures_and_what_was_open_stays_so() -> None:
    measured = Latency(asked(by="dev"))
    measured.take(batch("1 io_read 0x1 0xa 8\n2 io_read 0x2 0xb 8\n3 io_done 0x1 0xa 0"))
    assert spans(measured) == {1: (1, 2)}
    measured.renew()
    assert (len(measured.spans), measured.counts) == (0, PairCounts(in_flight=1))
    measured.take(batch("4 io_done 0x2 0xb 0\n4 io_done 0x2 0xb 0"))
    assert measured.counts == PairCounts(paired=1, unpaired=1)
    assert [measured.spans.statistics(n).count for n in range(2)] == [0, 1]
    assert measured.groups.values[:2] == [1, 2]


def test_another_run_of_the_guest_ends_what_was_open() -> None:
    measured = Latency(asked())
    measured.take(batch("1 io_read 0x1 0xa 8"))
    other = EventTable.build(["io_done", "io_read"], DECLARED)
    line = b"7@3.000000:io_done 0x1 0xa 0\n7@4.000000:io_read 0x1 0xa 8\n"
    measured.take(only_batch(LogDecoder(other).end(line, Clocks(0))))
    assert (measured.counts.paired, measured.counts.dropped) == (0, 1)
    assert (measured.counts.unseen, measured.counts.in_flight) == (1, 1)


def test_a_clock_that_steps_back_is_told_and_left_out() -> None:
    measured = Latency(asked())
    measured.take(batch("9 io_read 0x1 0xa 8\n3 io_done 0x1 0xa 0"))
    measured.take(batch("3 io_read 0x1 0xa 8\n3 io_done 0x1 0xa 0"))
    assert measured.disordered == 2
    assert measured.counts.paired == 2
    assert not measured.spans.statistics().count


def test_a_clock_that_was_set_far_back_ends_what_was_open() -> None:
    measured = Latency(asked())
    measured.take(batch("91 io_read 0x1 0xa 8\n3 io_done 0x1 0xa 0\n4 io_read 0x1 0xa 8"))
    measured.take(batch("9 io_done 0x1 0xa 0"))
    assert (measured.counts.dropped, measured.counts.unseen, measured.disordered) == (1, 1, 0)
    assert spans(measured) == {"all": (1, 5)}
    measured.take(batch("1 io_read 0x1 0xa 8\n"))  # a fall of 8 s may be a buffer
    measured.take(batch("20 io_done 0x1 0xa 0\n21 io_read 0x1 0xa 8\n22 io_done 0x1 0xa 8"))
    assert measured.disordered == 1
    assert spans(measured) == {"all": (2, 6)}


def test_pairs_at_a_step_back_are_left_out_also_those_before_it() -> None:
    measured = Latency(asked())
    measured.take(batch("1 io_read 0x1 0xa 8\n2 io_done 0x1 0xa 8\n3 io_read 0x1 0xa 8"))
    measured.take(batch("8 io_done 0x1 0xa 8\n4 io_done 0x1 0xa 8\n7 io_read 0x1 0xa 8"))
    measured.take(batch("9 io_done 0x1 0xa 8\n10 io_read 0x1 0xa 8\n13 io_done 0x1 0xa 8"))
    assert measured.disordered == 2  # from 3 to 8, and from 7 to 9
    assert spans(measured) == {"all": (2, 4)}


def test_threads_that_write_out_of_order_by_a_little_cost_no_pair() -> None:
    measured = Latency(asked())
    lines = b"7@1.000000:io_read 0x1 0xa 8\n8@1.000009:io_read 0x1 0xb 8\n"
    lines += b"7@1.000005:io_done 0x1 0xa 0\n8@1.000010:io_done 0x1 0xb 0\n"
    measured.take(only_batch(LogDecoder(TABLE).end(lines, Clocks(0))))
    assert (measured.disordered, measured.spans.statistics().count) == (0, 2)


def test_times_that_are_qtctls_own_are_in_no_figure() -> None:
    measured = Latency(asked())
    measured.take(only_batch(LogDecoder(TABLE).end(b"io_read 0x1 0xa 8\n", Clocks(5))))
    measured.take(only_batch(LogDecoder(TABLE).end(b"io_done 0x1 0xa 8\n", Clocks(9))))
    assert (measured.arrived, measured.mixed, measured.spans.statistics().count) == (1, 0, 0)


def test_no_pair_has_two_clocks() -> None:
    measured = Latency(asked())
    for clock, text in (
        (Clock.REALTIME, "1 io_read 0x1 0xa 8\n1 io_read 0x1 0xb 8\n1 io_read 0x1 0xc 8"),
        (Clock.MONOTONIC, "3 io_done 0x1 0xa 0"),
        (Clock.REALTIME, "4 io_done 0x1 0xb 0"),
    ):
        measured.take(replace(batch(text), clock=clock))
    measured.take(only_batch(LogDecoder(TABLE).end(b"io_done 0x1 0xc 8\n", Clocks(9 * SECOND))))
    assert (measured.mixed, measured.arrived, measured.counts.paired) == (2, 0, 3)
    assert spans(measured) == {"all": (1, 3)}


def test_no_pair_is_of_two_guests() -> None:
    measured = Latency(asked())
    measured.take(replace(batch("1 io_read 0x1 0xa 8"), origins=[Origin(4711)]))
    measured.take(replace(batch("2 io_read 0x1 0xa 8"), origins=[Origin(5822)]))
    measured.take(replace(batch("4 io_done 0x1 0xa 8"), origins=[Origin(4711)]))
    measured.take(replace(batch("9 io_done 0x1 0xa 8"), origins=[Origin(5822)]))
    assert measured.counts == PairCounts(paired=2)
    assert spans(measured) == {"all": (2, 10)}


def test_other_names_of_a_key() -> None:
    known = parse_declarations(
        'nvme_cmd(uint16_t cid, uint16_t sqid) "cid %u sqid %u"\n'
        'nvme_done(uint16_t cid, uint16_t cqid) "cid %u cqid %u"\n'
        'nvme_flush_cb(uint16_t cid, uint16_t cqid) "cid %u cqid %u"\n'
    ).by_name
    table = EventTable.build(None, known)
    question = Question.ask("nvme_cmd", "nvme_done", table.names, known, "here")
    assert (question.key, question.learned) == (("sqid=cqid", "cid"), True)
    assert question.other_ends(known) == []
    data = b"1@1.0:nvme_cmd cid 1 sqid 1\n1@2.0:nvme_cmd cid 1 sqid 2\n"
    data += b"1@3.0:nvme_done cid 1 cqid 1\n1@7.0:nvme_done cid 1 cqid 2\n"
    measured = Latency(question)
    measured.take(only_batch(LogDecoder(table).end(data.replace(b".0:", b".000000:"), Clocks(0))))
    assert spans(measured) == {"all": (2, 7)}
    assert measured.counts == PairCounts(paired=2)
    with pytest.raises(UsageError, match="one name for each"):
        Question.ask("nvme_cmd", "nvme_cmd", table.names, known, "", key=["cid=sqid"])


def test_times_of_whole_seconds_are_told() -> None:
    measured = Latency(asked())
    measured.take(batch("1 io_read 0x1 0xa 8\n3 io_done 0x1 0xa 0"))
    assert measured.coarse == measured.spans.statistics().count == 1
    line = b"7@4.000001:io_read 0x1 0xa 8\n7@5.000000:io_done 0x1 0xa 0\n"
    measured.take(only_batch(LogDecoder(TABLE).end(line, Clocks(0))))
    assert (measured.coarse, measured.spans.statistics().count) == (1, 2)


def test_one_event_for_both_measures_from_each_to_the_next() -> None:
    measured = Latency(asked("lonely", "lonely", key=["number"]))
    measured.take(batch("1 lonely 1\n3 lonely 2\n4 lonely 1\n9 lonely 1"))
    assert spans(measured) == {"all": (2, 8)}
    assert (measured.counts.in_flight, measured.counts.unpaired) == (2, 0)


def test_values_beyond_the_limit_are_one_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtctl.analysis.latency._GROUPS", 2)
    measured = Latency(asked(by="req"))
    lines = [f"{n} io_read 0x1 {n:#x} 8\n{n + 1} io_done 0x1 {n:#x} 0" for n in range(1, 6)]
    measured.take(batch("\n".join(lines)))
    assert [measured.spans.statistics(n).count for n in range(len(measured.spans))] == [1, 1, 3]
    assert measured.groups.values == [1, 2, OTHERS]


@pytest.mark.parametrize(
    ("start", "end", "more", "says"),
    [
        ("io_read", "lonely", {}, "share no argument"),
        ("io_read", "io_done", {"key": ["size"]}, "io_done has no argument 'size'"),
        ("io_read", "io_done", {"by": "nothing"}, "neither every START nor every END"),
        ("io_read", "io_done", {"where": "nothing == 1"}, "no matched event"),
        ("io_read", "io_done", {"where": "size =="}, "not an expression"),
        ("io_read", "undeclared", {}, "undeclared is not declared"),
    ],
)
def test_what_cannot_be_asked(start: str, end: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        asked(start, end, **more)


def test_events_that_are_not_there() -> None:
    with pytest.raises(NothingMatched, match="io_raed"):
        asked("io_raed")
    with pytest.raises(NothingMatched, match="nope"):
        asked("io_read", "nope*")


def test_threads_need_no_declaration() -> None:
    measured = Latency(asked("lonely", "undeclared", key=["tid"]))
    measured.take(batch("1 lonely 1\n4 undeclared 1"))
    assert spans(measured) == {"all": (1, 3)}
    last = Latency(asked("lonely", "undeclared", key=()))
    last.take(batch("1 lonely 1\n2 lonely 1\n4 undeclared 1"))
    assert spans(last) == {"all": (1, 2)}
    assert last.counts.reused == 1
