"""What may stand at the cursor, from the command table; and the lines that shells hand over."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.commands.parsing import COMMON
from qtctl.commands.registry import COMMANDS, Arg
from qtctl.commands.slots import read_line, slot
from qtctl.session import event_cache as known
from tests.samples import declarations_text

VERBS = list(COMMANDS.rows)


@pytest.mark.parametrize(
    ("line", "kind", "lead", "text"),
    [
        ("", "verb", "", ""),
        ("ta", "verb", "", "ta"),
        ("-t vm1 ta", "verb", "", "ta"),
        ("-t ", "target", "", ""),
        ("tail -t v", "target", "", "v"),
        ("--target=v", "target", "--target=", "v"),
        ("--col", "option", "", "--col"),
        ("tail --wh", "option", "", "--wh"),
        ("tail virtio_", "event", "", "virtio_"),
        ("tail a b c", "event", "", "c"),
        ("tail --where x vir", "event", "", "vir"),
        ("tail --where x", "filter", "", "x"),
        ("tail --where='a and s", "filter", "--where=", "a and s"),
        ("tail --duration 5", "", "", "5"),
        ("tail --duration=5s vir", "event", "", "vir"),
        ("tail --except vi", "event", "", "vi"),
        ("tail -- a -vi", "event", "-", "vi"),
        ("list --state en", "choice", "", "en"),
        ("list --state=en", "choice", "--state=", "en"),
        ("tail --backend s", "backend", "", "s"),
        ("tail -o f", "file", "", "f"),
        ("enable --file x", "file", "", "x"),
        ("--events-all x", "file", "", "x"),
        ("replay x", "file", "", "x"),
        ("replay x vir", "event", "", "vir"),
        ("info virtio_", "event", "", "virtio_"),
        ("info a b", "", "", "b"),
        ("nosuch x", "", "", "x"),
        ("completion z", "choice", "", "z"),
        ("ps x", "", "", "x"),
    ],
)
def test_slots(line: str, kind: str, lead: str, text: str) -> None:
    found = slot(read_line(line)[0], COMMANDS, COMMON)
    assert (found.kind, found.lead, found.text) == (kind, lead, text)


def test_every_kind_in_the_table_is_one_that_is_known() -> None:
    kinds = {"", "event", "file", "target", "backend", "verb", "argument", "filter"}
    arguments: list[Arg] = [
        *COMMON,
        *(one for row in COMMANDS.rows.values() for one in row.arguments),
    ]
    assert {one.completes for one in arguments} <= kinds


@given(st.lists(st.sampled_from([*VERBS, "-t", "--", "-x", "--where", "--state=", "a", ""])))
def test_any_words_have_a_slot(words: list[str]) -> None:
    found = slot(words, COMMANDS, COMMON)
    assert found.lead + found.text == (words[-1] if words else "")


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=1))
def test_a_whole_line_is_split_as_the_shell_does(words: list[str]) -> None:
    line = shlex.join(words)
    assert read_line(line)[0] == words
    assert read_line(f"{line} ")[0] == [*words, ""]


@given(st.text())
def test_any_line_is_split(line: str) -> None:
    assert read_line(line)[0]


def test_a_word_in_an_open_quotation_is_being_typed() -> None:
    assert read_line("qtctl tail 'virtio_*")[0] == ["qtctl", "tail", "virtio_*"]
    assert read_line("tail 'a b' --where \"x == 'y")[0] == ["tail", "a b", "--where", "x == 'y"]
    assert read_line('qtctl --where "a b')[0] == ["qtctl", "--where", "a b"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache in the test, and let no QEMU be installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(known, "installed_declarations", list)
    return tmp_path


def test_events_are_known_from_the_guest_that_was_seen_last(cache: Path) -> None:
    assert known.known_events("") == {}
    path = cache / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    known.remember(["virtio_notify", "own_thing", "virtio_queue_notify"], path)
    assert known.known_events("virtio_n") == {"virtio_notify": "void *vdev, void *vq"}
    assert list(known.known_events("")) == ["own_thing", "virtio_notify", "virtio_queue_notify"]
    assert known.known_events("nosuch") == {}
    known.remember(["b", "a"], None)
    assert known.known_events("") == {"a": "", "b": ""}
    kept = list((cache / "qtctl").iterdir())
    assert [one.name for one in kept] == ["events"]


def test_declarations_are_those_of_the_events_that_are_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known.known_declarations(lambda names: names) == {}
    path = cache / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    for seen in (["virtio_notify", "own_thing", "nvme_read"], []):  # of a guest, or installed
        if seen:
            known.remember(seen, path)
        else:
            (cache / "qtctl" / "events").unlink()
            monkeypatch.setattr(known, "installed_declarations", lambda: [path])
        found = known.known_declarations(lambda names: [n for n in names if n.endswith("notify")])
        assert [one.name for one in found["virtio_notify"].arguments] == ["vdev", "vq"]
        assert "nvme_read" not in found
        assert (len(found) == 1) == bool(seen)


def test_where_an_open_quotation_begins() -> None:
    assert read_line("tail 'a b")[1] == 0
    assert read_line("tail --where='a 'b' c")[1] == len("--where=a b")
    assert read_line('tail x"')[1] == 1
    assert read_line("tail 'a b' c")[1] is None


def test_a_broken_cache_is_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache / "trace-events-all"
    path.write_text('one(int a) "%d"\ndisable two(void) ""\n')
    monkeypatch.setattr(known, "installed_declarations", lambda: [path])
    for content in (b"", b"\xff\xfe\n", b"/nonexistent\n"):
        (cache / "qtctl").mkdir(exist_ok=True)
        (cache / "qtctl" / "events").write_bytes(content)
        assert known.known_events("o") == {"one": "int a"}
    (cache / "qtctl" / "events").unlink()
    (cache / "qtctl" / "events").mkdir()
    known.remember(["x"], None)  # and nothing is said
    assert known.known_events("t") == {"two": "void"}
