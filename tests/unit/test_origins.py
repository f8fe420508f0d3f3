"""Records of several guests, processes and runs in one file: told apart, and never paired."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.latency import Latency, Question
from qtctl.analysis.order import Order
from qtctl.analysis.pairs import Pairing
from qtctl.backends.base import Clocks
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.text import TextDecoder
from qtctl.backends.log.unwrapping import Unwrapper
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from qtctl.text.style import Style
from qtctl.writers.ndjson import json_lines
from qtctl.writers.perfetto.tracks import PerfettoTrace, SlicePair
from qtctl.writers.rows import RowFormatter
from tests.exports import Case
from tests.needs import program
from tests.perfettofile import Perfetto
from tests.recordings import read, write
from tests.running import Qtctl
from tests.samples import batches, declarations, declarations_text, event_table, forms, running

CASES = Path(__file__).parents[1] / "data/cases/saved"
JOURNAL = (CASES / "s09-two-guests/journal.txt").read_text()
RUNS = (CASES / "s10-two-runs/vm1.log").read_text()
TABLE: EventTable = event_table("7.2")
COMMAND, COMPLETED = "pci_nvme_io_cmd", "pci_nvme_enqueue_req_completion"
SUBMIT = f"{COMMAND} cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'"
COMPLETE = f"{COMPLETED} cid 1 cqid 1 dw0 0x0 dw1 0x0 status 0x0"


def decoded(text: str) -> list[Batch]:
    return batches(TextDecoder(TABLE).end(text.encode(), Clocks(2 * 10**18)))


def origins(text: str) -> list[Origin]:
    records = (record for batch in decoded(text) for record in batch.records())
    return [record.origin for record in records if record.name]


def measured(text: str, start: str = COMMAND, end: str = COMPLETED, **more: Any) -> Latency:
    known = declarations("7.2").by_name
    found = Latency(Question.ask(start, end, TABLE.names, known, "", key=["cid"], **more))
    for batch in decoded(text):
        found.take(batch)
    return found


def seen(found: Latency) -> tuple[int, int, int]:
    """Return the pairs, the STARTs in flight, and the ENDs without a START."""
    return found.spans.statistics().count, found.counts.in_flight, found.counts.unpaired


# Saved text


def test_two_guests_in_a_journal_are_no_pair(qtctl: Qtctl, tmp_path: Path) -> None:
    (tmp_path / "all").write_text(declarations_text("7.2"))
    path, known = str(CASES / "s09-two-guests/journal.txt"), ("--events-all", f"{tmp_path}/all")
    question = ("latency", COMMAND, COMPLETED, "--key", "cid", "--from", path, *known)
    ran = qtctl(*question, "--by", "guest", "--json")
    found = json.loads(ran.out)
    assert (found["count"], found["mean"], found["max"]) == (2, 4_550_000, 9_000_000)
    assert [found[name] for name in ("in_flight", "unpaired", "unseen")] == [0, 0, 0]
    spans = {one["value"]: one["max"] for one in found["groups"]}
    assert spans == {"pid 4711 on host": 9_000_000, "pid 5822 on host": 100_000}
    ran = qtctl("replay", path, *known, "--ndjson")
    records = [json.loads(line) for line in ran.out.splitlines()[:-1]]
    assert [one["pid"] for one in records] == [4711, 5822, 5822, 4711]
    assert [one["tid"] for one in records] == [4715, 5826, 5822, 4711]
    ran = qtctl("replay", path, *known, "--where", "pid == 5822", "--ndjson")
    assert [json.loads(line)["pid"] for line in ran.out.splitlines()[:-1]] == [5822, 5822]
    ran = qtctl("count", "--from", path, *known, "--by", "guest", "--json")
    counts = {one["value"]: one["count"] for one in json.loads(ran.out)["groups"]}
    assert counts == {"pid 4711 on host": 2, "pid 5822 on host": 2}


def test_runs_in_a_log_of_libvirt_are_no_pair(qtctl: Qtctl, tmp_path: Path) -> None:
    (tmp_path / "all").write_text(declarations_text("7.2"))
    path, known = str(CASES / "s10-two-runs/vm1.log"), ("--events-all", f"{tmp_path}/all")
    pair = ("latency", "scsi_req_parsed", "scsi_req_data", "--key", "tag", "--from", path)
    found = json.loads(qtctl(*pair, *known, "--json").out)
    assert (found["count"], found["mean"], found["max"]) == (2, 53_500, 74_000)
    assert [found[name] for name in ("in_flight", "unpaired", "unseen")] == [1, 1, 0]
    ran = qtctl("replay", path, *known, "--ndjson", "--where", "run == 2")
    records = [json.loads(line) for line in ran.out.splitlines()[:-1]]
    assert [(one["run"], one["args"]["tag"]) for one in records] == [(2, 71), (2, 7), (2, 7)]


HEADS = {
    "Nov 14 22:13:20 node-a qemu-kvm[4711]: ": Origin(4711, host="node-a"),
    "<30>1 2023-11-14T22:13:20Z node-a qemu 4711 - - ": Origin(4711, host="node-a"),
    "1700000000.000001 vm1[4711]: ": Origin(guest="vm1[4711]"),
    "Nov 14 22:13:20 node-a dockerd[99]: ": Origin(guest="dockerd[99]", host="node-a"),
    "[pod/virt-launcher-vm1/compute] 2023-11-14T22:13:20Z ": Origin(
        guest="virt-launcher-vm1/compute"
    ),
    "vm1-qemu-1  | 4711@1700000000.000001:": Origin(guest="vm1-qemu-1"),
    "vm1.log:12:4711@1700000000.000001:": Origin(guest="vm1.log"),
    "logs/vm1.log:4711@1700000000.000001:": Origin(guest="logs/vm1.log"),
    "2023-11-14T22:13:20Z [fish food] qemu(77:CPU 0/KVM): ": Origin(
        guest="fish food", thread="CPU 0/KVM"
    ),
    "Nov 14 22:13:20 h qemu[4711]: [vm1] kvm(77:IO io\udcff1): ": Origin(
        4711, "vm1", "h", thread="IO io\udcff1"
    ),
    "4711@1700000000.000001:": Origin(),
    "<30>1 2023-11-14T22:13:20Z - qemu-kvm 9999999999 - - ": Origin(),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_tell_where_a_record_comes_from(head: str) -> None:
    decoder = TextDecoder(TABLE)
    text = f"{head}{SUBMIT}\n{head}{COMPLETE}\n".encode("utf-8", "surrogateescape")
    [batch] = batches(decoder.end(text, Clocks(0)))
    assert {record.origin for record in batch.records() if record.name} == {HEADS[head]}


STARTS = {
    "libvirt": "2024-04-01 12:01:00.101+0000: starting up libvirt version: 9.0.0, package: 4",
    "libvirt 1.0": "2013-04-01 12:01:00.101+0000: starting up",
    "journalctl": "-- Boot 0123456789abcdef0123456789abcdef --",
    "journalctl 249": "-- Reboot --",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_run_begins(start: str) -> None:
    text = f"1@5.000001:{SUBMIT}\n{start}\n1@5.000003:{COMPLETE}\n1@5.000005:{SUBMIT}\n"
    assert [one.run for one in origins(text)] == [None, 1, 1]
    assert seen(measured(text)) == (0, 2, 1)
    crlf = text.replace("\n", "\r\n")
    assert [one.run for one in origins(crlf)] == [None, 1, 1]
    assert [one.run for one in origins(text.replace(start, f"x {start}"))] == [None] * 3


def test_a_record_before_a_line_of_libvirt_is_whole() -> None:
    """Such a line is no part of its text, though nothing of QEMU's stands before it."""
    for line in (*STARTS.values(), "2024-04-01 12:00:24.665+0000: shutting down, reason=crashed"):
        [batch] = decoded(f"1@5.000001:{SUBMIT}\n{line}\n1@5.000003:{COMPLETE}\n")
        first, other, _ = batch.records()
        assert (first.args["cid"], first.cut, other.line) == (1, False, line)


