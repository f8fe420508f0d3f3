"""Runs the fake as a process of its own."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

_TOP = Path(__file__).resolve().parent.parent.parent
_STOP_SECONDS = 5


@functools.cache
def _loader() -> Path:
    """Return the dynamic loader that this Python asks for."""
    from elftools.elf.elffile import ELFFile  # a fake itself needs none of it, and starts sooner
    from elftools.elf.segments import InterpSegment

    with Path(sys.executable).open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_INTERP"):
            assert isinstance(segment, InterpSegment)
            return Path(segment.get_interp_name())
    raise RuntimeError(f"{sys.executable} is linked statically: the fake cannot run it by a loader")


class FakeProcess:
    """``with FakeProcess("--socket", path, "--qemu", "10.0") as fake: fake.address, fake.pid``.

    ``tell`` reaches the fake beside its monitor, which a client under test holds. A ``program``
    with the name of a QEMU is one of the guests that run here.

    Its binary is a file in a temporary folder, so nothing that qtctl reads there (trace backends,
    ``trace-events-all`` beside it) depends on the Python that runs the tests: Debian's imports
    ``openlog``, and ``/usr`` holds the declarations of Debian's QEMU.
    """

    def __init__(
        self,
        *arguments: str,
        stderr: int | IO[bytes] | None = None,
        pass_fds: Sequence[int] = (),
        program: str = "fake-qmp",
    ) -> None:
        self._arguments = arguments
        self._program = program
        self._pass_fds = pass_fds
        self._stderr = stderr
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = contextlib.ExitStack()
        self.address = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process."""
        assert self._process is not None, "the fake is not started"
        return self._process

    @property
    def pid(self) -> int:
        """Its id."""
        return self.process.pid

    def tell(self, **message: Any) -> Any:
        """Send ``emit=[...]``, ``events=N``, ``event="NAME"`` or ``faults=[...]``.

        Returns once it is done: the names of the enabled events and the commands so far.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.stop)
            self._start()
            on_failure.pop_all()
        return self

    def _start(self) -> None:
        folder = self._folder.enter_context(tempfile.TemporaryDirectory(prefix="qtctl-fake-"))
        binary = Path(folder, "bin", self._program)
        binary.parent.mkdir()
        # By another process: what another thread forks while this one has the copy open for
        # writing keeps it open for a moment, and a file that is open for writing does not run.
        subprocess.run(["cp", _loader(), binary], check=True)
        # What the loader runs is Python, but /proc/PID/exe is the loader's copy. It needs nothing
        # of site-packages, and looking for them is a third of its start.
        python = ["--argv0", sys.executable, str(Path(sys.executable).resolve())]
        self._process = subprocess.Popen(
            [binary, *python, "-S", "-m", "tests.fake_qmp", "--control", *self._arguments],
            cwd=_TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=self._pass_fds,
        )
        assert self._process.stdout is not None
        ready = self._process.stdout.readline().decode().split(maxsplit=1)
        if len(ready) != 2 or ready[0] != "ready":
            raise RuntimeError("the fake did not start")
        self.address = ready[1].rstrip("\n")

    def stop(self) -> None:
        """End it, if it was started."""
        self._folder.close()
        if (process := self._process) is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
