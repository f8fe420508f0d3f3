"""The verb demo: a tour on a guest of 512 bytes in a real QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from qtctl.commands.context import Context
from qtctl.commands.options import DURATION, MAX_EVENTS, NDJSON
from qtctl.commands.parsing import verb_parser
from qtctl.commands.registry import COMMANDS, Options, arg, command
from qtctl.commands.tail import tail
from qtctl.errors import Unsupported, UsageError

# Reads one sector through the BIOS for ever: xor ax,ax; mov es,ax; mov bx,8000h; mov ax,0201h;
# mov cx,1; mov dx,80h; int 13h; in al,64h; out 80h,al; jmp to the mov ax.
_BUSY = bytes.fromhex("31c08ec0bb0080 b80102b90100ba8000cd13e464e680 ebef")

# Reads a sector of the first disk four to five times a second, and with every fourth of them eight
# sectors of the second disk: xor ax,ax; mov ds,ax; mov ss,ax; mov sp,7c00h; sti;
# again: mov cx,4; tick: hlt; loop tick;
# mov dl,80h; mov si,one; mov ah,42h; int 13h; inc byte [one + 8]; test byte [one + 8],3; jnz again;
# mov dl,81h; mov si,eight; mov ah,42h; int 13h; inc byte [eight + 8]; jmp again;
# one: one sector to 0:8000h, from sector 0; eight: the same of eight sectors.
_CALM = bytes.fromhex(
    "31c08ed88ed0bc007cfb b90400 f4e2fd b280be367cb442cd13 fe063e7c f6063e7c0375e6"
    "b281be467cb442cd13 fe064e7c ebd7 909090"
    "10000100008000000000000000000000 10000800008000000000000000000000"
)
_SLOW_DISK = ("-drive", "driver=null-co,size=1G,latency-ns=100000000,read-zeroes=on,if=virtio")

_NAME = "qtctl-demo"
_QEMU = "qemu-system-x86_64"
_START_TIMEOUT_S = 20.0
_RAW_S = 10.0
_EVENTS = ["virtio_queue_notify", "virtio_blk_*"]


@command(
    "demo",
    arguments=(
        arg("--auto", action="store_true", help="on a terminal: go on without waiting for Enter"),
        arg(
            "--raw", action="store_true", help="no tour: a busy guest, and the records of its disk"
        ),
        DURATION.but(help="--raw: stop after this long (default: 10s)"),
        MAX_EVENTS.but(help="--raw: stop after N records"),
        NDJSON.but(help="--raw: one JSON object a line, schema qtctl/1"),
    ),
    examples=("qtctl demo", "qtctl demo --auto", "qtctl demo --raw --duration 2s --ndjson"),
    details="""\
Boots a guest of 512 bytes, which reads its disks at a pace that people can follow, and shows in
about a minute what qtctl does, with the command of each step. The guest is gone afterwards; on a
terminal, a prompt or a view of it may be opened before. In a pipe each step is cut to a few
lines. --duration, --max-events and --ndjson mean --raw.""",
)
async def demo(context: Context, options: Options) -> int:
    """Boot, show, clean up."""
    binary = shutil.which(_QEMU)
    if binary is None:
        raise Unsupported(f"the demo needs {_QEMU}", hint="apt install qemu-system-x86")
    is_raw = options.raw or {"duration", "max_events"} & {*options.given} or options.ndjson
    if context.json:
        raise UsageError("the demo prints no one document", hint="qtctl demo --raw --ndjson")
    with tempfile.TemporaryDirectory(prefix="qtctl-demo-") as folder:
        code, more = (_BUSY, ()) if is_raw else (_CALM, _SLOW_DISK)
        async with contextlib.AsyncExitStack() as stack:
            with context.waiting(lambda: f"starting {_QEMU}"):
                guest = _guest(binary, Path(folder), code, more)
                socket_path = await stack.enter_async_context(guest)
            show = _tail if is_raw else _tour
            exit_code = await show(context, options, str(socket_path))
    context.say("the guest is gone; try this on one of yours: qtctl ps")
    return exit_code


async def _tour(context: Context, options: Options, target: str) -> int:
    from qtctl.commands.tour import tour_of

    context.say(f"booted a guest; in another terminal it is: qtctl -t {_NAME}")
    return await tour_of(context, target, color=options.color, auto=options.auto).all()


async def _tail(context: Context, options: Options, target: str) -> int:
    """Print the records of the guest's disk."""
    context.say(f"booted a guest that reads its disk for ever, QMP on {target}")
    context.say(f"$ qtctl -t {target} tail {shlex.join(_EVENTS)}")
    settings = verb_parser(COMMANDS.rows["tail"]).parse_args(_EVENTS, Options())
    for shared in ("max_events", "ndjson"):
        setattr(settings, shared, getattr(options, shared))
    settings.duration = options.duration or _RAW_S
    code = await tail(replace(context, target=target), settings)
    assert isinstance(code, int)
    return code


def listens(path: Path) -> bool:
    """Return whether QEMU listens on its socket: the file is there a moment before."""
    from qtctl.monitor.kernel_sockets import bound_to, unix_sockets

    listening = unix_sockets(listening=True)
    return path.exists() if listening is None else bool(bound_to(listening, str(path)))


@contextlib.asynccontextmanager
async def _guest(
    binary: str, folder: Path, code: bytes, more: Sequence[str]
) -> AsyncIterator[Path]:
    """Yield the QMP socket of a guest that runs ``code``; ``more`` are further options of QEMU."""
    disk, socket_path = folder / "disk.img", folder / "qmp.sock"
    # SeaBIOS finds no geometry on a virtio disk of one sector.
    disk.write_bytes((code.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    process = subprocess.Popen(  # noqa: ASYNC220
        [
            *(binary, "-name", _NAME, "-accel", "tcg", "-msg", "timestamp=on"),
            *("-display", "none", "-serial", "none", "-monitor", "none", "-nic", "none"),
            *("-drive", f"file={disk},format=raw,if=virtio", *more),
            *("-qmp", f"unix:{socket_path},server=on,wait=off"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends the command that is shown, not the guest
    )
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not listens(socket_path):
                if process.poll() is not None:
                    raise Unsupported(f"{binary} ended with code {process.returncode} at once")
                await asyncio.sleep(0.02)
        yield socket_path
    except TimeoutError:
        raise Unsupported(f"{binary} did not start within {_START_TIMEOUT_S:g} s") from None
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 5)
        if process.poll() is None:
            process.kill()
            process.wait()
