"""``qtctl forward --parquet`` and ``record --parquet`` on a fake guest."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.fake_qmp import FakeProcess
from tests.fleet import names
from tests.integration.conftest import MakeFake
from tests.otlp import receiving
from tests.running import Qtctl, eventually

READ = "virtio_blk_handle_read"


def log(folder: Path, count: int, name: str = "qmp.log") -> None:
    with (folder / name).open("a") as file:
        file.writelines(
            f"7@1700000000.{n:06}:{READ} vdev 0x1 req {n:#x} sector {n} nsectors 8\n"
            for n in range(count)
        )


def test_two_writers_of_one_data_set_and_a_receiver(
    qtctl: Qtctl, fake: FakeProcess, folder: Path, tmp_path: Path, declared: Path
) -> None:
    known, place = ("--events-all", str(declared)), str(tmp_path / "set")
    with receiving() as receiver:
        target = ("-t", fake.address, "--json")
        words = ("forward", READ, "--parquet", place, "--otlp", receiver.url, *known)
        forward = qtctl.start(*target, *words)
        record = qtctl.start(*target, "record", READ, "--parquet", place, *known)
        for run in (forward, record):
            run.said("Ctrl-C gives back")
        log(folder, 100)
        eventually(lambda: len(receiver.logs()) == 100, "all records are received")
        assert names(tmp_path) == []
        for run in (record, forward):
            run.signal(signal.SIGINT)
            told = json.loads(run.finish(None).said(130, "100 rows in 1 file in").out)
            assert (told["shown"], told["rows"], told["parquet"]) == (100, 100, place)
    ran = qtctl("count", "--from", place, "--json", limit=None).said(0)
    assert json.loads(ran.out)["groups"] == [{"value": READ, "count": 200}]
    assert fake.tell()["enabled"] == []


def test_what_cannot_be_right(qtctl: Qtctl, fake: FakeProcess, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    target = ("-t", fake.address)
    for words, code, says in (
        (("forward", READ, "--parquet", str(tmp_path / "other")), 2, "no data set of qtctl"),
        (("forward", READ, "--parquet", ""), 2, "no place of a data set"),
        (("record", READ), 2, "needs -o FILE, or --parquet DIR"),
        (("record", READ, "-o", "x", "--parquet", "y"), 2, "needs -o FILE, or --parquet DIR"),
        (("record", READ, "--parquet", "y", "--ring", "30s"), 2, "not to a data set"),
    ):
        qtctl(*target, *words, limit=None).said(code, says)
    assert fake.tell()["enabled"] == []


def test_several_guests_in_one_data_set(
    qtctl: Qtctl, make_fake: MakeFake, folder: Path, tmp_path: Path, declared: Path
) -> None:
    first, second = make_fake(name="one"), make_fake(name="two")
    known, place = ("--events-all", str(declared)), str(tmp_path / "set")
    words = ("-t", first.address, "-t", second.address, "forward", READ, "--parquet", place)
    run = qtctl.start(*words, *known)
    run.said("Ctrl-C gives back")
    eventually(lambda: all(one.tell()["enabled"] for one in (first, second)), "both are followed")
    for count, name in ((10, "one"), (20, "two")):
        log(folder, count, f"{name}.log")
    run.signal(signal.SIGINT)
    run.finish(None).said(130, "2 guests: 30 read", "32 rows in 4 files")
    ran = qtctl("count", "--from", place, "--by", "guest", "--json", limit=None).said(0)
    assert [one["count"] for one in json.loads(ran.out)["groups"]] == [20, 10]
