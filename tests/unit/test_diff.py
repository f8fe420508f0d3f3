"""``qtctl diff``: what differs between two runs, against counts made one by one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.compare import Profile, compare, pairs_among, profile_of
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests.running import Qtctl
from tests.samples import only_batch

DECLARED = """
disk_start(void *req, int n) "req %p n %d"
disk_end(void *req) "req %p"
irq(int n) "n %d"
reset(void) ""
"""
KNOWN = parse_declarations(DECLARED).by_name
TABLE = EventTable.build(None, KNOWN)
NAMES = {"s": "disk_start", "e": "disk_end", "i": "irq", "r": "reset"}
TEXT = {"s": "req 0x{k} n 1", "e": "req 0x{k}", "i": "n {k}", "r": ""}
EVENTS = st.lists(st.tuples(st.sampled_from("seir"), st.integers(1, 3)), max_size=30)


def line(event: str, tid: int, at_us: int, key: int = 0) -> str:
    second, rest = divmod(at_us, 1_000_000)
    return f"{tid}@{1000 + second}.{rest:06}:{NAMES[event]} {TEXT[event].format(k=key)}\n"


def log(events: str, *, step_us: int = 1000, tid: int = 1) -> str:
    return "".join(line(event, tid, n * step_us) for n, event in enumerate(events))


def profiled(text: str, cuts: Sequence[int] = ()) -> Profile:
    profile = profile_of(TABLE.names, KNOWN, [], "here")
    decoder = LogDecoder(TABLE)
    data = text.encode()
    for low, high in pairwise([0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]):
        for item in decoder.feed(data[low:high], Clocks(0)):
            profile.take(item)
    for item in decoder.flush(Clocks(0)):
        profile.take(item)
    return profile


@given(EVENTS, st.lists(st.integers(0, 10_000), max_size=4))
def test_counts_and_what_follows_what_as_counted_one_by_one(
    events: list[tuple[str, int]], cuts: list[int]
) -> None:
    profile = profiled("".join(line(e, t, n) for n, (e, t) in enumerate(events)), cuts)
    for short, name in NAMES.items():
        assert profile.occurrences()[name] == sum(e == short for e, _ in events)
    follows: Counter[tuple[str, str]] = Counter()
    for thread in (1, 2, 3):
        own = [NAMES[e] for e, t in events if t == thread]
        follows.update(pairwise(own))
    found = {
        (TABLE.names[key // 4], TABLE.names[key % 4]): count
        for key, count in profile.follows.items()
    }
    assert found == dict(follows)
    in_order = sorted(profile.first, key=lambda name: profile.first[name])
    assert in_order == list(dict.fromkeys(NAMES[e] for e, _ in events))


def test_a_run_does_not_differ_from_itself() -> None:
    one, two = (profiled(log("sesesei" * 20)) for _ in range(2))
    found = compare(one, two)
    assert {both.change for both in found.events} == {1.0}
    assert found.moved == []
    assert all(step.change == 0 for step in found.order)
    assert len(found.latencies) == 1


def test_what_is_new_gone_faster_and_moved() -> None:
    one = profiled(log("rsei" * 50))
    two = profiled(log("sie" * 50, step_us=2000))
    found = compare(one, two)
    gone = found.events[0]
    assert (gone.name, gone.counts, gone.change) == ("reset", (50, 0), None)
    assert found.moved in (["irq"], ["disk_end"])
    steps = {(step.before, step.after): step for step in found.order}
    assert steps["disk_start", "disk_end"].shares == (1.0, 0.0)
    assert steps["disk_start", "irq"].shares == (0.0, 1.0)
    [(question, (before, after))] = found.latencies
    assert (question.starts, question.ends, question.key) == (
        ("disk_start",),
        ("disk_end",),
        ("req",),
    )
    assert before.percentiles([0.5])[0] == pytest.approx(1_000_000, rel=0.01)
    assert after.percentiles([0.5])[0] == pytest.approx(4_000_000, rel=0.01)


def test_nothing_follows_over_a_loss() -> None:
    profile = profile_of(TABLE.names, KNOWN, [], "here")
    for part in ("s", "e"):
        profile.take(only_batch(LogDecoder(TABLE).end(log(part).encode(), Clocks(0))))
        profile.take(Loss(Backend.LOG, 1, 0))
    assert profile.follows == {}
    assert all(not latency.spans.statistics().count for latency in profile.latencies.values())


def test_pairs_are_those_that_names_and_arguments_make_plain() -> None:
    text = DECLARED + 'many_start(int a, int b) "%d %d"\nmany_end(int a, int b) "%d %d"\n'
    known = parse_declarations(text).by_name
    assert list(pairs_among(list(known), known)) == [("disk_start", "disk_end")]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    (tmp_path / "all").write_text(DECLARED)
    with Qtctl(tmp_path / "home") as command:
        yield command


def saved(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_it_is_told_as_a_table_and_as_json(run: Qtctl, tmp_path: Path) -> None:
    one = saved(tmp_path, "one", log("rsei" * 50))
    two = saved(tmp_path, "two", log("sie" * 50, step_us=2000))
    words = ("diff", one, two, "--events-all", str(tmp_path / "all"))
    ran = run(*words).said(0, "one: 200 records", "two: 150 records")
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert ["event", "reset", "251/s", "0/s", "only in A"] in rows
    assert next(row for row in rows if row[1] == "disk_start > disk_end p50")[-1] == "x 4.00"
    assert any(row[:2] == ["order", "disk_start > irq"] for row in rows)
    document = json.loads(run(*words, "--json").said(0).out)
    assert document["events"][0] == {
        "name": "reset",
        "counts": [50, 0],
        "rates": [pytest.approx(251.3, rel=0.01), 0],
        "change": None,
    }
    assert run("diff", one, one, *words[3:]).said(0).out == "no differences\n"
    assert run("diff", one, one, "--all", *words[3:]).said(0).out.count("\n") > 5
    ran = run("diff", one, two, "disk_*", "--pair", "disk_start,disk_end", *words[3:]).said(0)
    assert "reset" not in ran.out


def test_what_cannot_be_compared(run: Qtctl, tmp_path: Path) -> None:
    one = saved(tmp_path, "one", log("rsei"))
    known = ("--events-all", str(tmp_path / "all"))
    run("diff", one, *known).said(2)
    run("diff", one, str(tmp_path / "missing"), *known).said(2, "No such file")
    run("diff", one, one, "nope*", *known).said(3)
    run("diff", one, one, "--pair", "disk_start", *known).said(2, "START,END")
    run("diff", one, one, "--pair", "irq,nope", *known).said(3, "nope")
    ran = run("diff", one, one, "--where", "n == 77", *known).said(2, "nothing to compare")
    assert not re.search("Traceback", ran.err)
