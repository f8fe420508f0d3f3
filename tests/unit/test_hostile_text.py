"""Names, paths and error texts from outside: nothing of them reaches a terminal unescaped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qtctl.commands.context import Context, Result
from qtctl.errors import QtctlError
from qtctl.text.style import Style, printable
from tests.running import Qtctl
from tests.samples import DATA

HOSTILE = DATA / "cases" / "hostile"
OSC = HOSTILE / "raw-osc-in-argument-name.qtr"
CONTROLS = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
LONG = "n" * 300


@pytest.mark.parametrize(
    "verb",
    [
        ("replay", "FILE"),
        ("replay", "FILE", "--color", "always"),
        ("replay", "FILE", "--ndjson"),
        ("replay", "FILE", "--where", "nosuch == 1"),
        ("count", "--from", "FILE"),
        ("count", "virtio_blk_req_complete", "--from", "FILE", "--by", "nosuch"),
        ("query", "DESCRIBE virtio_blk_handle_read", "FILE"),
        ("query", "FROM virtio_blk_handle_read LIMIT 2", "FILE"),
        ("diff", "FILE", "FILE"),
    ],
    ids=" ".join,
)
def test_no_control_character_of_a_recording_is_printed(run: Qtctl, verb: tuple[str, ...]) -> None:
    ran = run(*(word.replace("FILE", str(OSC)) for word in verb))
    assert not CONTROLS.search(COLOUR.sub(b"", ran.raw + ran.raw_err)), ran


@pytest.mark.parametrize("style", [Style(), Style(colour=True)])
def test_a_message_is_one_line_whatever_it_quotes(
    capsys: pytest.CaptureFixture[str], style: Style
) -> None:
    context = Context(err_style=style, out_style=style, name="a\x1b]0;x\x07")
    hostile = "x\nqtctl: all is well\x1b[2J\x9b"
    context.complain(hostile)
    context.fail(QtctlError(hostile, hint=hostile, more=(hostile, hostile)))
    context.show(Result(None, lambda style: [f"a\tb{hostile}", style.paint(hostile, "bad")]))
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 5
    assert len(out.splitlines()) == 2
    assert not CONTROLS.search(COLOUR.sub(b"", (out + err).encode()))
    assert "a\tbx\\nqtctl: all is well\\x1b[2J\\x9b" in out


def test_colours_and_tabs_pass() -> None:
    line = "\x1b[1;36mname\x1b[0m\tvalue"
    assert printable(line) == line
    assert printable("\x1b[2J\x1b]0;x\x07") == "\\x1b[2J\\x1b]0;x\\x07"


def test_paths_and_names_with_newlines_stay_on_their_line(run: Qtctl, tmp_path: Path) -> None:
    path = str(tmp_path / "a\nqtctl: b\x1b[2J")
    for verb in (("replay", path), ("query", "SELECT 1", path), ("-t", path, "list"), (path,)):
        ran = run(*verb)
        assert ran.code, ran
        assert not CONTROLS.search(ran.raw_err), ran
        assert "\nqtctl: b" not in ran.err, ran


@pytest.mark.parametrize("form", ["csv", "ndjson", "perfetto", "ctf", "parquet"])
@pytest.mark.parametrize("name", [LONG, "é" * 150])
def test_any_name_is_exported(run: Qtctl, tmp_path: Path, form: str, name: str) -> None:
    declared, log, out = tmp_path / "d", tmp_path / "log", tmp_path / "out"
    declared.write_text(f'{name}(int x) "x %d"\n')
    log.write_text(f"{name} x 1\n")
    ran = run("--events-all", str(declared), "export", "--to", form, str(log), "-o", str(out))
    said = ran.said(0).err
    assert "1 " in said
    files = [path for path in (out, *out.rglob("*")) if path.is_file()]
    assert files


def test_a_host_of_hostile_values_stays_data(run: Qtctl, tmp_path: Path) -> None:
    files = (str(HOSTILE / "host.log"), "--events-all", str(HOSTILE / "host.tea"))
    ran = run("replay", *files).said(0)
    assert not CONTROLS.search(ran.raw + ran.raw_err), ran
    ran = run("query", "SELECT count(*) FROM events", *files).said(0)
    assert ran.out.splitlines()[-1] == "5"
    run("export", "--to", "parquet", *files, "-o", str(tmp_path / "out")).said(0)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
