"""The C provider for LTTng, and recording sessions of LTTng's as people make them."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from qtctl.backends.ust.daemons import (
    MARK,
    NoDaemon,
    lttng,
    one_at_a_time,
    sessions,
    start_session_daemon,
)
from qtctl.backends.ust.lttng import end_session
from qtctl.errors import QtctlError
from tests import needs
from tests.provider import Program
from tests.running import eventually

SOURCES = Path(__file__).parent
DECLARED = """
own_count(uint64_t n) "%"PRIu64
own_clock(uint64_t ns) "%"PRIu64
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_nothing(void) ""
own_submit(void *req, int number) "%p %d"
own_complete(void *req) "%p"
"""


def build(folder: Path) -> Path:
    """Compile the provider into a folder; skip where it cannot be, or LTTng is missing."""
    needs.program("gcc", "gcc")
    needs.lttng()
    out = folder / "provider"
    words = ["gcc", "-O1", f"-I{SOURCES}", "-o", str(out), str(SOURCES / "ust.c"), "-llttng-ust"]
    built = subprocess.run(
        [*words, "-ldl"], capture_output=True, text=True, timeout=60, check=False
    )
    if "lttng/tracepoint.h: No such file" in built.stderr:
        needs.packaged("lttng/tracepoint.h", "liblttng-ust-dev")
    assert built.returncode == 0, built.stderr
    return out


class Provider(Program):
    """Program with LTTng tracepoints."""

    def tell(self, words: str) -> None:
        """Have it emit, and wait until it has."""
        assert self.ask(words) == b"done\n"


@contextlib.contextmanager
def recording(
    folder: Path,
    pid: int,
    *events: str,
    contexts: Sequence[str] = ("vpid", "vtid"),
    channel: Sequence[str] = (),
) -> Iterator[str]:
    """Have LTTng write events of a process to ``folder`` for the length of the block.

    Yields the session's name. ``channel`` are options of ``lttng enable-channel``.
    """
    serial = secrets.token_hex(4)
    name, own = f"qtctl-test-{serial}", folder.parent / f"{MARK}test-{serial}"
    own.mkdir()
    try:
        with one_at_a_time():
            try:
                sessions()
            except NoDaemon:
                start_session_daemon(own)
            lttng("create", name, f"--output={folder}")
        eventually(lambda: f"PID: {pid} " in _registered(), "the process has registered")
        in_it = ("--userspace", f"--session={name}")
        lttng("enable-channel", *in_it, *channel, "one")
        for context in contexts:
            lttng("add-context", *in_it, "--channel=one", f"--type={context}")
        lttng("track", *in_it, f"--vpid={pid}")
        lttng("enable-event", *in_it, "--channel=one", ",".join(f"qemu:{one}" for one in events))
        lttng("start", name)
        yield name
        lttng("stop", name)
    finally:
        end_session({"session": name, "folder": str(own)})


def _registered() -> str:
    with contextlib.suppress(QtctlError):  # as when some process ends while it is asked
        return lttng("list", "--userspace")
    return ""
