"""Every fuzz target for a bounded time; run a target longer by hand (see ``tests/fuzz``)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
TARGETS = sorted(path.stem for path in (TOP / "tests" / "fuzz").glob("fuzz_*.py"))
SECONDS = float(os.environ.get("QTCTL_FUZZ_SECONDS", "20"))


def test_there_are_targets() -> None:
    assert len(TARGETS) >= 5


@pytest.mark.timeout(SECONDS * 4 + 120)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found_in_a_while(target: str) -> None:
    words = [sys.executable, "-m", f"tests.fuzz.{target}", "--minutes", str(SECONDS / 60)]
    ran = subprocess.run(words, cwd=TOP, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-8000:]
    # What it did, with its seed, for the log of a run that succeeded.
    print(ran.stdout.strip())
