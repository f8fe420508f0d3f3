"""The verb share: lend the monitor to other consoles and to any QMP client."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from qtctl import config
from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, arg, command
from qtctl.errors import LinkLost, QtctlError
from qtctl.model import Address, Guest
from qtctl.session.attach import resolve
from qtctl.text.style import escaped

_DETACHED = "QTCTL_SHARE_DETACHED"
"""Set in the environment of the process that ``share --detach`` starts."""


@command(
    "share",
    arguments=(
        arg(
            "--detach",
            action="store_true",
            help="do so in the background until the guest ends, and return at once",
        ),
    ),
    examples=("qtctl share", "qtctl -v share", "qtctl share --detach --json"),
    details="Prints the socket on which it serves QMP to this user:\n"
    "  qmp-shell $(qtctl share --detach)\n\n"
    "Every verb finds a lender by itself, and every verb that stays (tail, the prompt ...) lends\n"
    "the monitor as well. With -v it prints who connects and leaves.",
)
async def share(context: Context, options: Options) -> int:
    """Lend the monitor until stopped or the guest ends."""
    if options.detach:
        return await _detach(context)
    context.stops = True
    async with context.attached(lend=True) as session:
        lender = await session.monitor.lender()
        if not lender or not lender["path"]:
            raise QtctlError(
                f"the monitor at {session.where} cannot be lent: no private socket could be made",
                hint="set XDG_RUNTIME_DIR to a folder of yours",
            )
        _show(context, {"path": lender["path"], "pid": os.getpid()})
        if os.environ.pop(_DETACHED, None):
            _let_go()
        try:
            await context.wait_stopped(session)
        except LinkLost:
            if not await session.ends_soon():
                raise
            context.say("the guest has ended")
    return 0


def _show(context: Context, shared: dict[str, Any]) -> None:
    context.show(Result(shared, lambda style: [escaped(shared["path"])]))


async def _detach(context: Context) -> int:
    """Start a background process that shares; return 0 once it does, or its exit code."""
    address, guest = resolve(context.target)
    with context.waiting(lambda: f"waiting for {address}, to lend it"):
        shared = await asyncio.to_thread(
            lambda: _shared_already(address, guest) or _start(address, guest)
        )
    if isinstance(shared, int):
        return shared
    if "exit_code" in shared:  # the object of an error, which is on stderr already
        context.write([json.dumps(shared)] if context.json else [])
        return int(shared["exit_code"])
    _show(context, shared)
    pid = shared["pid"]
    context.say(f"shared by pid {pid} until the guest ends; kill {pid} ends it sooner")
    return 0


def _shared_already(address: Address, guest: Guest | None) -> dict[str, Any] | None:
    """Find the process of an earlier ``--detach``, whether it lends now or waits for its turn."""
    from qtctl.monitor.holders import holders
    from qtctl.monitor.rendezvous import rendezvous_of

    rendezvous = rendezvous_of(address, guest)
    if rendezvous is None:
        return None
    for holder in (*holders(address, guest), *holders(Address(path=rendezvous.path))):
        try:
            environment = Path(f"/proc/{holder.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"{_DETACHED}=1".encode() in environment:
            return {"path": rendezvous.path, "pid": holder.pid}
    return None


def _start(address: Address, guest: Guest | None) -> dict[str, Any] | int:
    """Start ``share`` in a new process session; return its JSON object, or its exit code."""
    if address.path and not address.path.startswith("\0"):
        address = Address(path=str(Path(address.path).absolute()))
    target = str(address) if guest is None else str(guest.pid)
    command_line = [sys.executable, "-m", "qtctl", "-t", target, "share", "--json"]
    out, into = os.pipe()
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, into, 1)]
    # A configured --detach would start one process after the other.
    environment = {**os.environ, _DETACHED: "1", config.VARIABLE: ""}
    pid = os.posix_spawn(
        sys.executable, command_line, environment, file_actions=actions, setsid=True
    )
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        printed = pipe.read()  # until it closes its stdout
    if not printed:  # its stderr is ours, so its error has been printed
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    shared: dict[str, Any] = json.loads(printed)
    return shared


def _let_go() -> None:
    """Release the outputs and the folder of the process that started us."""
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