def test_a_run_of_one_file_among_several() -> None:
    """Of ``grep -H '' *.log``, lines of one log begin no run of another."""
    start = STARTS["libvirt"]
    text = "".join(
        f"{line}\n"
        for line in (
            f"vm1.log:{start}",
            f"vm1.log:1@5.000001:{SUBMIT}",
            f"vm2.log:1@5.000002:{SUBMIT}",
            f"vm1.log:{start}",
            f"vm1.log:1@5.000005:{COMPLETE}",
            f"vm2.log:1@5.000006:{COMPLETE}",
        )
    )
    assert [one.run for one in origins(text)] == [1, None, 2, None]
    assert seen(measured(text)) == (1, 1, 1)


def test_an_end_after_a_loss_may_have_a_start_in_the_same_run() -> None:
    found = Latency(
        Question.ask(COMMAND, COMPLETED, TABLE.names, declarations("7.2").by_name, "", key=["cid"])
    )
    [first] = decoded(f"{STARTS['libvirt']}\n1@5.000001:{COMPLETE}\n")
    found.take(first)
    found.take(Loss(Backend.LOG, None, 0))
    found.take(first)
    assert (found.counts.unpaired, found.counts.unseen) == (1, 1)


def test_guests_of_two_hosts_have_one_pid() -> None:
    """Their clocks differ by a minute, which is no step back of either."""
    lines = []
    for second in range(20, 40):
        at = f"22:14:{second}.000001"
        lines += [
            f"2023-11-14T{at}Z a qemu[7]: {SUBMIT}",
            f"2023-11-14T{at.replace(':14:', ':13:')}Z b qemu[7]: {SUBMIT}",
            f"2023-11-14T{at.replace('.000001', '.000003')}Z a qemu[7]: {COMPLETE}",
            f"2023-11-14T{at.replace(':14:', ':13:').replace('.000001', '.000005')}Z b qemu[7]: "
            f"{COMPLETE}",
        ]
    found = measured("".join(f"{line}\n" for line in lines), by="guest")
    assert seen(found) == (40, 0, 0)
    assert found.disordered == 0
    totals = [found.spans.statistics(number).total for number in range(2)]
    words = "pid 7 on a", "pid 7 on b"
    assert dict(zip(found.groups.values, totals, strict=False)) == dict(
        zip(words, (40_000, 80_000), strict=True)
    )


