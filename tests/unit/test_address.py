"""TARGET texts: every form, every refusal, and no other exception for any text."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qtctl.errors import UsageError
from qtctl.model import Address
from qtctl.monitor.address import UNIX_PATH_MAX, parse_target, shown, split_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/vm.sock", Address(path="/run/vm.sock")),
        ("./vm", Address(path="./vm")),
        ("vm.sock", Address(path="vm.sock")),
        ("/run/a,b:4444", Address(path="/run/a,b:4444")),
        ("unix:/run/vm.sock", Address(path="/run/vm.sock")),
        ("unix:vm", Address(path="vm")),
        ("unix:/p,server=on,wait=off", Address(path="/p")),
        ("unix:/p,server,nowait", Address(path="/p")),
        ("unix:path=/p,server=on,wait=off", Address(path="/p")),
        ("unix:/p,server=on,tls-authz=a", Address(path="/p")),
        ("unix:/a,,b,server=on", Address(path="/a,b")),
        ("unix:/a,b.sock", Address(path="/a,b.sock")),
        ("unix:/a=b", Address(path="/a=b")),
        ("unix:vm,abstract=on", Address(path="\0vm")),
        ("unix:vm,abstract=on,tight=off", Address(path="\0vm" + "\0" * 105)),
        ("unix:\0vm", Address(path="\0vm")),
        ("127.0.0.1:4444", Address(host="127.0.0.1", port=4444)),
        ("vm-host.example:4444", Address(host="vm-host.example", port=4444)),
        (":4444", Address(host="127.0.0.1", port=4444)),
        ("tcp:127.0.0.1:4444,server,nowait", Address(host="127.0.0.1", port=4444)),
        ("tcp:localhost:4444", Address(host="localhost", port=4444)),
        ("tcp::4444,server=on", Address(host="127.0.0.1", port=4444)),
        ("[::1]:4444", Address(host="::1", port=4444)),
        ("tcp:[fe80::1%eth0]:1", Address(host="fe80::1%eth0", port=1)),
        ("1234", 1234),
        ("007", 7),
        ("0" * 5000 + "7", 7),
        ("debian", "debian"),
        ("my guest", "my guest"),
        ("vm:a", "vm:a"),
        ("a:b:1", "a:b:1"),
        ("[x]", "[x]"),
        ("²", "²"),
        ("-1", "-1"),
    ],
)
def test_every_form(text: str, expected: Address | int | str) -> None:
    assert parse_target(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \t", "empty"),
        ("unix:", "empty"),
        ("unix:,server=on", "empty"),
        ("/" + "x" * UNIX_PATH_MAX, "108 bytes"),
        ("/" + "é" * 54, "109 bytes"),
        ("unix:" + "x" * 108 + ",abstract=on", "109 bytes"),
        ("localhost:0", "1 to 65535"),
        ("localhost:65536", "1 to 65535"),
        ("localhost:" + "9" * 5000, "1 to 65535"),
        ("localhost:", "no port"),
        ("tcp:localhost", "HOST:PORT"),
        ("tcp:localhost:qmp", "HOST:PORT"),
        ("[::1]", "no port"),
        ("[::1]:x", "no port"),
        ("[::g]:1", "not an IPv6 address"),
        ("::1:4444", "ambiguous"),
        ("0", "1 to 4194304"),
        ("4194305", "1 to 4194304"),
        ("9" * 5000, "1 to 4194304"),
        ("telnet:localhost:4444", "not plain QMP"),
        ("ws://localhost:4444", "not plain QMP"),
        ("unix:/p,websocket=on", "not plain QMP"),
        ("/run/\0", "NUL"),
        ("vm\udc00\ud800", "cannot be encoded"),
    ],
)
def test_every_refusal_says_why(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        parse_target(text)
    assert caught.value.exit_code == 2


def test_control_characters_are_escaped_in_messages() -> None:
    with pytest.raises(UsageError) as caught:
        parse_target("tcp:\x1b[2J\x9b\n:x")
    assert str(caught.value).isprintable()
    assert "\\x1b" in str(caught.value)
    assert shown("a\tb\u2028") == "'a\\tb\\u2028'"


def test_the_longest_path_is_taken() -> None:
    path = "/" + "x" * (UNIX_PATH_MAX - 1)
    assert parse_target(path) == Address(path=path)


def test_a_bare_name_of_a_socket_here_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("monitor")
        assert parse_target("monitor") == Address(path="monitor")
    assert parse_target("file") == "file"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a", [("path", "a")]),
        ("a,b", [("path", "a"), ("b", "on")]),
        ("a,nob,c=", [("path", "a"), ("b", "off"), ("c", "")]),
        ("a,,b,,,c=,,", [("path", "a,b,"), ("c", ",")]),
        ("k=a=b", [("k", "a=b")]),
        (",a", [("path", ""), ("a", "on")]),
    ],
)
def test_options_are_split_as_qemu_does(text: str, pairs: list[tuple[str, str]]) -> None:
    assert split_options(text, "path") == pairs


_PIECES = st.one_of(
    st.sampled_from(["unix:", "tcp:", "[", "]", "::1", ":", ",", ",,", "=", "path=", "no", "/"]),
    st.sampled_from(["4444", "0", "\0", "\x1b", "é", "\ud800", "off", "abstract", "fe80::1%", "x"]),
)


@given(st.one_of(st.text(), st.lists(_PIECES, max_size=8).map("".join)))
@example("unix:abstract,path=\udcff,tight=off")
@example(":::\x1f")
@example("fe80::1%\x1b:4444")
def test_any_text_gives_a_target_or_a_usage_error(text: str) -> None:
    try:
        target = parse_target(text)
    except UsageError as error:
        assert str(error).isprintable()
        return
    if isinstance(target, Address) and target.path is not None:
        assert len(os.fsencode(target.path)) <= UNIX_PATH_MAX or target.path.startswith("\0")
    elif isinstance(target, Address):
        assert target.host
        assert 1 <= target.port <= 65535


@given(st.text(st.characters(exclude_characters=",\0", codec="utf-8"), min_size=1, max_size=20))
def test_str_of_an_address_parses_to_it_again(name: str) -> None:
    address = Address(path=f"/{name}")
    assert parse_target(str(address)) == address


def test_it_is_quick_to_import() -> None:
    code = "import sys, qtctl.monitor.address, qtctl.monitor.cmdline; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"psutil", "numpy", "qemu.qmp", "asyncio", "elftools"} & set(run.stdout.split())
