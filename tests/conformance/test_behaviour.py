"""What a QEMU does beyond its answers, put to the fake and to real ones alike."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pytest

from tests import qemus

from .asking import Asker
from .calls import call
from .guests import EVENT, FAKES, Guest, boot, eventually, say, switch

ANY = pytest.mark.parametrize(
    "which", [*FAKES, *(pytest.param(label, marks=pytest.mark.qemu) for label in qemus.LABELS)]
)
LOGGED = ("-D", "{dir}/start.log")
#: Series that append to an existing file, and lose stderr too when a file cannot be opened.
APPENDING = ("7.2",)


def grows(guest: Guest, asker: Asker, path: Path) -> bool:
    """Tell whether the guest's events reach a file."""
    # A first round settles lines that were already under way.
    guest.progress(asker)
    before = path.stat().st_size if path.exists() else 0
    guest.progress(asker)
    return path.exists() and path.stat().st_size > before


@ANY
def test_a_second_client_is_greeted_only_when_the_first_leaves(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path) as guest:
        first = guest.ask()
        with socket.socket(socket.AF_UNIX) as second, second.makefile("rb") as lines:
            second.connect(guest.address)
            guest.progress(first)
            first.ask(call("query-status"))
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.recv(1)
            second.settimeout(60)
            first.close()
            assert lines.readline().startswith(b'{"QMP": ')


@ANY
def test_events_outlive_the_client_that_switched_them(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path, *LOGGED) as guest:
        first = guest.ask()
        switch(first, enable=True)
        first.close()
        second = guest.ask()
        state = second.ask(call("trace-event-get-state", name=EVENT))[0]["return"][0]["state"]
        assert state == "enabled"
        assert grows(guest, second, guest.directory / "start.log")
        switch(second, enable=False)
        assert not grows(guest, second, guest.directory / "start.log")


@ANY
def test_logfile_empties_an_existing_file_or_not(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path) as guest:
        (guest.directory / "old.log").write_text("precious\n")
        asker = guest.ask()
        switch(asker, enable=True)
        assert say(asker, f"logfile {guest.folder}/old.log") == ""
        assert grows(guest, asker, guest.directory / "old.log")
        kept = (guest.directory / "old.log").read_bytes().startswith(b"precious\n")
        assert kept == (guest.series in APPENDING)


@ANY
def test_after_a_failed_logfile_a_logging_guest_is_mute_until_a_retry(
    which: str, tmp_path: Path
) -> None:
    with boot(which, tmp_path, *LOGGED) as guest:
        start = guest.directory / "start.log"
        asker = guest.ask()
        switch(asker, enable=True)
        assert grows(guest, asker, start)
        failure = f"Error opening logfile {guest.folder}/none/x: No such file or directory\r\n"
        assert say(asker, f"logfile {guest.folder}/none/x") == failure
        assert not grows(guest, asker, start)
        assert not grows(guest, asker, guest.directory / "stderr")
        (guest.directory / "none").mkdir()
        assert say(asker, "log none") == ""
        assert grows(guest, asker, guest.directory / "none" / "x")


@ANY
def test_stderr_survives_a_failed_logfile_only_in_newer_ones(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path) as guest:
        stderr = guest.directory / "stderr"
        asker = guest.ask()
        switch(asker, enable=True)
        assert grows(guest, asker, stderr)
        assert "No such file" in say(asker, f"logfile {guest.folder}/none/x")
        assert grows(guest, asker, stderr) == (guest.series not in APPENDING)


@ANY
def test_a_bad_template_leaves_the_log_where_it_was(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path, *LOGGED) as guest:
        asker = guest.ask()
        switch(asker, enable=True)
        assert say(asker, f"logfile {guest.folder}/%s").startswith("Bad logfile template: ")
        assert grows(guest, asker, guest.directory / "start.log")


@ANY
def test_log_none_does_not_silence_events(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path, *LOGGED) as guest:
        asker = guest.ask()
        switch(asker, enable=True)
        assert say(asker, "log none") == ""
        assert grows(guest, asker, guest.directory / "start.log")


_BODY = rf"{EVENT} vdev (0x[0-9a-f]+|\(nil\)) req (0x[0-9a-f]+|\(nil\)) sector \d+ nsectors \d+"
_FORMS = {
    "none": _BODY,
    "thread": rf"\d+@\d+\.\d{{6}}:{_BODY}",
    "iso": rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z {_BODY}",
}


@ANY
@pytest.mark.parametrize("timestamps", [False, True])
def test_lines_have_the_form_of_that_version(which: str, tmp_path: Path, timestamps: bool) -> None:
    extra = ("-msg", "timestamp=on") if timestamps else ()
    with boot(which, tmp_path, *LOGGED, *extra) as guest:
        asker = guest.ask()
        switch(asker, enable=True)
        assert grows(guest, asker, guest.directory / "start.log")
        switch(asker, enable=False)
        stamped = "thread" if guest.series in ("7.2", "10.0") else "iso"
        form = _FORMS[stamped if timestamps else "none"]
        lines = (guest.directory / "start.log").read_text().splitlines()
        assert len(lines) >= 20
        for line in lines:
            # A device may warn in between; nothing else may.
            assert re.fullmatch(form, line) or "warning" in line


@ANY
def test_the_simple_file_begins_with_every_event_name(which: str, tmp_path: Path) -> None:
    with boot(which, tmp_path) as guest:
        asker = guest.ask()
        if "unknown command" in say(asker, "trace-file"):
            pytest.skip("that build has no simple backend")
        names = [
            row["name"] for row in asker.ask(call("trace-event-get-state", name="*"))[0]["return"]
        ]
        assert say(asker, f"trace-file set {guest.folder}/t.bin") == ""
        assert say(asker, "trace-file") == f'Trace file "{guest.folder}/t.bin" off.\r\n'
        assert say(asker, "trace-file on") == ""
        path = guest.directory / "t.bin"
        eventually(lambda: _mappings(path) == names[::-1], "every name is in the file")


def _mappings(path: Path) -> list[str]:
    data = path.read_bytes() if path.exists() else b""
    if len(data) < 24:
        return []
    assert struct.unpack_from("=QQQ", data) == (2**64 - 1, 0xF2B177CB0AA429B4, 4)
    names: list[str] = []
    at = 24
    while at + 20 <= len(data):
        kind, number, length = struct.unpack_from("=QQI", data, at)
        assert (kind, number) == (0, len(names))
        names.append(data[at + 20 : at + 20 + length].decode())
        at += 20 + length
    return names
