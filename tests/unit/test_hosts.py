"""TARGETs on other hosts, and the offset of their clocks."""

from __future__ import annotations

import pytest

from qtctl.errors import UsageError
from qtctl.monitor.hosts import OtherHost, parse_host
from qtctl.session.clocks import offset_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ssh://h/vm1", OtherHost(None, "h", None, "vm1")),
        (
            "ssh://root@h.example:2222//run/vm.sock",
            OtherHost("root", "h.example", 2222, "/run/vm.sock"),
        ),
        ("ssh://me@[fe80::1%eth0]:22/4711", OtherHost("me", "fe80::1%eth0", 22, "4711")),
        ("ssh://a/ssh://b/vm1", OtherHost(None, "a", None, "ssh://b/vm1")),
        ("ssh:/h/vm1", None),
        ("vm1", None),
    ],
)
def test_a_target_is_parsed(text: str, found: OtherHost | None) -> None:
    assert parse_host(text) == found


@pytest.mark.parametrize(
    "text", ["ssh://", "ssh://h", "ssh://h/ ", "ssh://@h/x", "ssh://h:99999/x", "ssh://-x/y"]
)
def test_a_wrong_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host(text)


def test_the_command_by_hand_names_the_port() -> None:
    host = parse_host("ssh://me@h:22/x")
    assert host is not None
    assert host.by_hand == "ssh -p 22 me@h"
    assert host.ssh_words == ["-p", "22", "--", "me@h"]


@pytest.mark.parametrize("ahead", [0, 3_600_000_000_000, -5_000_000])
@pytest.mark.parametrize(("there", "back"), [(0, 0), (1_000_000, 0), (7, 40_000_000)])
def test_the_true_offset_is_within_the_bound(ahead: int, there: int, back: int) -> None:
    sent, worked = 10**18, 2_000_000
    received = sent + there + ahead
    offset = offset_of(sent, received, received + worked, sent + there + worked + back)
    assert abs(offset.ahead_ns - ahead) <= offset.bound_ns <= (there + back) // 2 + 1


def test_an_offset_is_told_with_its_bound() -> None:
    assert offset_of(0, 1_501_000_000, 1_501_000_000, 2_000_000).words == (
        "its clock is 1.5 s ahead of this one's (within 1 ms)"
    )
    assert "0.000 ms behind" in offset_of(10, 8, 8, 10).words
