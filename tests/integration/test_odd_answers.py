"""A monitor that answers with JSON of any shape: an error with its cause, never a bug of qtctl."""

from __future__ import annotations

import pytest

from tests.fake_qmp.faults import ODD
from tests.running import Qtctl

from .conftest import MakeFake

EVENT = "virtio_blk_handle_read"
VERBS = (("list", EVENT), ("status",), ("doctor",), ("tail", EVENT, "--duration", "50ms"))


@pytest.mark.parametrize("shape", ODD)
def test_an_answer_of_another_shape_is_an_error(
    qtctl: Qtctl, make_fake: MakeFake, shape: str
) -> None:
    fake = make_fake()
    for verb in VERBS:
        fake.tell(faults=[f"odd:{shape}"])
        ran = qtctl("-t", fake.address, *verb, limit=None)  # which notices a bug by itself
        assert ran.code in (0, 1, 3), ran
        said = ran.err + ran.out
        assert ran.code == 3 or f"{fake.address} answered " in said, ran


@pytest.mark.parametrize("optimize", ["", "1"])
@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        ("greeting-without:version", 4, "it greeted with JSON that is not QMP's"),
        ("greeting-without:qemu", 4, "in its greeting 'qemu' is missing"),
        ("greeting-without:major", 4, "in its greeting 'major' is missing"),
        ("greeting-without:capabilities", 4, "it greeted with JSON that is not QMP's"),
        ("refuse-negotiation", 4, "it refused to negotiate"),
        ("id-list", 5, "but a reply with the id [1], which belongs to no command"),
        ("huge-number", 5, "it sent JSON with a number of thousands of digits"),
        ("reply-not-object", 5, "it sent JSON that is [1, 2], not an object"),
    ],
)
def test_what_breaks_the_protocol_is_named_also_by_python_without_assertions(
    qtctl: Qtctl, make_fake: MakeFake, fault: str, code: int, says: str, optimize: str
) -> None:
    fake = make_fake()
    fake.tell(faults=[fault])
    env = {"PYTHONOPTIMIZE": optimize}
    qtctl("-t", fake.address, "list", EVENT, env=env, limit=None).said(code, says)


def test_a_greeting_is_checked_by_a_lender_too(qtctl: Qtctl, make_fake: MakeFake) -> None:
    fake = make_fake()
    fake.tell(faults=["greeting-without:major"])
    verb = ("tail", EVENT, "--duration", "50ms")
    qtctl("-t", fake.address, *verb).said(4, "in its greeting 'major' is missing")