def test_json_of_a_journal_names_the_host() -> None:
    line = {
        "MESSAGE": SUBMIT,
        "__REALTIME_TIMESTAMP": "1700000000000001",
        "SYSLOG_IDENTIFIER": "qemu\nkvm",
        "_PID": "4711",
        "_HOSTNAME": "node-a",
    }
    text = f"{json.dumps(line)}\n".encode()
    assert origins(Unwrapper(text).convert(text, final=True).decode()) == [
        Origin(4711, host="node-a")
    ]


@pytest.mark.parametrize(
    "more",
    [{"kubernetes": {"pod_name": "virt-launcher-vm1"}}, {"CONTAINER_NAME": "virt-launcher-vm1"}],
)
def test_json_of_collectors_names_the_pod(more: dict[str, Any]) -> None:
    text = (json.dumps({"log": SUBMIT, "time": "2023-11-14T22:13:20Z", **more}) + "\n").encode()
    unwrapped = Unwrapper(text).convert(text, final=True).decode()
    assert origins(unwrapped) == [Origin(guest="virt-launcher-vm1")]


def test_boots_of_two_machines_may_alternate() -> None:
    """As ``journalctl -m`` merges them; in JSON each line has its boot."""
    a, b = "a" * 32, "b" * 32
    rows = [(a, "x", SUBMIT), (b, "y", SUBMIT), (a, "x", SUBMIT), (b, "y", COMPLETE),
            (a, "x", COMPLETE)]  # fmt: skip
    lines = [
        {
            "MESSAGE": record,
            "__REALTIME_TIMESTAMP": str(1700000000000000 + number),
            "SYSLOG_IDENTIFIER": "qemu",
            "_PID": "7",
            "_HOSTNAME": host,
            "_BOOT_ID": boot,
        }
        for number, (boot, host, record) in enumerate(rows)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    unwrapped = Unwrapper(text).convert(text, final=True).decode()
    assert [one.run for one in origins(unwrapped)] == [None, 1, 2, 1, 2]
    assert seen(measured(unwrapped)) == (2, 1, 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 22, 333]),
            st.sampled_from(["a", "b"]),
            st.booleans(),
        ),
        max_size=40,
    ),
    st.integers(1, 60),
)
def test_pairs_are_those_of_each_process_alone(
    rows: list[tuple[int, str, bool]], size: int
) -> None:
    """However the bytes are cut, and whatever comes between."""
    lines, opened, pairs = [], dict[tuple[int, str], int](), Counter[int]()
    for at, (pid, host, ends) in enumerate(rows):
        at += 1
        record = COMPLETE if ends else SUBMIT
        lines.append(f"1700000000.{at:06} {host} qemu[{pid}]: {record}\n")
        if ends and (begun := opened.pop((pid, host), None)) is not None:
            pairs[at - begun] += 1
        elif not ends:
            opened[pid, host] = at
    data = "".join(lines).encode()
    decoder, clocks = TextDecoder(TABLE), Clocks(0)
    known = declarations("7.2").by_name
    found = Latency(Question.ask(COMMAND, COMPLETED, TABLE.names, known, "", key=["cid"]))
    for begin in range(0, len(data), 7 * size):
        for item in decoder.feed(data[begin : begin + 7 * size], clocks):
            found.take(item)
    for item in decoder.flush(clocks):
        found.take(item)
    assert (found.spans.statistics().count, found.counts.in_flight) == (
        sum(pairs.values()),
        len(opened),
    )
    assert found.spans.statistics().total == 1000 * sum(one * n for one, n in pairs.items())


