"""The prompt in a bare pty and as a script, against the fake: lines, jobs, leases, bad input."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl, Ran, eventually
from tests.samples import capture
from tests.terminals import Pty

READ = "virtio_blk_handle_read"
PROMPT = "qtctl>"


def prompt(qtctl: Qtctl, fake: FakeProcess, **env: str) -> Pty:
    return Pty(("-t", fake.address), qtctl.environment({"PAGER": "cat", **env}))


def test_a_verb_answers_above_the_prompt_and_ctrl_d_gives_back(
    qtctl: Qtctl, fake: FakeProcess
) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        on.until("1 matched, 1 changed")
        assert fake.tell()["enabled"] == [READ]
        on.send("status\r")
        on.until("running")
        on.send("\x04")
        on.until("gave back 1 event")
        assert on.finish() == 0
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_what_is_on_is_shown_without_a_further_verb(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        place = on.until("1 matched")
        fake.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"])
        place = on.until("sector 7", place)
        on.send(f"disable {READ}\r")
        on.until("1 matched, 1 changed", place)
        on.send("\x04")
        assert on.finish() == 0


def test_a_tail_goes_on_while_other_verbs_run_and_ctrl_c_stops_it(
    qtctl: Qtctl, fake: FakeProcess
) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"tail {READ} --where 'time_ns > 0'\r")
        on.until("1 event on")
        fake.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"])
        place = on.until("sector 7")
        on.send("jobs\r")
        on.until(f"1  tail {READ}", place)
        on.send("\x03")
        on.until("1 read, 1 shown, 0 filtered, 0 lost")
        eventually(lambda: not fake.tell()["enabled"], "the event is given back")
        on.send("\x04")
        assert on.finish() == 0


def test_news_are_told_once_whatever_runs(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        place = on.until("1 matched")
        on.send("tail virtio_scsi_*\r")
        place = on.until("from /", place)
        fake.tell(event="STOP")
        fake.tell(event="RESET", data={"guest": True, "reason": "guest-reset"})
        place = on.until("RESET guest=True reason=guest-reset", place)
        qtctl("-t", fake.address, "mark", "before \x1b[2Jreset").said(0)
        qtctl("-t", fake.address, "enable", "virtio_blk_handle_write").said(0)
        on.until("enable virtio_blk_handle_write: 1 changed", place)
        on.send("\x04")
        assert on.finish() == 0
    assert on.text.count("STOP") == 1
    assert on.text.count("mark: before \\x1b[2Jreset") == 1
    assert f"enable {READ}: 1 changed" not in on.text, "its own switches are not news"
    assert fake.tell()["enabled"] == ["virtio_blk_handle_write"]


def test_what_another_console_switches_on_is_shown(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        place = on.until("0 on")
        qtctl("-t", fake.address, "enable", READ).said(0)
        place = on.until(" 0 lost", place)
        fake.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"])
        place = on.until("sector 7", place)
        on.send("\x04")
        assert on.finish() == 0
    assert fake.tell()["enabled"] == [READ]


def test_a_guest_that_comes_back_is_taken_up_again(qtctl: Qtctl, folder: Path) -> None:
    where = ("--socket", str(folder / "qmp"), "-D", str(folder / "log"))
    with FakeProcess(*where) as first, prompt(qtctl, first) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        on.until("1 matched")
        on.send("tail virtio_blk_handle_write\r")
        place = on.until("1 event on")
        on.until("0 lost |", place)
        first.stop()
        place = on.until("is gone", place)
        on.send("list\r")
        place = on.until("try:", place)
        with FakeProcess(*where) as second:
            on.until("the guest is back", place)
            place = on.until("1 event switched on", place)
            on.until("1 event on", place)
            wanted = ["virtio_blk_handle_write", READ]
            eventually(lambda: sorted(second.tell()["enabled"]) == sorted(wanted), "both are on")
            second.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 77 nsectors 1"])
            on.until("sector 77", place)
            on.send("\x04")
            assert on.finish() == 0
            assert not second.tell()["enabled"]
    assert not qtctl.leases()


def test_a_job_with_a_file_goes_on_in_another_when_the_guest_comes_back(
    qtctl: Qtctl, folder: Path
) -> None:
    where = ("--socket", str(folder / "qmp"), "-D", str(folder / "log"))
    line = f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"

    def await_row(path: Path) -> None:
        eventually(lambda: b"sector 7" in path.read_bytes(), f"{path} is written")

    with FakeProcess(*where) as first, prompt(qtctl, first) as on:
        out = folder / "rows"
        on.until(PROMPT)
        on.send(f"tail {READ} -o {out}\r")
        place = on.until("1 event on")
        first.tell(emit=[line])
        await_row(out)
        first.stop()
        place = on.until("is gone", place)
        for other in (folder / "rows.1", folder / "rows.2"):
            with FakeProcess(*where) as guest:
                place = on.until(f"goes to {other}", place)
                place = on.until("1 event on", place)
                guest.tell(emit=[line])
                await_row(other)
            place = on.until("is gone", place)
        assert out.read_bytes().count(b"sector 7") == 1
        on.send("\x04")
        assert on.finish() == 0


def test_a_long_answer_is_cut_and_tells_how_to_get_all_of_it(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    pytest.importorskip("duckdb")
    (folder / "trace").write_bytes(capture("qemu-7.2-simple-v4.bin"))
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        query = f"query 'SELECT range n FROM range(3500), events LIMIT 3500' {folder / 'trace'}"
        on.send(f"{query}\r")
        place = on.until("2,500 more rows, not drawn; all of them: -o FILE")
        on.until("3500 rows", place)
        on.send(f"{query} -o {folder / 'all'}\r")
        eventually(lambda: (folder / "all").exists(), "a file")
        on.until("3500 rows", place + 100)
        on.send("\x04")
        assert on.finish() == 0
    assert len((folder / "all").read_text().splitlines()) == 3500


def test_a_prompt_can_be_left_while_the_guest_is_gone(qtctl: Qtctl, folder: Path) -> None:
    with FakeProcess("--socket", str(folder / "qmp")) as fake, prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        on.until("1 matched")
        fake.stop()
        on.until("is gone")
        on.send("\x04")
        assert on.finish() == 0


def test_what_cannot_be_shown_is_told_once(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake("--backends", "nop")
    event = qtctl("-t", fake.address, "list").said(0).out.split()[0]
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"enable {event}\r")
        on.until("was built without tracing")
        place = on.until("1 matched")
        on.send("jobs\r")
        on.until("nothing runs here", place)
        on.send("status\r")
        on.until("state", place)
        on.send("\x04")
        assert on.finish() == 0
    assert on.text.count("was built without tracing") == 1


def test_ctrl_c_clears_the_line_first(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"disable {READ}")
        on.send("\x03")
        on.send("\x03")
        on.until("nothing runs here")
        on.send("quit\r")
        assert on.finish() == 0
    assert "matched" not in on.text


def test_a_question_stands_in_the_place_of_the_prompt(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send("enable *\r")
        place = on.until("[y/N]")
        on.send("no\r")
        place = on.until("try:", place)
        assert not fake.tell()["enabled"]
        on.send("enable *\r")
        on.until("[y/N]", place)
        on.send("y\r")
        on.until("4244 changed", place)
        on.send("\x04")
        on.until("gave back 4244 events")
        assert on.finish() == 0
    assert not fake.tell()["enabled"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("enabel x", "there is no verb 'enabel'"),
        ("enable x\\", "no escaped character"),
        ("enable nosuch_event", "no event matches 'nosuch_event'"),
        ("tail --where", "--where"),
        ("repl", "there is no verb 'repl'"),
        ("stop 99", "no job 99"),
        ("help nosuch", "there is no verb 'nosuch'"),
        ("\x1b[200~\x1b[31mred\x07\x1b[201~", "there is no verb"),
        ("qtctl list nosuch_*", "no event matches 'nosuch_*'"),
    ],
)
def test_a_bad_line_is_told_and_the_prompt_stays(
    qtctl: Qtctl, fake: FakeProcess, line: str, said: str
) -> None:
    with prompt(qtctl, fake, NO_COLOR="1") as on:
        on.until(PROMPT)
        on.send(f"{line}\r")
        place = on.until(said)
        on.send("help list\r")
        on.until("usage: qtctl list", place)
        on.send("\x04")
        assert on.finish() == 0
    assert "\x07" not in on.text


def test_bytes_that_are_not_utf8_can_be_typed(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(b"list \xff\xfe\r")
        on.until("no event matches")
        on.send("\x04")
        assert on.finish() == 0
    assert b"list" in (qtctl.state / "qtctl/history").read_bytes()


def test_lines_are_kept_for_the_next_prompt(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send("list --state enabled\r")
        on.send("\x04")
        assert on.finish() == 0
    history = qtctl.state / "qtctl/history"
    assert history.stat().st_mode & 0o777 == 0o600
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send("\x1b[A")
        on.until("enabled")
        on.send("\x03\x04")
        assert on.finish() == 0


def test_colour_and_control_characters_stay_away(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake("--name", "vm\x1b]0;x\x07")
    with prompt(qtctl, fake, NO_COLOR="1") as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        place = on.until("1 matched")
        fake.tell(emit=[f"{READ} vdev 0x1 \x1b[2J"])
        on.until("\\x1b[2J", place)
        on.send("\x04")
        assert on.finish() == 0
    assert "\x1b[2J" not in on.text
    assert "\x1b]" not in on.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", on.text), "no colour"


@pytest.mark.parametrize("columns", [1, 2, 10])
def test_a_terminal_of_hardly_any_columns(qtctl: Qtctl, fake: FakeProcess, columns: int) -> None:
    with Pty(("-t", fake.address), qtctl.environment(), columns=columns, rows=5) as on:
        on.until(">")
        on.send(f"enable {READ}\r")
        eventually(lambda: fake.tell()["enabled"], "the event is on")
        fake.tell(emit=[f"{READ} {'x' * 50}"])
        eventually(lambda: on.text.count("x") >= 50, "the record is drawn")
        for size in (1, 80, 3):
            on.resize(size, size)
        on.send("\x04")
        assert on.finish() == 0
    assert not fake.tell()["enabled"]


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"LANG": "C", "LC_ALL": "C"}])
def test_terminals_that_can_do_little(qtctl: Qtctl, fake: FakeProcess, env: dict[str, str]) -> None:
    with prompt(qtctl, fake, **env) as on:
        on.until(PROMPT if "LANG" in env else "Ctrl-D leaves")
        on.send(f"tail {READ}\r")
        on.until("1 event on")
        fake.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"])
        on.until("sector 7")
        on.send("\x03")
        on.until("1 read, 1 shown")
        on.send("\x04")
        assert on.finish() == 0
    assert not fake.tell()["enabled"]


def test_a_terminal_that_hangs_up_gives_the_guest_back(qtctl: Qtctl, fake: FakeProcess) -> None:
    on = prompt(qtctl, fake)
    with on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        on.until("1 matched, 1 changed")
        on.process.send_signal(1)
        assert on.finish() == 129
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


class Stalled(Pty):
    """A terminal that takes no more than its kernel keeps."""

    def _read(self) -> None:
        pass


def test_a_terminal_that_stalls_holds_up_nobody(qtctl: Qtctl, fake: FakeProcess) -> None:
    with Stalled(("-t", fake.address), qtctl.environment()) as on:
        on.send(f"tail {READ}\r")
        eventually(lambda: fake.tell()["enabled"] == [READ], "the event is on")
        for _ in range(20):
            fake.tell(emit=[f"{READ} {'x' * 3000}"] * 15)
        for _ in range(3):
            qtctl("-t", fake.address, "list", READ).said(0)
        on.process.send_signal(15)
        eventually(lambda: on.ended, "the prompt ends")
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_use_goes_on_with_another_guest_and_gives_the_first_back(
    qtctl: Qtctl, make_fake: MakeFake, folder: Path
) -> None:
    first, second = make_fake(name="one"), make_fake(name="two")
    record = "vdev 0x1 req 0x2 sector {} nsectors 1"
    with prompt(qtctl, first) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        on.until("1 matched")
        on.send(f"tail virtio_blk_handle_write -o {folder / 'rows'}\r")
        place = on.until("1 event on")
        on.send(f"tail -t {second.address} virtio_blk_req_complete\r")
        place = on.until("1 event on", place)
        on.send(f"use {second.address}\r")
        on.until(f"ended on unix:{first.address}: tail virtio_blk_handle_write", place)
        place = on.until("gave back 1 event", place)
        place = on.until(f", unix:{second.address}", place)
        assert not first.tell()["enabled"]
        assert f"ended on unix:{first.address}: tail -t" not in on.text
        assert "virtio_blk_req_complete" in second.tell()["enabled"], "another guest's job goes on"
        assert qtctl("-t", first.address, "ps").code == 0
        on.send(f"enable {READ}\r")
        place = on.until("1 matched", place)
        first.tell(emit=[f"{READ} {record.format(111)}"])
        second.tell(emit=[f"{READ} {record.format(222)}"])
        on.until("sector 222", place)
        assert "sector 111" not in on.text
        on.send("jobs\r")
        on.until(f"tail -t {second.address}", place)
        on.send(f"use {second.address}\r")
        place = on.until("already on", place)
        on.send(f"use {first.address}\r")
        place = on.until("gave back 1 event", place)
        on.until(f", unix:{first.address}", place)
        on.send("\x04")
        assert on.finish() == 0
    assert not first.tell()["enabled"]
    assert not second.tell()["enabled"]
    assert not qtctl.leases()


def test_a_guest_that_does_not_answer_leaves_the_prompt_where_it_is(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    with prompt(qtctl, fake) as on:
        on.until(PROMPT)
        on.send(f"tail {READ}\r")
        place = on.until("1 event on")
        for wrong, why in ((folder / "nosuch", "nosuch"), ("no-guest", "no running guest is")):
            on.send(f"use {wrong}\nenable virtio_blk_handle_write\r")
            place = on.until(why, place)
            place = on.until(f"still on unix:{fake.address}", place)
            place = on.until("not run on", place)
        on.send("use one two\nenable virtio_blk_handle_write\r")
        place = on.until("unrecognized arguments: two", place)
        place = on.until("not run on", place)
        assert fake.tell()["enabled"] == [READ]
        fake.tell(emit=[f"{READ} vdev 0x1 req 0x2 sector 7 nsectors 1"])
        on.until("sector 7", place)
        on.send("\x04")
        assert on.finish() == 0


def test_use_goes_on_where_the_first_guest_is_gone(
    qtctl: Qtctl, make_fake: MakeFake, folder: Path
) -> None:
    second = make_fake(name="two")
    with FakeProcess("--socket", str(folder / "one")) as first, prompt(qtctl, first) as on:
        on.until(PROMPT)
        on.send(f"enable {READ}\r")
        place = on.until("1 matched")
        first.stop()
        place = on.until("is gone", place)
        on.send("list\r")
        place = on.until("use GUEST goes to another", place)
        on.send(f"use {second.address}\r")
        place = on.until(f", unix:{second.address}", place)
        on.send(f"enable {READ}\r")
        on.until("1 matched", place)
        assert second.tell()["enabled"] == [READ]
        on.send("\x04")
        assert on.finish() == 0
    assert not second.tell()["enabled"]
    assert not qtctl.leases()


def test_a_script_goes_from_guest_to_guest(qtctl: Qtctl, make_fake: MakeFake, folder: Path) -> None:
    first, second = make_fake(name="one"), make_fake(name="two")
    lines = f"enable {READ}\nuse {second.address}\nlist --state enabled\n"
    ran = script(qtctl, first, folder, lines).said(0, "gave back 1 event", "now on")
    assert READ not in ran.out
    script(qtctl, first, folder, "use\n").said(2, "nothing can be chosen", "use GUEST")
    script(qtctl, first, folder, "use -t x\n").said(2, "-t is for other verbs", "use x")


def script(qtctl: Qtctl, fake: FakeProcess, folder: Path, text: str) -> Ran:
    (folder / "lines").write_text(text)
    with (folder / "lines").open() as lines:
        return qtctl("-t", fake.address, "repl", stdin=lines)


def test_lines_of_a_pipe_are_a_script(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    lines = f"# a comment\n\nenable {READ}\nlist --state enabled\nqtctl status --json\n"
    ran = script(qtctl, fake, folder, lines).said(0, "gave back 1 event")
    assert f"{READ}\tenabled\n" in ran.out
    assert '"run_state": "running"' in ran.out
    assert not fake.tell()["enabled"]


def test_a_script_ends_with_the_first_line_that_fails(
    qtctl: Qtctl, fake: FakeProcess, folder: Path
) -> None:
    ran = script(qtctl, fake, folder, f"enable {READ}\nlist nosuch\nlist {READ}\n")
    ran.said(3, "line 2", "nosuch", "gave back 1 event")
    assert READ not in ran.out
    script(qtctl, fake, folder, "list 'x\n").said(2, "line 1", "no closing quotation")
    script(qtctl, fake, folder, "quit\nlist nosuch\n").said(0)
    assert not fake.tell()["enabled"]


def test_a_script_runs_each_line_to_its_end(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    lines = f"tail {READ} --duration 300ms --ndjson\nlist {READ}\n"
    ran = script(qtctl, fake, folder, lines).said(0, "0 read, 0 shown")
    assert ran.out.index('"summary"') < ran.out.index(f"{READ}\tdisabled")


def test_without_a_terminal_a_verb_is_needed(qtctl: Qtctl, fake: FakeProcess) -> None:
    qtctl("-t", fake.address).said(2, "a verb is needed")
    qtctl("-t", fake.address, "--json", "repl").said(2, "--json")


def test_sigterm_ends_a_script_and_gives_back(qtctl: Qtctl, fake: FakeProcess) -> None:
    run = qtctl.start("-t", fake.address, "repl", stdin=subprocess.PIPE)
    assert run.process.stdin is not None
    run.process.stdin.write(f"enable {READ}\ntail\n".encode())
    run.process.stdin.flush()
    run.said("following what is on")
    run.signal(15)
    ran = run.finish()
    run.process.stdin.close()
    ran.said(143, "gave back 1 event")
    assert not fake.tell()["enabled"]


def test_a_long_answer_is_shown_by_the_pager(qtctl: Qtctl, fake: FakeProcess) -> None:
    with prompt(qtctl, fake, PAGER="tail -n 1") as on:
        on.until(PROMPT)
        on.send("list\r")
        place = on.until("lines, shown by tail)")
        on.send("list\x12li\x03query 'SELECT\r1")  # Ctrl-R, and Ctrl-C leaves that; Enter goes on
        on.until("....> ", place)
        on.send("\x03exit\r")
        assert on.finish() == 0
