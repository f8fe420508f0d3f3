"""Two guests at one address, in different namespaces: qtctl acts on the one that was named."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import qtctl as library
from qtctl.errors import ConnectionFailed
from qtctl.model import Address
from qtctl.monitor.guests import find_guest
from qtctl.monitor.holders import holders
from qtctl.monitor.kernel_sockets import tcp_sockets, unix_sockets_of
from qtctl.monitor.processes import socket_inodes
from qtctl.monitor.rendezvous import rendezvous_of
from tests import needs
from tests.qemus import RealGuest, require
from tests.running import Qtctl, Ran, eventually, guest_by_pid

pytestmark = pytest.mark.qemu

EVENT = "virtio_blk_handle_read"
# Guests of other test runs on this machine have other names.
INSIDE, HERE = (f"qtctl-{where}-{os.getpid()}" for where in ("inside", "here"))


@dataclass(frozen=True, slots=True)
class Network:
    """A network namespace with a loopback interface; ``enter`` runs a program there."""

    enter: tuple[str, ...]


@pytest.fixture
def network() -> Iterator[Network]:
    """Make a network namespace, kept by a process that waits in it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a network namespace")
    unshare, nsenter = (needs.program(name, "util-linux") for name in ("unshare", "nsenter"))
    script = f"{needs.program('ip', 'iproute2')} link set lo up && echo up && exec cat"
    keeper = subprocess.Popen(
        [unshare, "-n", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with keeper:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"up\n":
            pytest.skip("the kernel permits no network namespace here")
        yield Network((nsenter, "-t", str(keeper.pid), "-n"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def start(
    stack: ExitStack,
    name: str,
    qmp: str | Sequence[str],
    prefix: Sequence[str] = (),
    *,
    runs: bool = False,
) -> RealGuest:
    """Start a guest with no other monitor than ``qmp``, and wait until it has that."""
    qemu = require("path")
    options = ["-qmp", f"{qmp},server=on,wait=off"] if isinstance(qmp, str) else qmp
    guest = stack.enter_context(
        RealGuest(
            replace(qemu, command=(*prefix, *qemu.command)),
            extra=["-name", name, *options, *(() if runs else ("-S",))],
            qmp=False,
        )
    )
    eventually(lambda: serves(guest.pid), f"{name} listens")
    return guest


def serves(pid: int) -> bool:
    """Return whether a process runs QEMU by now and listens on something."""
    guest = find_guest(pid)
    if guest is None:
        return False
    own = socket_inodes(pid) or frozenset()
    rows = [*(tcp_sockets(pid) or ()), *unix_sockets_of(pid)]
    return guest.name is not None and any(row.listening and row.inode in own for row in rows)


def state(qtctl: Qtctl, target: str, before: Sequence[str] = ()) -> str:
    """Return the pid of the guest behind a target, and whether the event is on there."""
    ran = qtctl("-t", target, "status", "--json", before=before).said(0)
    found = json.loads(ran.out)
    return f"{found['pid']} {'on' if EVENT in found['events']['enabled'] else 'off'}"


def hint(ran: Ran) -> list[str]:
    """Return the command in the hint of an error, up to its dots."""
    found = re.search(r"^  try: (.*) \.\.\.$", ran.err, re.MULTILINE)
    assert found is not None, ran
    return found[1].split()


WITHOUT_RIGHT = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")


@pytest.mark.parametrize("kind", ["tcp", "abstract"])
def test_the_guest_that_was_named_is_switched(
    kind: str, qtctl: Qtctl, network: Network, stack: ExitStack
) -> None:
    port = free_port()
    abstract = f"socket,id=q,path=qtctl-test-{port},abstract=on,server=on,wait=off"
    qmp: str | list[str] = f"tcp:127.0.0.1:{port}"
    address = str(qmp)
    if kind == "abstract":
        qmp = ["-chardev", abstract, "-mon", "q,mode=control"]
        address = f"unix:qtctl-test-{port},abstract=on"
    here = start(stack, HERE, qmp)
    inside = start(stack, INSIDE, qmp, network.enter)

    # Entering the namespace of the guest that was named:
    qtctl("-t", INSIDE, "enable", EVENT).said(0)
    assert state(qtctl, str(inside.pid)) == f"{inside.pid} on"
    assert state(qtctl, HERE) == f"{here.pid} off"

    # Where that is not permitted, the command that gets there:
    ran = qtctl("-t", str(inside.pid), "disable", EVENT, before=WITHOUT_RIGHT)
    ran.said(4, str(inside.pid), INSIDE, str(port), "another network namespace", "not permitted")
    *before, _, option, target = hint(ran)
    assert (before[:2], option) == (["nsenter", "-t"], "-t")
    qtctl("-t", target, "disable", EVENT, before=before).said(0)
    qtctl("-t", HERE, "enable", EVENT).said(0)

    # An address means whoever has it where qtctl runs, and its facts are that one's:
    assert state(qtctl, address) == f"{here.pid} on"
    assert state(qtctl, address, before=network.enter) == f"{inside.pid} off"

    guests = json.loads(qtctl("ps", "--json").said(0).out)["guests"]
    monitors = {guest["pid"]: guest["monitors"] for guest in guests}  # other tests' guests too
    found = [monitors[guest.pid][0]["other_network"] for guest in (here, inside)]
    assert found == [False, True]


def test_lenders_of_one_port_are_not_confused(
    qtctl: Qtctl, network: Network, stack: ExitStack
) -> None:
    qmp = f"tcp:127.0.0.1:{free_port()}"
    here, inside = start(stack, HERE, qmp), start(stack, INSIDE, qmp, network.enter)
    lenders = [
        qtctl.start("-t", HERE, "share"),
        qtctl.start("-t", qmp, "share", before=network.enter),
    ]
    for lender in lenders:
        lender.wrote(b"lent-")
    assert lenders[0].out != lenders[1].out
    qtctl("-t", INSIDE, "enable", EVENT, before=WITHOUT_RIGHT).said(0)  # the lender gets there
    assert state(qtctl, INSIDE) == f"{inside.pid} on"
    assert state(qtctl, qmp) == f"{here.pid} off"
    assert state(qtctl, qmp, before=network.enter) == f"{inside.pid} on"


def test_share_in_the_background_is_of_the_guest_that_was_named(
    qtctl: Qtctl, network: Network, stack: ExitStack
) -> None:
    qmp = f"tcp:127.0.0.1:{free_port()}"
    start(stack, HERE, qmp)
    inside = start(stack, INSIDE, qmp, network.enter)
    shared = json.loads(qtctl("-t", INSIDE, "share", "--detach", "--json").said(0).out)
    stack.callback(os.kill, shared["pid"], 15)
    again = json.loads(qtctl("-t", INSIDE, "share", "--detach", "--json").said(0).out)
    assert again == shared
    assert state(qtctl, f"unix:{shared['path']}").endswith(" off")
    lender = json.loads(qtctl("-t", INSIDE, "status", "--json").said(0).out)
    assert (lender["pid"], lender["lender"]["pid"]) == (inside.pid, shared["pid"])
    assert json.loads(qtctl("-t", HERE, "status", "--json").said(0).out)["lender"] is None


def test_a_program_that_a_trigger_starts_gets_the_same_guest(
    qtctl: Qtctl, network: Network, stack: ExitStack, tmp_path: Path
) -> None:
    qmp = f"tcp:127.0.0.1:{free_port()}"
    start(stack, HERE, qmp)
    inside = start(
        stack,
        INSIDE,
        ["-qmp", f"{qmp},server=on,wait=off", "-D", "{dir}/log"],
        network.enter,
        runs=True,
    )
    out = tmp_path / "target"
    script = f'echo "$QTCTL_TARGET" > {out}.part; mv {out}.part {out}'
    event = "memory_region_ops_read"
    words = ("do", "run", "sh", "-c", script)
    qtctl("-t", INSIDE, "on", event, "--once", *words, limit=None).said(0)
    eventually(out.exists, "the program ran")
    assert out.read_text() == f"{inside.pid}\n"


def test_a_path_that_a_guest_of_another_network_took(
    qtctl: Qtctl, network: Network, stack: ExitStack, tmp_path: Path
) -> None:
    """The kernel's list of our Unix sockets has none of that guest's: the connection shows it."""
    qmp = f"unix:{tmp_path}/q"
    first = start(stack, HERE, qmp)
    second = start(stack, INSIDE, qmp, network.enter)
    for verb in ("enable", "tail"):
        ran = qtctl("-t", HERE, verb, EVENT)
        ran.said(4, f"{tmp_path}/q", f"guest {second.pid} ('{INSIDE}')", f"guest {first.pid}")
    assert state(qtctl, INSIDE) == f"{second.pid} off"
    assert state(qtctl, f"{tmp_path}/q") == f"{second.pid} off"


def test_a_path_that_leads_to_another_file_in_the_guests_mounts(
    qtctl: Qtctl, stack: ExitStack, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a mount namespace")
    folder = tmp_path / "run"
    folder.mkdir()
    unshare = needs.program("unshare", "util-linux")
    if subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel permits no mount namespace here")
    mounted = (unshare, "-m", "sh", "-c", f'mount -t tmpfs none {folder} && exec "$@"', "sh")
    here = start(stack, HERE, f"unix:{folder}/q")
    inside = start(stack, INSIDE, f"unix:{folder}/q", mounted)
    qtctl("-t", INSIDE, "enable", EVENT).said(0)
    assert state(qtctl, INSIDE) == f"{inside.pid} on"
    assert state(qtctl, HERE) == f"{here.pid} off"
    # Without the right to look into the guest's mounts its path is that of the guest here.
    blind = ("setpriv", "--bounding-set=-sys_ptrace,-sys_admin")
    ran = qtctl("-t", INSIDE, "disable", EVENT, before=blind)
    ran.said(4, f"{folder}/q", f"guest {here.pid} ('{HERE}')", str(inside.pid))
    assert state(qtctl, INSIDE) == f"{inside.pid} on"


def test_a_port_that_another_guest_had_first(qtctl: Qtctl, stack: ExitStack) -> None:
    """With ``to=`` QEMU takes the next port, which its command line does not show."""
    port = free_port()
    qmp = f"tcp:127.0.0.1:{port},to={port + 9}"
    first, second = start(stack, HERE, qmp), start(stack, INSIDE, qmp)
    ran = qtctl("-t", INSIDE, "enable", EVENT)
    ran.said(4, f"guest {second.pid} ('{INSIDE}')", f"guest {first.pid} ('{HERE}')", str(port))
    assert state(qtctl, HERE) == f"{first.pid} off"


async def test_a_console_comes_back_to_the_namespace_it_was_in(
    own_folders: Path, network: Network, stack: ExitStack
) -> None:
    port = free_port()
    qmp = f"tcp:127.0.0.1:{port}"
    here = start(stack, HERE, qmp)
    with ExitStack() as ending:
        first = start(ending, INSIDE, qmp, network.enter)
        async with library.attach(INSIDE, lend=True) as session:
            assert session.target == str(first.pid)
            ending.close()
            assert await session.monitor.wait_lost()
            with pytest.raises(ConnectionFailed):
                await session.reconnect()
            assert not await session.comes_back(1)
            second = start(stack, INSIDE, qmp, network.enter)
            assert await session.comes_back(10)
            assert session.guest is not None
            assert session.guest.pid == second.pid != here.pid
            assert session.target == str(second.pid)
            await session.enable(EVENT)
        async with library.attach(HERE) as session:
            assert (await session.list(EVENT))[EVENT] == "disabled"


async def test_another_guest_at_the_address_ends_the_session(
    own_folders: Path, stack: ExitStack
) -> None:
    """TCP shows no credentials: the sockets of the guest's process show which one answers."""
    qmp = f"tcp:127.0.0.1:{free_port()}"
    with ExitStack() as ending:
        first = start(ending, INSIDE, qmp)
        async with library.attach(qmp) as session:
            assert session.guest == guest_by_pid(first.pid)
            ending.close()
            assert await session.monitor.wait_lost()
            second = start(stack, INSIDE, qmp)
            with pytest.raises(ConnectionFailed, match=f"guest {second.pid}"):
                await session.reconnect()
            assert await session.comes_back(10)
            assert session.guest == guest_by_pid(second.pid)


def test_who_holds_a_monitor_in_another_namespace(
    own_folders: Path, network: Network, stack: ExitStack
) -> None:
    qmp = f"tcp:127.0.0.1:{free_port()}"
    here, inside = (
        guest_by_pid(start(stack, HERE, qmp).pid),
        guest_by_pid(start(stack, INSIDE, qmp, network.enter).pid),
    )
    (address,) = here.addresses
    assert inside.addresses == here.addresses == (Address(host="127.0.0.1", port=address.port),)
    with socket.create_connection(("127.0.0.1", address.port)) as client:
        client.recv(1)
        assert [holder.pid for holder in holders(address, here)] == [os.getpid()]
        assert [holder.pid for holder in holders(address)] == [os.getpid()]
        assert holders(address, inside) == ()
    places = [rendezvous_of(address, guest) for guest in (None, here, inside)]
    assert None not in places
    names = [place.name for place in places if place is not None]
    assert names[0] == names[1] != names[2]
