"""One face for the fake and the real QEMUs, to put the same behaviour to both."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import qemus
from tests.fake_qmp import SERIES, FakeProcess
from tests.qemus import RealGuest

from .asking import Asker
from .calls import call, hmp

_SECONDS = 60.0
#: An event that the guest, or the fake in its place, fires all the time.
EVENT = "virtio_blk_handle_read"

FAKES = tuple(f"fake-{series}" for series in SERIES)
BACKENDS = {"7.2": "log,simple,ust", "10.2": "simple,log"}


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition until it holds or a deadline passes."""
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that fires ``EVENT`` at least twenty times in every ``progress``."""

    address: str
    series: str
    directory: Path
    #: The same directory as QEMU spells it.
    folder: str
    progress: Callable[[Asker], None]
    askers: list[Asker] = field(default_factory=list)

    def ask(self) -> Asker:
        """Connect and negotiate; hangs up with the guest at the latest."""
        asker = Asker(self.address)
        self.askers.append(asker)
        asker.ask(call("qmp_capabilities"))
        return asker


def say(asker: Asker, line: str) -> str:
    """Run a human-monitor line and return its text."""
    text: str = asker.ask(hmp(line))[-1]["return"]
    return text


def switch(asker: Asker, *, enable: bool) -> None:
    """Switch the event."""
    assert asker.ask(call("trace-event-set-state", name=EVENT, enable=enable)) == [{"return": {}}]


def _reads(asker: Asker) -> int:
    answer: list[dict[str, Any]] = asker.ask(call("query-blockstats"))[-1]["return"]
    return sum(int(row["stats"]["rd_operations"]) for row in answer)


def _run_on(asker: Asker) -> None:
    goal = _reads(asker) + 20
    eventually(lambda: _reads(asker) >= goal, "the guest reads its disk")


@contextlib.contextmanager
def boot(which: str, directory: Path, *extra: str) -> Iterator[Guest]:
    """Start the guest called ``fake-SERIES``, or the real one of that label."""
    with contextlib.ExitStack() as stack:
        if which in FAKES:
            guest = _boot_fake(which.removeprefix("fake-"), directory, extra, stack)
        else:
            real = RealGuest(qemus.require(which), image="virtio-blk", extra=extra)
            stack.enter_context(real)
            folder = real.qemu.inside(real.directory)
            guest = Guest(real.address, real.qemu.series, real.directory, folder, _run_on)
        try:
            yield guest
        finally:
            for asker in guest.askers:
                asker.close()


def _boot_fake(
    series: str, directory: Path, extra: tuple[str, ...], stack: contextlib.ExitStack
) -> Guest:
    options = [part.replace("{dir}", str(directory)) for part in extra]
    options += ["--socket", str(directory / "qmp.sock"), "--qemu", series]
    options += ["--backends", BACKENDS.get(series, "log")]
    stderr = stack.enter_context((directory / "stderr").open("wb"))
    fake = stack.enter_context(FakeProcess(*options, stderr=stderr))
    return Guest(fake.address, series, directory, str(directory), lambda _: fake.tell(events=20))
