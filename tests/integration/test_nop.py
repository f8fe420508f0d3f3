"""A QEMU that was built without tracing: what follows it says so, and how to get one with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import MakeFake
from tests.running import Qtctl


@pytest.mark.parametrize("words", [("tail", "qmp_*"), ("tail",), ("wait", "qmp_*")])
@pytest.mark.parametrize("series", ["7.2", "10.2"])
def test_following_says_that_qemu_has_no_tracing(
    qtctl: Qtctl, make_fake: MakeFake, folder: Path, words: tuple[str, ...], series: str
) -> None:
    make_fake("--backends", "nop", "--qemu", series)
    listed = qtctl("-t", str(folder / "qmp"), "list").said(0)
    pattern = f"{listed.out.split()[0]}"
    chosen = [pattern if word == "qmp_*" else word for word in words]
    ran = qtctl("-t", str(folder / "qmp"), *chosen)
    ran.said(1, "was built without tracing", "--enable-trace-backends=log")
    assert ran.out == ""
    assert qtctl.leases() == []