def test_the_kernels_agree_on_whole_runs() -> None:
    [batch] = decoded(RUNS)
    for form in forms():
        with running(form):
            pairing = Pairing(TABLE, ["scsi_req_parsed"], ["scsi_req_data"], ["tag"])
            assert len(pairing.feed(batch)) == 2
        assert (pairing.counts.unpaired, pairing.counts.unseen) == (1, 0)


# Traces of the kernel and of LTTng


def test_ftrace_tells_threads_and_recorded_processes() -> None:
    heads = (
        "       CPU 0/KVM-4715    (   4711) [000] .....   812.100010: tracing_mark_write: ",
        " qemu-system-x86-4711    (-------) [001] .....   812.100020: tracing_mark_write: ",
        "           <...>-5826    [001] .....   812.100030: tracing_mark_write: ",
    )
    text = "".join(f"{head}{SUBMIT}\n" for head in heads).encode()
    decoder = TraceDecoder(TABLE)
    found = batches(decoder.feed(text, Clocks(0)) + decoder.flush(Clocks(0)))
    assert [record.origin for batch in found for record in batch.records()] == [
        Origin(4711, thread="CPU 0/KVM"),
        Origin(thread="qemu-system-x86"),
        Origin(),
    ]


def test_ftrace_without_processes_is_told(tmp_path: Path) -> None:
    (tmp_path / "all").write_text(declarations_text("7.2"))
    for pid, told in ("(   4711)", 0), ("(-------)", 1), ("", 1):
        head = f" qemu-system-x86-4711    {pid} [001] .....   812.100020: tracing_mark_write: "
        (tmp_path / "trace").write_text(f"{head}{SUBMIT}\n")
        _, replay = read(tmp_path / "trace", events_all=tmp_path / "all")
        assert sum("record-tgid" in note for note in replay.notes) == told


# Output


