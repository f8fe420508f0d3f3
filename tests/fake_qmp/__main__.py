"""Runs the fake: prints ``ready ADDRESS`` when it listens and ends on SIGTERM or ``quit``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from .faults import FAULTS, FaultError
from .server import FakeQmp
from .versions import BACKENDS, SERIES


def _arguments() -> argparse.ArgumentParser:
    rows = (
        f"  {name + ':' + spec if spec else name:32} {what}"
        for name, (spec, what) in FAULTS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_qmp",
        description="A QMP server that behaves as QEMU does.",
        epilog="faults (NAME[:ARG][*TIMES]):\n" + "\n".join(rows),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", metavar="PATH", type=Path, help="listen on a Unix socket")
    where.add_argument("--tcp", metavar="HOST:PORT", help="listen on TCP; port 0 picks one")
    where.add_argument("-qmp", metavar="ADDRESS", help="unix:PATH,... or tcp:HOST:PORT,... as QEMU")
    parser.add_argument("--qemu", choices=SERIES, default="7.2", help="which QEMU to be")
    parser.add_argument("--backends", default="log", help=f"of {','.join(BACKENDS)}")
    parser.add_argument("--name", "-name", default="demo", help="the guest's name")
    parser.add_argument("-D", dest="log", metavar="FILE", type=Path, help="log here, not to stderr")
    parser.add_argument("--timestamps", action="store_true", help="as with -msg timestamp=on")
    parser.add_argument("-msg", metavar="timestamp=on", help="the same, as QEMU spells it")
    parser.add_argument("--rate", type=float, default=0, help="trace lines a second")
    parser.add_argument("--noise", action="store_true", help="mix in lines as of -d items")
    parser.add_argument("--seed", type=int, default=0, help="for the made-up values")
    parser.add_argument("--fault", action="append", default=[], metavar="FAULT")
    parser.add_argument("--control", action="store_true", help="take JSON lines on stdin")
    return parser


def _place(options: argparse.Namespace) -> tuple[Path | None, tuple[str, int] | bool]:
    tcp = options.tcp
    if options.qmp is not None:
        kind, _, rest = options.qmp.partition(":")
        place = rest.partition(",")[0]
        if kind == "unix":
            return Path(place), False
        tcp = place
    if tcp is None:
        return options.socket, False
    host, _, port = tcp.rpartition(":")
    return None, (host.strip("[]"), int(port))


def _obey(fake: FakeQmp, message: dict[str, Any]) -> dict[str, Any]:
    if "faults" in message:
        fake.set_faults(*message["faults"])
    if "emit" in message:
        fake.emit_lines(*message["emit"])
    if "events" in message:
        fake.emit_events(message["events"])
    if "event" in message:
        fake.push_event(message["event"], message.get("data"))
    return {"enabled": fake.events_enabled(), "commands": fake.commands}


async def _control(fake: FakeQmp) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        print(json.dumps(_obey(fake, json.loads(line))), flush=True)
    fake.finished.set()  # whoever started it is gone


async def _serve(options: argparse.Namespace) -> None:
    path, tcp = _place(options)
    fake = FakeQmp(
        qemu=options.qemu,
        backends=options.backends.split(","),
        name=options.name,
        socket_path=path,
        tcp=tcp,
        log=options.log,
        timestamps=options.timestamps or options.msg == "timestamp=on",
        rate=options.rate,
        noise=options.noise,
        seed=options.seed,
        faults=options.fault,
    )
    loop = asyncio.get_running_loop()

    def end() -> None:
        fake.push_event("SHUTDOWN", {"guest": False, "reason": "host-signal"})
        fake.finished.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    async with fake:
        print(f"ready {fake.address}", flush=True)
        control = asyncio.create_task(_control(fake)) if options.control else None
        await fake.finished.wait()
        if control is not None:
            control.cancel()
            await asyncio.gather(control, return_exceptions=True)
    # A process of QEMU ends with its monitor. Python has more to do, which a busy machine shows.
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    """Serve until told to stop."""
    parser = _arguments()
    options = parser.parse_args()
    try:
        asyncio.run(_serve(options))
    except (FaultError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
