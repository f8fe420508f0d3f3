"""A lent monitor against the monitor itself: the same calls, the same answers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import qemus
from tests.fake_qmp import SERIES, FakeProcess
from tests.qemus import RealGuest
from tests.running import Qtctl, eventually

from .asking import Asker, ask_all, normal
from .calls import MORE, Call, call
from .test_conformance import CAPTURES, captured, compare, loosen_the_end

#: What a lender does not offer, so that asking for it is answered otherwise than by QEMU.
_OOB = re.compile(r"oob|exec-oob")


def calls(series: str) -> tuple[Call, ...]:
    """Return the calls for a series, those about out-of-band execution left out."""
    nearest = next(name for name, form in CAPTURES.items() if form[0] == series)
    return tuple(one for one in (*captured(nearest), *MORE) if not _OOB.search(one))


@contextlib.contextmanager
def lent(qtctl: Qtctl, address: str) -> Iterator[str]:
    """Lend a monitor for the length of the block and give the socket."""
    sharing = qtctl.start("-t", address, "share")
    eventually(lambda: sharing.out.endswith(b"\n") or sharing.ended, "share prints its socket")
    yield bytes(sharing.out).decode().strip()
    sharing.finish(None).said(0, "the guest has ended")


def loosened(answers: list[Any]) -> list[Any]:
    """Forget the words for what is no JSON, which a lender finds itself, and the greeting's."""
    (greeting,), *rest = answers
    greeting["QMP"]["capabilities"] = []
    return [[greeting], *map(_loosened, rest)]


def _loosened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _loosened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_loosened(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"^(L:C: )?JSON parse error, .*", "JSON parse error", value)
    return value


@pytest.mark.parametrize("series", SERIES)
def test_a_lender_answers_as_the_fake_itself(series: str, tmp_path: Path, qtctl: Qtctl) -> None:
    answers, asked = [], calls(series)
    for way in ("straight", "lent"):
        folder = tmp_path / way
        folder.mkdir()
        backends = next(form[1] for form in CAPTURES.values() if form[0] == series)
        log = ("-D", str(folder / "start.log"), "--backends", backends)
        with FakeProcess("--socket", str(folder / "q"), "--qemu", series, *log) as guest:
            if way == "straight":
                got = ask_all(guest.address, asked, str(folder))
            else:
                with lent(qtctl, guest.address) as path:
                    got = ask_all(path, asked, str(folder))
        answers.append(loosened(normal(got, str(folder))))
    compare(asked, *answers)


@pytest.mark.qemu
@pytest.mark.parametrize("label", qemus.LABELS)
def test_a_lender_answers_as_the_real_qemu_itself(label: str, qtctl: Qtctl) -> None:
    qemu, answers = qemus.require(label), []
    asked = calls(qemu.series)
    for way in ("straight", "lent"):
        extra = ("-name", "demo", "-D", "{dir}/start.log")
        with RealGuest(qemu, extra=extra, defaults=True) as real:
            folder = real.qemu.inside(real.directory)
            if way == "straight":
                got = ask_all(real.address, asked, folder)
            else:
                with lent(qtctl, real.address) as path:
                    got = ask_all(path, asked, folder)
            answers.append(loosened(normal(got, folder)))
    wanted, got = answers
    compare(asked[:-1], loosen_the_end(wanted), loosen_the_end(got))


def test_a_lender_demands_negotiation_as_qemu_does(tmp_path: Path, qtctl: Qtctl) -> None:
    asked = (
        call("query-status"),
        '{"id": 7}',
        '{"execute": "query-name", "bogus": 1, "id": {"a": null}}',
        call("qmp_capabilities", x=1),
        call("qmp_capabilities", enable=3),
        call("qmp_capabilities", enable=[]),
        call("query-status"),
    )
    with FakeProcess("--socket", str(tmp_path / "q")) as guest:
        straight = ask_all(guest.address, asked, "")
    with FakeProcess("--socket", str(tmp_path / "q")) as guest, lent(qtctl, guest.address) as path:
        compare(asked, loosened(straight), loosened(ask_all(path, asked, "")))
        asker = Asker(path)
        asker.ask(call("qmp_capabilities"))
        asker.ask(call("quit"))
        asker.close()
