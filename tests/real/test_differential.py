"""One run of a guest with many devices, as QEMU's backends wrote it, and QEMU's own reader."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.items import Loss
from qtctl.session.replay import Replay
from tests.qemus import RealGuest, many_devices, require
from tests.rawqmp import RawClient
from tests.recordings import read
from tests.rendering import render

pytestmark = [pytest.mark.qemu, pytest.mark.timeout(400)]

#: Events that come so often that QEMU's ring of 256 KiB overflows, or that a lock repeats.
LOUD = (
    "qemu_mutex_*", "lockcnt_*", "memory_region_ops_*", "memory_notdirty_*", "cpu_in", "cpu_out",
    "exec_tb*", "translate_block",
)  # fmt: skip
DO = ("stop", "system_reset", "cont")
ASK = ("info qtree", "info mtree", "info usb", "info pci", "info block")
LEAST = (5000, 100)
"""Records and different events that the run must have."""
#: Texts that simple cuts at 512 bytes, or of several lines, whose end the log does not tell.
CUT = {"monitor_qmp_respond", "qmp_exit_human_monitor_command", "handle_cmd_fis_dump"}
#: NULL as simple has it, and a text that some callers pass; the log prints both like this.
NULLS = ("", "(null)")


class Run:
    """What one guest wrote, and the declarations of its build."""

    def __init__(self, folder: Path, build: Path) -> None:
        self.log, self.simple = folder / "qemu.log", folder / "trace"
        self.declared = build / "trace/trace-events-all"
        self.script = build.parent / "scripts/simpletrace.py"

    def records(self, path: Path) -> tuple[list[tuple[Record, str]], Replay]:
        """Return the records of a file, each with its arguments as the file has them."""
        items, replay = read(path, events_all=self.declared, text=False)
        assert not [item for item in items if isinstance(item, Loss)]
        assert not replay.problem
        batches = [item for item in items if isinstance(item, Batch)]
        rows = [
            (record, batch.raw(row))
            for batch in batches
            for row, record in enumerate(batch.records())
        ]
        return rows, replay


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    qemu = require("built")
    build = Path(qemu.command[0]).resolve().parent
    run = Run(tmp_path_factory.mktemp("run"), build)
    if not run.declared.is_file():
        pytest.skip("the QEMU in $QTCTL_TEST_QEMU is not in its build folder")
    folder = run.log.parent
    (folder / "events").write_text("\n".join(["*", *(f"-{loud}" for loud in LOUD), ""]))
    extra = ["-msg", "timestamp=on", "-D", str(run.log)]
    extra += ["-trace", f"events={folder / 'events'}", "-trace", f"file={run.simple}"]
    extra += many_devices(folder)
    with RealGuest(qemu, image="sectors", extra=extra) as guest:
        with RawClient(guest.address) as link:
            time.sleep(3)  # let it boot
            for command in DO:
                assert link.ask(execute=command) == {"return": {}}
                time.sleep(0.5)
            for line in ASK:
                link.ask(execute="human-monitor-command", arguments={"command-line": line})
            link.ask(execute="quit")
        guest.process.wait(30)
    yield run


def told(record: Record, text: str) -> tuple[str, str]:
    """Return the name and the arguments, with NULL as simple has it."""
    return record.name, text.replace("(null)", "")


def test_simple_and_log_have_the_same_records(run: Run) -> None:
    simple, replay = run.records(run.simple)
    log, _ = run.records(run.log)
    declared = replay.table.declarations
    printed: Counter[tuple[str, str]] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    arguments = {}
    for record, _ in simple:
        if record.name not in CUT:
            assert record.raw is None
            key = told(record, render(declared[record.name], record.args))
            printed[key] += 1
            arguments[key] = record.args
    for record, text in log:
        assert record.backend == Backend.LOG
        if record.name not in CUT:
            assert record.raw is None
            key = told(record, text)
            found[key] += 1
            for name, value in record.args.items():
                want = arguments[key][name]
                assert value == want or (value is None and want in NULLS), (record, want)
    assert found - printed == printed - found == Counter()
    names = {record.name for record, _ in simple}
    assert (len(simple) > LEAST[0], len(names) > LEAST[1]) == (True, True), (len(simple), names)
    print(f"{len(simple)} records of {len(names)} events")


def test_qemus_own_reader_says_the_same(run: Run) -> None:
    if not run.script.is_file():
        pytest.skip("no scripts/simpletrace.py beside the build of $QTCTL_TEST_QEMU")
    text = run.simple.with_name("printed")
    with text.open("wb") as out:
        words = [sys.executable, str(run.script), str(run.declared), str(run.simple)]
        subprocess.run(words, stdout=out, check=True, timeout=120)
    ours, theirs = run.records(run.simple)[0], run.records(text)[0]
    assert [r.name for r, _ in ours] == [r.name for r, _ in theirs]
    first = ours[0][0].time_ns
    for (own, _), (other, _) in zip(ours, theirs, strict=True):
        assert own.time_ns - first == other.time_ns
        for name, value in own.args.items() if own.name not in CUT else ():
            want = other.args[name]
            assert value == want or (want is None and value in NULLS), (own, other)