def test_rows_say_of_which_guest_they_are() -> None:
    formatter = RowFormatter(Style(), "none", {}, [])
    rows = [line for batch in decoded(JOURNAL) for line in formatter.lines(batch)]
    assert [row.split("]")[0] for row in rows] == [
        f"[pid {pid} on host" for pid in (4711, 5822, 5822, 4711)
    ]
    named = f"2023-11-14T22:13:20Z [vm\x1b] qemu(77:CPU 0/KVM): {SUBMIT}\n"
    [row] = RowFormatter(Style(), "none", {}, []).lines(decoded(named)[0])
    assert row.startswith(f"CPU 0/KVM {COMMAND} ")
    other = named.replace("vm\x1b", "vm2").replace("CPU 0/KVM", "CPU 1/KVM")
    first, second = RowFormatter(Style(), "none", {}, []).lines(decoded(named + other)[0])
    assert first.startswith("[vm\\x1b] CPU 0/KVM ")
    assert second.startswith("[vm2] CPU 1/KVM ")


def test_json_has_what_is_known() -> None:
    mixed = JOURNAL + f"2023-11-14T22:13:20Z [a] qemu(77:CPU 0/KVM): {SUBMIT}\n"
    for batch in (*decoded(mixed), *decoded(RUNS)):
        from qtctl.records import schema

        lines = [json.loads(line) for line in json_lines(batch)]
        assert lines == [schema.record(record) for record in batch.records()]
    [batch] = decoded(mixed)
    plain, *_, named = map(json.loads, json_lines(batch))
    assert (named["pid"], named["guest"], named["thread"]) == (None, "a", "CPU 0/KVM")
    assert (plain["pid"], plain["host"]) == (4711, "host")
    assert "guest" not in plain


@pytest.fixture
def journal(qtctl: Qtctl, tmp_path: Path) -> Iterator[Case]:
    named = f"2023-11-14T22:13:20Z [a] qemu(77:CPU 0/KVM): {SUBMIT}\n"
    yield Case(qtctl, tmp_path, (JOURNAL + named + RUNS).encode(), declarations_text("7.2"))


PIDS = [4711, 5822, 5822, 4711, *[None] * 7]
GUESTS = [*[None] * 4, "a", *[None] * 6]
RUN = [*[None] * 5, 1, 1, 1, 2, 2, 2]


def test_csv_and_parquet_have_columns_of_origins(journal: Case) -> None:
    rows = list(csv.DictReader(journal.export("csv").read_text().splitlines()))
    for name, values in (("pid", PIDS), ("guest", GUESTS), ("run", RUN)):
        assert [row[name] for row in rows] == ["" if v is None else str(v) for v in values]
    assert rows[4]["thread"] == "CPU 0/KVM"
    table = pq.read_table(journal.export("parquet"), partitioning=None)
    found = zip(*(table[name].to_pylist() for name in ("pid", "guest_name", "run")), strict=True)
    assert Counter(found) == Counter(zip(PIDS, GUESTS, RUN, strict=True))
    folders = {path.name for path in journal.export("parquet-typed").glob("event=*/guest=*")}
    assert folders == {"guest=4711", "guest=5822", "guest=0"}


def test_ctf_has_a_packet_for_each_process(journal: Case) -> None:
    command = [program("babeltrace2", "babeltrace2"), str(journal.export("ctf"))]
    ran = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    found = re.findall(r'\{ pid = (-?\d+), backend = "log", guest = "(.*?)" \}', ran.stdout)
    assert Counter(pid for pid, _ in found) == {"4711": 2, "5822": 2, "-1": 7}
    assert Counter(guest for _, guest in found) == {"on host": 4, "a": 1, "run 1": 3, "run 2": 3}


def test_perfetto_has_a_process_for_each(journal: Case) -> None:
    pair = f"{COMMAND},{COMPLETED},cid"
    trace = Perfetto(journal.export("perfetto", "--pair", pair).read_bytes())
    assert sorted(end - begin for begin, end, _ in trace.slices()) == [100_000, 9_000_000]
    names = [one.process.process_name or one.name for one in trace.tracks.values()]
    assert {"QEMU on host", "QEMU a", "QEMU run 1", "QEMU run 2"} <= set(names)


