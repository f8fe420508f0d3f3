"""Run a command that dies with its parent: ``child.py PARENT_PID COMMAND ...``.

Imports nothing of qtctl, so that it starts fast. The kernel takes a dead bpftrace's probes away and
counts their semaphores down, so a killed qtctl leaves nothing behind (prctl(2), PR_SET_PDEATHSIG).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Ctrl-C on the terminal is for qtctl, which then reads what bpftrace still holds.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.getppid() == int(sys.argv[1]):
        os.execvp(sys.argv[2], sys.argv[2:])
