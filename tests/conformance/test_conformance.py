"""The fake against captured and real QEMUs: the same calls, the same answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests import qemus
from tests.fake_qmp import FakeProcess, transcripts
from tests.qemus import RealGuest

from .asking import Asker, ask_all, normal, unordered
from .calls import MORE, Call, call, hmp

#: capture -> (series, backends) of the fake that must answer the same
CAPTURES = {
    "7.2-log": ("7.2", "log"),
    "7.2-multi": ("7.2", "log,simple,ftrace,syslog,ust,dtrace"),
    "7.2-nop": ("7.2", "nop"),
    "10.0-log": ("10.0", "log"),
    "10.2-simple-log": ("10.2", "simple,log"),
    "11.1-log": ("11.1", "log"),
}


def fake(folder: Path, series: str, backends: str) -> FakeProcess:
    log = ("-D", str(folder / "start.log"))
    return FakeProcess(
        *("--socket", str(folder / "qmp.sock"), "--qemu", series, "--backends", backends), *log
    )


def compare(asked: tuple[str, ...], wanted: list[Any], got: list[Any]) -> None:
    """Report every call whose answers differ, not just the first."""
    differing = []
    for question, want, have in zip(("greeting", *asked), wanted, got, strict=True):
        if unordered(want) != unordered(have):
            shown = [json.dumps(side)[:600] for side in (want, have)]
            differing.append(f"{question}\n   QEMU: {shown[0]}\n   fake: {shown[1]}")
    assert not differing, f"{len(differing)} answers differ:\n" + "\n".join(differing)


@functools.cache
def captured(name: str) -> tuple[Call, ...]:
    """Return what was asked in a captured conversation, with a folder that exists here."""
    return tuple(row.sent.replace("/run/demo", "{dir}") for row in transcripts.load(name).exchanges)


@pytest.mark.parametrize("name", CAPTURES)
def test_the_fake_answers_as_the_captured_qemu(name: str, tmp_path: Path) -> None:
    transcript = transcripts.load(name)
    wanted: list[Any] = [[transcript.greeting]]
    wanted += [[json.loads(line) for line in row.heard] for row in transcript.exchanges]
    with fake(tmp_path, *CAPTURES[name]) as guest:
        got = ask_all(guest.address, captured(name), str(tmp_path))
    compare(captured(name), normal(wanted), normal(got))


def backends_of(address: str) -> str:
    """Tell the fake's choice from what the human monitor knows."""
    asker = Asker(address)
    try:
        asker.ask(call("qmp_capabilities"))
        knows = asker.ask(hmp("trace-file"))[0]["return"]
        logs = "trace:PATTERN" in asker.ask(hmp("help log"))[0]["return"]
    finally:
        asker.close()
    found = ["log"] * logs + ["simple"] * ("unknown command" not in knows)
    return ",".join(found or ["nop"])


def loosen_the_end(answers: list[Any]) -> list[Any]:
    """Forget the order within the answers to ``system_reset`` and ``quit``.

    QEMU's main loop acts on both some time after the command, so their events may come later.
    """
    return [*answers[:-2], sorted(answers[-2] + answers[-1], key=unordered)]


@pytest.mark.qemu
@pytest.mark.parametrize("label", qemus.LABELS)
def test_the_fake_answers_as_the_real_qemu(label: str, tmp_path: Path) -> None:
    extra = ("-name", "demo", "-D", "{dir}/start.log")
    with RealGuest(qemus.require(label), extra=extra, defaults=True) as real:
        series, backends = real.qemu.series, backends_of(real.address)
        nearest = next(name for name, form in CAPTURES.items() if form[0] == series)
        asked = captured(nearest) + MORE
        folder = real.qemu.inside(real.directory)
        wanted = normal(ask_all(real.address, asked, folder), folder)
    with fake(tmp_path, series, backends) as guest:
        got = normal(ask_all(guest.address, asked, str(tmp_path)), str(tmp_path))
    compare(asked[:-1], loosen_the_end(wanted), loosen_the_end(got))
