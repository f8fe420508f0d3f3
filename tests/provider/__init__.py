"""Small programs that stand in for QEMU where a tracer needs a process to look at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from qtctl.model import Guest
from qtctl.monitor.processes import start_ticks


class Program:
    """One of the programs, running."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    @property
    def guest(self) -> Guest:
        """It, as qtctl would see a guest."""
        pid = self.process.pid
        return Guest(pid, start_ticks(pid) or 0, "provider", (), uid=os.getuid())

    def ask(self, words: str) -> bytes:
        """Have it emit, wait until it has, and return the line that it says then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{words}\n".encode())
        return self.process.stdout.readline()

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
