"""QEMU command lines: every spelling of a monitor, and no exception for any argv."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.model import Address
from qtctl.monitor.cmdline import QemuOptions, parse_cmdline

SOCKET = Address(path="/p")
LOCAL = Address(host="127.0.0.1", port=4444)
CHARDEV = "-chardev socket,id=q,path=/p,server=on,wait=off"


def parse(line: str) -> QemuOptions:
    return parse_cmdline(["qemu-system-x86_64", *line.split()])


@pytest.mark.parametrize(
    "line",
    [
        "-qmp unix:/p,server=on,wait=off",
        "--qmp unix:/p,server,nowait",
        "-qmp unix:path=/p,server=yes,wait=no",
        "-qmp-pretty unix:/p,nowait,server",
        "-qmp unix:/p,server=y -qmp unix:/p,server=true",
        f"{CHARDEV} -mon chardev=q,mode=control",
        f"{CHARDEV} -mon q,mode=control,pretty=on",
        f"-mon mode=control,chardev=q {CHARDEV}",
        f"--mon q,mode=control -{CHARDEV}",
        f"-qmp chardev:q {CHARDEV}",
        f"{CHARDEV},mux=on -mon chardev=q,mode=control",
        f"-object monitor-qmp,id=m,chardev=q {CHARDEV}",
        f'-object {{"qom-type":"monitor-qmp","id":"m","chardev":"q"}} {CHARDEV}',
        f'-mon {{"chardev":"q","mode":"control"}} {CHARDEV}',
        '-chardev {"driver":"socket","id":"q","path":"/p","server":true} -mon q,mode=control',
        '-chardev {"id":"q","backend":{"type":"socket","data":{"addr":{"type":"unix","data":'
        '{"path":"/p"}},"wait":false}}} -mon q,mode=control',
    ],
)
def test_spellings_of_a_unix_monitor(line: str) -> None:
    assert parse(line).addresses == (SOCKET,)


@pytest.mark.parametrize(
    ("line", "address"),
    [
        ("-qmp tcp:127.0.0.1:4444,server,nowait", LOCAL),
        ("-qmp tcp::4444,server=on,wait=off", LOCAL),
        ("-qmp tcp:0.0.0.0:4444,server=on", LOCAL),
        ("-chardev socket,id=q,port=4444,server=on -mon q,mode=control", LOCAL),
        (
            "-chardev socket,id=q,host=::,port=4444,server=on -mon q,mode=control",
            Address(host="::1", port=4444),
        ),
        ("-qmp unix:/a,,b,server=on", Address(path="/a,b")),
        ("-qmp unix:n,abstract=on,server=on", Address(path="\0n")),
        ("-qmp unix:n,abstract=on,tight=off,server=on", Address(path="\0n" + "\0" * 106)),
    ],
)
def test_addresses_a_client_can_connect_to(line: str, address: Address) -> None:
    assert parse(line).addresses == (address,)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-qmp",
        "-qmp stdio",
        "-qmp none",
        "-qmp pty",
        "-qmp unix:/p",
        "-qmp unix:/p,noserver",
        "-qmp unix:/p,server=off",
        "-qmp unix:/p,server=1",
        "-qmp tcp:[::1]:4444,server=on",
        "-qmp tcp:localhost:0,server=on",
        "-qmp tcp:localhost:qmp,server=on",
        "-qmp telnet:localhost:4444,server=on",
        "-qmp unix:/p,server=on,telnet=on",
        "-chardev socket,id=q,port=1,server=on,tls-creds=t -mon q,mode=control",
        f"{CHARDEV} -mon chardev=q",
        f"{CHARDEV} -mon chardev=q,mode=readline",
        f"{CHARDEV} -mon chardev=other,mode=control",
        "-chardev stdio,id=q -mon q,mode=control",
        "-monitor unix:/p,server=on",
        "-serial unix:/p,server=on",
        "-qmp=unix:/p,server=on",
        "-append -qmp unix:/p,server=on",
        "-qmp unix:/" + "x" * 108 + ",server=on",
    ],
)
def test_monitors_that_no_plain_qmp_client_can_use(line: str) -> None:
    assert parse(line).addresses == ()


def test_inherited_sockets_as_libvirt_starts_qemu() -> None:
    line = "-chardev socket,id=c,fd=35,server=on,wait=off -mon chardev=c,id=m,mode=control"
    assert parse(line).descriptors == (35,)
    assert parse(line).addresses == ()


def test_several_monitors_keep_their_order() -> None:
    options = parse(f"-qmp tcp::4444,server=on {CHARDEV} -mon q,mode=control -qmp unix:/r,server")
    assert options.addresses == (LOCAL, SOCKET, Address(path="/r"))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("", None),
        ("-name vm", "vm"),
        ("-name guest=vm,debug-threads=on", "vm"),
        ("-name debug-threads=on", None),
        ("-name a,,b,process=p", "a,b"),
        ("-name a -name debug-threads=on", "a"),
        ("-name a -name b", "b"),
        ('-name {"guest":"x"}', '{"guest":"x"}'),
    ],
)
def test_names(line: str, name: str | None) -> None:
    assert parse(line).name == name


def test_output_files_and_folders() -> None:
    options = parse(
        "-D /a -D /log -d int,tid -d guest_errors,tid -trace enable=x* -trace virtio_*,file=/t"
        " -msg timestamp=on -daemonize -L /x -L /y -pidfile /pid -runas nobody -chroot /jail"
        " -readconfig /c disk.img"
    )
    assert options == QemuOptions(
        log_file="/log",
        log_items=("guest_errors", "tid"),
        trace_file="/t",
        daemonize=True,
        data_dirs=("/x", "/y"),
        chroot="/jail",
        config_files=("/c",),
        stamps_log=True,
    )
    assert parse("-run-with chroot=/jail,user=nobody").chroot == "/jail"


_WORDS = st.one_of(
    st.sampled_from(["-qmp", "-mon", "-chardev", "-name", "-object", "-trace", "-msg", "-D", "-d"]),
    st.sampled_from(
        ["unix:/p,server", "tcp::1,server", "q,mode=control", '{"id":"q","path":"/p"}']
    ),
    st.sampled_from(["unix:\udcff\ud800,abstract,tight=off,server", "socket,id=q,fd=²,server"]),
    st.sampled_from(["{" + "[" * 2000, '{"a":' * 2000, '{"id":' + "9" * 5000 + "}", "--qmp"]),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda children: st.dictionaries(
            st.sampled_from(["id", "path", "server", "backend", "data", "addr", "chardev", "fd"]),
            children,
        ),
    ).map(json.dumps),
)


@given(st.lists(_WORDS, max_size=8))
def test_any_command_line_is_parsed(argv: list[str]) -> None:
    options = parse_cmdline(argv)
    assert all(a.path or 0 < a.port < 65536 for a in options.addresses)


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("-monitor unix:/h,server=on,wait=off", ("/h",)),
        ("-chardev socket,id=h,path=/h,server=on -mon h", ("/h",)),
        ("-chardev socket,id=h,path=/h,server=on -mon chardev=h,mode=readline", ("/h",)),
        ("-chardev socket,id=h,path=/h,server=on -monitor chardev:h", ("/h",)),
        ("-chardev socket,id=h,path=/h,server=on -mon chardev=h,mode=control", ()),
        ("-chardev socket,id=h,path=/h -mon h", ()),
        ("-monitor none -monitor stdio -monitor tcp:127.0.0.1:4,server=on", ()),
    ],
)
def test_sockets_of_the_human_monitor(line: str, paths: tuple[str, ...]) -> None:
    assert parse(line).human_monitors == paths
