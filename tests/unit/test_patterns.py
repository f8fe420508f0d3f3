"""Patterns match as QEMU's do, selections decide in order, covers hit nothing they must not."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.errors import UsageError
from qtctl.events.files import parse_events
from qtctl.events.patterns import cover, is_pattern, matcher, near
from qtctl.events.selection import Selection

NAMES = st.lists(st.text("ab_", min_size=1, max_size=6), max_size=30, unique=True)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("virtio_blk_handle_read", "virtio_blk_handle_read", True),
        ("virtio_blk_handle_rea?", "virtio_blk_handle_read", False),  # no star: a plain name
        ("*blk_handle_rea?", "virtio_blk_handle_read", True),
        ("virtio_*", "VIRTIO_x", False),
        ("*[ab]*", "xay", False),  # brackets are literal
        ("*[ab]*", "x[ab]y", True),
        ("*", "", True),
        ("a**b", "ab", True),
        ("?*", "", False),
        ("*.x", "axx", False),
    ],
)
def test_matching_is_glib_s(pattern: str, name: str, matches: bool) -> None:
    assert matcher(pattern)(name) is matches


@given(st.text("ab*?_", max_size=8), st.text("ab_", max_size=8))
def test_patterns_agree_with_a_plain_matcher(pattern: str, name: str) -> None:
    # Without brackets fnmatch knows the same rules, where QEMU takes the text for a pattern at all.
    expected = fnmatchcase(name, pattern) if is_pattern(pattern) else name == pattern
    assert matcher(pattern)(name) is expected


@given(st.integers(1, 25))
def test_many_stars_are_no_trap(stars: int) -> None:
    assert not matcher("a" + "*" * stars + "b" + "*a" * 8 + "c")("a" * 60)


def test_the_last_match_decides() -> None:
    names = ["virtio_blk_a", "virtio_gpu_a", "virtio_gpu_b"]
    rules = ((True, "virtio_*"), (False, "virtio_gpu*"), (True, "virtio_gpu_b"))
    chosen = Selection(rules)
    assert chosen.pick(names) == ["virtio_blk_a", "virtio_gpu_b"]
    assert chosen.words() == ["virtio_*", "-virtio_gpu*", "virtio_gpu_b"]
    assert Selection(rules[::-1]).pick(names) == names
    assert Selection.of("virtio_*", "usb_*", "x").unmatched(names) == ["usb_*", "x"]
    assert not Selection()


@given(NAMES, st.data())
def test_a_cover_hits_all_targets_and_nothing_it_must_not(
    names: list[str], data: st.DataObject
) -> None:
    targets = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    rest = [name for name in names if name not in targets]
    harmless = data.draw(st.lists(st.sampled_from(rest), unique=True)) if rest else []
    patterns = cover(targets, harmless, names)
    hit = {name for pattern in patterns for name in names if matcher(pattern)(name)}
    assert set(targets) <= hit <= set(targets) | set(harmless)
    assert len(patterns) <= len(targets)


def test_a_cover_is_short() -> None:
    names = [f"virtio_{kind}_{i}" for kind in ("blk", "net") for i in range(50)] + ["usb_a"]
    assert cover(names, [], names) == ["*"]
    assert cover(names[:100], [], names) == ["virtio_*"]
    assert cover(names[:50], [], names) == ["virtio_blk_*"]
    assert cover([], names, names) == []


def test_near_names_contain_or_resemble() -> None:
    names = ["virtio_blk_handle_read", "virtio_blk_handle_write", "usb_packet"]
    assert near("blk_handle", names) == ["virtio_blk_handle_read", "virtio_blk_handle_write"]
    assert near("virtio_blk_handle_raed", names)[0] == "virtio_blk_handle_read"
    assert near("zzz", names) == []


def test_events_files_are_read_kindly() -> None:
    text = "\ufeff# mine\r\n virtio_*  # all\r\n\r\n-virtio_gpu*\r\n- usb_x\r\nplain\n"
    assert parse_events(text) == [
        (True, "virtio_*"),
        (False, "virtio_gpu*"),
        (False, "usb_x"),
        (True, "plain"),
    ]


@pytest.mark.parametrize("text", ["a b", "-", "ok\na\x1bb", "x\ty"])
def test_events_files_name_the_wrong_line(text: str) -> None:
    with pytest.raises(UsageError, match=f"line {text.count(chr(10)) + 1} "):
        parse_events(text)


@given(st.text())
def test_any_events_file_is_rules_or_a_usage_error(text: str) -> None:
    try:
        rules = parse_events(text)
    except UsageError:
        return
    assert all(pattern.strip() == pattern and pattern for _, pattern in rules)
