"""The guests of the pages: those of the cookbook show the symptom of their page.

    python -m tests.cookbook docs/cookbook/slow-guest.md

prints the page's examples with what they print on its guest now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import needs, pages
from tests.qemus import Image, RealGuest, require
from tests.running import PATIENCE_SECONDS, Qtctl
from tests.samples import capture
from tests.sshd import Sshd


@dataclass(frozen=True, slots=True)
class Case:
    """A guest that the examples of a page run on.

    ``before`` are shell lines that make the symptom, run in the examples' folder once the guest
    has booted; ``beside`` runs beside the examples: what the page does in another terminal.
    """

    image: Image = "virtio-blk"
    busy: bool = False
    extra: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    beside: str = ""
    in_container: bool = False
    over_ssh: bool = False
    """Whether this machine is also reached by ssh, as node7."""

    def check(self) -> None:
        """Skip the test if the examples cannot run here."""
        if self.in_container:
            if os.geteuid() != 0:
                pytest.skip("the examples need root")
            needs.containers()
        if self.over_ssh:
            needs.program("sshd", "openssh-server")


_NAMED = ("-msg", "timestamp=on", "-name", "vm1")
_BOOTED = "sleep 1"
"""SeaBIOS takes a quarter second."""
_ASKS = "qtctl -q qmp '{}' >/dev/null"
_ONCE_ON = "until qtctl list {} | grep -q enabled; do sleep 0.2; done; "
"""Waits until the example that follows an event has switched it on."""
_HANG = """qtctl -q hmp 'qemu-io virtio1 "break read_aio hang"'"""

_CONFIG = "$HOME/.config/qtctl/config.toml"

GUESTS = {
    "docs/configuration.md": Case(
        image="idle",
        before=(
            f"mkdir -p $HOME/.config/qtctl && cat >{_CONFIG} <<'END'\n"
            f"{pages.blocks('docs/configuration.md', 'toml')[0]}\nEND",
        ),
    ),
    "docs/cookbook/hanging-request.md": Case(
        image="second-disk",
        extra=(*_NAMED, "-drive", "if=virtio,format=raw,readonly=on,file=blkdebug::{dir}/boot.img"),
        before=(_BOOTED, _HANG),
        beside=_ONCE_ON.format("thread_pool_submit") + _HANG,
    ),
    "docs/cookbook/slow-guest.md": Case(
        extra=_NAMED,
        before=(
            _ASKS.format(
                '{"execute": "block_set_io_throttle", "arguments": {"device": "virtio0", '
                '"iops": 20, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0, "bps_wr": 0}}'
            ),
        ),
    ),
    "docs/cookbook/flooded-log.md": Case(
        image="ports",
        busy=True,
        extra=_NAMED,
        before=("qtctl -q enable 'memory_region_ops_*' 'pic_*'",),
    ),
    "docs/cookbook/migration.md": Case(
        image="dirtying",
        # One that rests may write nothing between two turns of the migration, which ends it.
        busy=True,
        extra=_NAMED,
        before=(
            _BOOTED,
            _ASKS.format(
                '{"execute": "migrate-set-parameters", '
                '"arguments": {"max-bandwidth": 500000, "downtime-limit": 1}}'
            ),
            _ASKS.format('{"execute": "migrate", "arguments": {"uri": "exec:cat > /dev/null"}}'),
        ),
    ),
    "docs/cookbook/vanished-device.md": Case(
        image="ejecting",
        extra=_NAMED,
        before=(_BOOTED,),
        beside="while sleep 1; do "
        + _ASKS.format(
            '{"execute": "device_add", '
            '"arguments": {"driver": "virtio-rng-pci", "id": "rng0", "addr": "4"}}'
        )
        + "; done",
    ),
    "docs/cookbook/interrupts.md": Case(
        image="masked",
        extra=_NAMED,
        before=(_BOOTED,),
        beside=_ONCE_ON.format("pic_ioport_write") + _ASKS.format("system_reset"),
    ),
    "docs/cookbook/container.md": Case(
        before=("until qtctl -t inside qmp query-status >/dev/null 2>&1; do sleep 0.2; done",),
        beside="""unshare -mn sh -c 'ip link set lo up; mount -t tmpfs none /mnt
            cp $GUEST/boot.img /mnt
            exec qemu-system-x86_64 -name inside -accel tcg -m 32 -display none -nodefaults \\
            -qmp tcp:127.0.0.1:4444,server=on,wait=off \\
            -drive if=virtio,format=raw,readonly=on,file=/mnt/boot.img' 2>/dev/null""",
        in_container=True,
    ),
    "docs/cookbook/two-builds.md": Case(
        extra=_NAMED,
        before=(
            'mkdir -p $HOME/.config/qtctl && printf \'[targets]\\nold = "%s"\\nnew = "%s"\\n\' '
            f"$QTCTL_TARGET $GUEST/new.sock >{_CONFIG}",
            "until qtctl -t new qmp query-status >/dev/null 2>&1; do sleep 0.2; done",
            _BOOTED,
        ),
        beside="""exec qemu-system-x86_64 -accel tcg -m 32 -display none -nodefaults \\
            -msg timestamp=on -qmp unix:$GUEST/new.sock,server=on,wait=off -drive \\
            if=virtio,format=raw,readonly=on,throttling.iops-total=10,file=$GUEST/boot.img""",
    ),
    "docs/fleet.md": Case(
        extra=_NAMED,
        before=(
            'mkdir -p $HOME/.config/qtctl && printf \'[targets]\\nvm1 = "%s"\\nvm2 = "%s"\\n\' '
            f"$QTCTL_TARGET $GUEST/vm2.sock >{_CONFIG}",
            "until qtctl -t vm2 qmp query-status >/dev/null 2>&1; do sleep 0.2; done",
            _BOOTED,
        ),
        beside="""exec qemu-system-x86_64 -accel tcg -m 32 -display none -nodefaults -name vm2 \\
            -msg timestamp=on -qmp unix:$GUEST/vm2.sock,server=on,wait=off -drive \\
            if=virtio,format=raw,readonly=on,file=$GUEST/boot.img""",
    ),
    "docs/hosts.md": Case(
        extra=_NAMED,
        over_ssh=True,
        before=(
            "mkdir $FAR/CONFIG_HOME/qtctl && printf '[targets]\\nvm1 = \"%s\"\\n' $QTCTL_TARGET "
            ">$FAR/CONFIG_HOME/qtctl/config.toml",
        ),
    ),
    "docs/cookbook/own-events.md": Case(
        image="idle",
        before=(
            "mkdir -p hw/block && cat >hw/block/trace-events <<'END'\n"
            f"{pages.blocks('docs/cookbook/own-events.md', 'text')[0]}\nEND",
            f"cat >vm1.log <<'END'\n{pages.blocks('docs/cookbook/own-events.md', 'text')[-1]}\nEND",
        ),
    ),
    "docs/forward.md": Case(
        extra=_NAMED,
        beside="exec qtctl -q metrics virtio_blk_handle_read "
        "--pair virtio_blk_handle_read,virtio_blk_req_complete",
        before=("until curl -s localhost:9464/metrics | grep -q req_complete; do sleep 0.2; done",),
    ),
    "docs/cookbook/from-boot.md": Case(
        extra=(*_NAMED, "-S"),
        beside=_ONCE_ON.format("virtio_set_status")
        + _ASKS.format("cont")
        + "; sleep 2; "
        + _ONCE_ON.format("virtio_set_status")
        + _ASKS.format("system_reset"),
    ),
    "docs/cookbook/rare-crash.md": Case(
        image="panicking", extra=(*_NAMED, "-device", "pvpanic", "-action", "panic=none")
    ),
}
"""By the page. The other pages have a guest that reads its disk for ever."""
_USUAL = Case(extra=_NAMED)


