"""The verb demo: a 512-byte guest in a real QEMU, traced."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from qtctl.commands.context import Context
from qtctl.commands.options import DURATION, MAX_EVENTS, NDJSON
from qtctl.commands.parsing import verb_parser
from qtctl.commands.registry import COMMANDS, Options, command
from qtctl.commands.tail import tail
from qtctl.errors import Unsupported

# Reads one sector through the BIOS for ever: xor ax,ax; mov es,ax; mov bx,8000h; mov ax,0201h;
# mov cx,1; mov dx,80h; int 13h; in al,64h; out 80h,al; jmp to the mov ax.
_BOOT_CODE = bytes.fromhex("31c08ec0bb0080 b80102b90100ba8000cd13e464e680 ebef")
_QEMU = "qemu-system-x86_64"
_START_TIMEOUT_S = 20.0
_EVENTS = ["virtio_queue_notify", "virtio_blk_*"]


@command(
    "demo",
    arguments=(
        DURATION.but(default=10.0, help="stop after this long (default: 10s)"),
        MAX_EVENTS,
        NDJSON,
    ),
    examples=("qtctl demo", "qtctl demo --duration 2s --ndjson"),
)
async def demo(context: Context, options: Options) -> int:
    """Boot, trace, clean up."""
    binary = shutil.which(_QEMU)
    if binary is None:
        raise Unsupported(f"the demo needs {_QEMU}", hint="apt install qemu-system-x86")
    with tempfile.TemporaryDirectory(prefix="qtctl-demo-") as folder:
        async with _guest(binary, Path(folder)) as socket_path:
            context.say(f"booted a guest that reads its disk for ever, QMP on {socket_path}")
            context.say(f"$ qtctl -t {socket_path} tail {' '.join(map(repr, _EVENTS))}")
            settings = verb_parser(COMMANDS.rows["tail"]).parse_args(_EVENTS, Options())
            for shared in ("duration", "max_events", "ndjson"):
                setattr(settings, shared, getattr(options, shared))
            code = await tail(replace(context, target=str(socket_path)), settings)
    context.say("the guest is gone; try this on one of yours: qtctl ps")
    assert isinstance(code, int)
    return code


def listens(path: Path) -> bool:
    """Return whether QEMU listens on its socket: the file is there a moment before."""
    from qtctl.monitor.kernel_sockets import bound_to, unix_sockets

    listening = unix_sockets(listening=True)
    return path.exists() if listening is None else bool(bound_to(listening, str(path)))


@contextlib.asynccontextmanager
async def _guest(binary: str, folder: Path) -> AsyncIterator[Path]:
    disk, socket_path = folder / "disk.img", folder / "qmp.sock"
    # SeaBIOS finds no geometry on a virtio disk of one sector.
    disk.write_bytes((_BOOT_CODE.ljust(510, b"\0") + b"\x55\xaa").ljust(1 << 20, b"\0"))
    process = subprocess.Popen(  # noqa: ASYNC220
        [
            *(binary, "-name", "qtctl-demo", "-accel", "tcg", "-msg", "timestamp=on"),
            *("-display", "none", "-serial", "none", "-monitor", "none", "-nic", "none"),
            *("-drive", f"file={disk},format=raw,if=virtio"),
            *("-qmp", f"unix:{socket_path},server=on,wait=off"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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