def test_recordings_keep_origins(tmp_path: Path) -> None:
    wanted = [record for batch in decoded(JOURNAL + RUNS) for record in batch.records()]
    write(tmp_path / "rec", decoded(JOURNAL + RUNS), TABLE.declarations)
    items, _ = read(tmp_path / "rec")
    found = [record for item in items if isinstance(item, Batch) for record in item.records()]
    assert found == wanted
    assert len({record.origin for record in found}) > 3


def test_sql_has_columns_of_origins(qtctl: Qtctl, tmp_path: Path) -> None:
    (tmp_path / "all").write_text(declarations_text("7.2"))
    path = tmp_path / "mixed"
    path.write_text(JOURNAL + RUNS)
    sql = "SELECT pid, run, count(*) AS n FROM events GROUP BY ALL ORDER BY ALL"
    ran = qtctl("query", sql, str(path), "--events-all", f"{tmp_path}/all", "--json")
    found = [tuple(row.values()) for row in json.loads(ran.out)]
    assert sorted(found, key=str) == [
        (4711, None, 2),
        (5822, None, 2),
        (None, 1, 3),
        (None, 2, 3),
    ]


# Places of no order, and slices


SLICE = SlicePair(COMMAND, COMPLETED, ("cid",))


def slices(*texts: str) -> tuple[list[int], int]:
    """Return the lengths of slices, and how many pairs are told to make none."""
    trace = PerfettoTrace(TABLE, [SLICE])
    data = b"".join(trace.encode(batch) for text in texts for batch in decoded(text))
    found = Perfetto(data + trace.finish())
    told = [found.args(one)["count"] for *_, one, name in found.events if name == "pairs left out"]
    return [end - begin for begin, end, _ in found.slices()], sum(told)


def stamped(*rows: tuple[float, str]) -> str:
    return "".join(f"1@{100 + second:.6f}:{text}\n" for second, text in rows)


def test_slices_leave_out_what_spans_a_step_back() -> None:
    good = stamped((0, SUBMIT), (1, COMPLETE), (5, SUBMIT), (5.5, COMPLETE))
    assert slices(good) == ([10**9, 5 * 10**8], 0)
    # The third record steps back into the first pair, which was already found.
    later = stamped((0.5, SUBMIT), (2, COMPLETE))
    assert slices(stamped((0, SUBMIT), (1, COMPLETE)), later) == ([], 2)
    assert slices(stamped((1, SUBMIT), (0.99, COMPLETE))) == ([], 1)


def test_slices_leave_out_pairs_of_two_clocks() -> None:
    text = stamped((0, SUBMIT)) + f"> {COMPLETE}\n" + stamped((2, SUBMIT), (3, COMPLETE))
    assert slices(text) == ([10**9], 1)


def test_order_is_that_of_each_process() -> None:
    def parts(text: str) -> list[tuple[bool, int | None]]:
        order = Order()
        found = [part for batch in decoded(text) for part in order.parts(batch)]
        return [(part.restarts, part.low_ns) for part in found]

    lines = [
        f"17000000{n:02}.000000 {host} qemu[1]: {SUBMIT}\n"
        for n, host in ((50, "a"), (10, "b"), (51, "a"), (11, "b"), (12, "a"), (13, "b"))
    ]
    assert parts("".join(lines)) == [(False, None), (True, None)]
    assert parts("".join(lines[:4])) == [(False, None)]


def test_a_batch_without_rows_has_no_process() -> None:
    empty = decoded(JOURNAL)[0].select(slice(0))
    assert (empty.pid, list(empty.by_process()), list(empty.records())) == (None, [], [])
    assert len(Pairing(TABLE, [COMMAND], [COMPLETED], ["cid"]).feed(empty)) == 0


def test_the_pid_of_a_batch_is_that_of_all_rows() -> None:
    [batch] = decoded(JOURNAL)
    assert batch.pid is None
    assert batch.select(np.array([1, 2])).pid == 5822
    [live] = batches(LogDecoder(TABLE, pid=7).end(f"{SUBMIT}\n".encode(), Clocks(0)))
    assert live.pid == 7