EXAMPLE_SECONDS = 4 * PATIENCE_SECONDS


@contextlib.contextmanager
def shell(page: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run the guest of a page; give the environment of its examples, whose folder is ``folder``."""
    case = GUESTS.get(page, _USUAL)
    case.check()
    (folder / "trace-4711").write_bytes(capture("qemu-7.2-simple-v4.bin"))
    real = RealGuest(
        require("path"),
        image=case.image,
        busy=case.busy,
        extra=case.extra,
        stderr=subprocess.DEVNULL,
    )
    with contextlib.ExitStack() as stack:
        qtctl, guest = stack.enter_context(Qtctl(folder / "home")), stack.enter_context(real)
        told = {"QTCTL_TARGET": guest.address, "GUEST": str(guest.directory)}
        if case.over_ssh:
            (folder / "ssh").mkdir()
            far = stack.enter_context(Sshd(folder / "ssh"))
            told |= {**far.env, "FAR": str(far.home)}
        environment = pages.shell(folder, qtctl.environment(told))
        beside = subprocess.Popen(
            ["bash", "-c", case.beside],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            for line in case.before:
                subprocess.run(["bash", "-c", line], cwd=folder, env=environment, check=True)
            yield environment
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(beside.pid, signal.SIGKILL)
            beside.wait()


def main() -> None:
    """Print the examples of a page anew."""
    [page] = sys.argv[1:]
    with tempfile.TemporaryDirectory() as made, shell(page, Path(made)) as environment:
        for example in pages.examples(page):
            print(f"$ {example.command}", flush=True)
            subprocess.run(["bash", "-c", example.command], cwd=made, env=environment, check=False)


if __name__ == "__main__":
    main()


def run_examples(page: str, folder: Path) -> None:
    """Run all examples of a page on its guest, in ``folder``; they must answer as is shown."""
    with shell(page, folder) as environment:
        for example in pages.examples(page):
            pages.run(example, folder, environment, EXAMPLE_SECONDS)
