"""What tests of the kernel's trace share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtctl.backends.ring import tracefs
from tests import needs


def need() -> None:
    """Skip where this user may not read the kernel's trace."""
    needs.tracefs()
    if os.geteuid():
        pytest.skip("only root may read the kernel's trace")


def instances(pid: int) -> list[str]:
    """Return the names of the instances of tracefs that a qtctl made."""
    return [path.name for path in (needs.TRACEFS / "instances").glob(f"qtctl-{pid}-*")]


@contextlib.contextmanager
def refused(patch: pytest.MonkeyPatch, part: str, number: int) -> Iterator[None]:
    """Have writes to files of tracefs whose path ends so fail with an error number."""
    write = tracefs.write

    def refusing(path: Path, text: str, *, append: bool = False) -> None:
        if str(path).endswith(f"/{part}"):
            raise OSError(number, os.strerror(number), str(path))
        write(path, text, append=append)

    with patch.context() as context:
        context.setattr(tracefs, "write", refusing)
        yield
