"""One row a verb: the command line, its help and its documentation agree with the table."""

from __future__ import annotations

import argparse
import contextlib
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.commands.context import Context, Result
from qtctl.commands.parsing import main_parser, parse, verb_parser
from qtctl.commands.registry import COMMANDS, Options
from qtctl.commands.values import EXCLUDED, count, duration, in_order, selection
from qtctl.errors import UsageError
from qtctl.text.style import Style
from qtctl.verbs import TASKS

VERBS = list(COMMANDS.rows)
TAIL = COMMANDS.rows["tail"]
README = Path(__file__).parents[2] / "README.md"


def options(*argv: str) -> Options:
    """Return the options of a call, without the words in which they were given."""
    found = parse(argv, COMMANDS, "0")[1]
    found.line = ()
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_begins_with_three_examples(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        options(verb, "--help")
    assert done.value.code == 0
    shown = capsys.readouterr().out
    row = COMMANDS.rows[verb]
    assert [f"  {example}" for example in row.examples[:3]] == shown.splitlines()[2:5]
    assert all(example in shown for example in row.examples)
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
    "example", [example for row in COMMANDS.rows.values() for example in row.examples]
)
def test_every_example_parses(example: str) -> None:
    words = shlex.split(re.split(r" \| | < | && ", example)[0])
    assert words[0] == "qtctl"
    assert options(*words[1:]).verb in VERBS


def test_the_help_and_the_readme_name_every_verb() -> None:
    shown = main_parser(COMMANDS, "0").format_help()
    readme = README.read_text()
    for verb in VERBS:
        assert f"\n  {verb} " in shown
        assert f"`{verb}" in readme, f"README.md does not tell of {verb}"
    for task in {row.task for row in COMMANDS.verbs}:
        assert f"\n{TASKS[task]}:\n" in shown


async def test_help_of_a_verb_is_the_same_by_either_way() -> None:
    for words, page in (((), main_parser(COMMANDS, "0")), (("tail",), verb_parser(TAIL))):
        asked = options("help", *words)
        answer = await COMMANDS.rows["help"].run(Context(), asked)
        assert isinstance(answer, Result)
        assert "\n".join(answer.lines(Style())).rstrip() == page.format_help().rstrip()
    with pytest.raises(UsageError, match="there is no verb 'tial'") as caught:
        await COMMANDS.rows["help"].run(Context(), options("help", "tial"))
    assert caught.value.hint == "qtctl tail"


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_redefines_a_common_option(verb: str) -> None:
    verb_parser(COMMANDS.rows[verb])  # argparse refuses two options of one name


def test_common_options_stand_before_or_behind_the_verb() -> None:
    before = options("-t", "x", "--json", "list")
    behind = options("list", "-t", "x", "--json")
    assert before == behind
    assert (before.targets, before.json, before.quiet) == (["x"], True, False)


def test_targets_add_up_before_and_behind_the_verb() -> None:
    assert options("-t", "a", "list", "--target=b").targets == ["a", "b"]
    assert options("--all", "list").targets == options("list", "--all").targets == ["all"]
    tail = options("--all", "tail", "--all")
    assert (tail.targets, tail.all) == (["all"], True)
    assert options("tail", "--all").targets == []


@pytest.mark.parametrize(
    "words",
    [
        "tail --backend log --backend simple",
        "tail --backend=log --backend log",
        "--color never list --color always",
        "list --state enabled --state disabled",
        "enable x --file a --file b",
        "wait x --where a==1 --where b==2",
        "record -o a -o b",
        "on RESET --every 1s --every 2s do stop",
        "pane --left --right",
    ],
)
def test_an_option_that_would_replace_another_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="is given twice"):
        options(*words.split())


def test_what_may_be_repeated_is_kept() -> None:
    assert options("tail", "--kernel", "a", "--kernel", "b").kernel == ["a", "b"]
    assert options("-v", "list", "-v", "--json", "--json").verbose
    assert rules("list", "a*", "--except", "b", "--except", "c") == [
        (True, "a*"),
        (False, "b"),
        (False, "c"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        "--js list",
        "--targ x list",
        "--vers",
        "list --js",
        "list --stat enabled",
        "list a* --exc b",
        "tail --whe x",
        "tail --dur 1s",
        "enable x --dry",
        "on RESET --on do stop",
    ],
)
def test_no_option_may_be_abbreviated(words: str) -> None:
    with pytest.raises(UsageError, match=r"unrecognized|required"):
        options(*words.split())


def rules(*argv: str) -> list[tuple[bool, str]]:
    return list(selection(options(*argv)).rules)


def test_patterns_keep_their_order() -> None:
    expected = [(True, "a*"), (False, "ab*"), (True, "abc")]
    assert rules("list", "a*", "--except", "ab*", "abc") == expected
    assert rules("list", "a*", "--except=ab*", "abc") == expected
    assert rules("tail", "--", "a*", "-ab*", "abc") == expected
    assert rules("enable", "--for", "2s", "a*", "--except", "ab*", "--dry-run", "abc") == expected


def test_an_events_file_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text("virtio_*\n-virtio_gpu*\n")
    assert rules("enable", "usb_*", "--file", str(path)) == [
        (True, "virtio_*"),
        (False, "virtio_gpu*"),
        (True, "usb_*"),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("nosuch",),
        ("list", "--nosuch"),
        ("list", "--state", "on"),
        ("list", ""),
        ("list", "--except"),
        ("list", "--except", "x"),
        ("enable", "--for", "soon", "x"),
        ("enable", "--for", "0s", "x"),
        ("enable", "--file", "/nonexistent/file"),
        ("tail", "--max-events", "0"),
        ("tail", "--max-events", "-1"),
        ("tail", "--time", "never"),
        ("info",),
        ("wait", "a", "b"),
        ("qmp",),
        ("ps", "x"),
        ("--color", "blue", "ps"),
    ],
)
def test_what_cannot_be_right_is_a_usage_error(
    argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        selection(options(*argv))
    assert caught.value.exit_code == 2
    assert caught.value.message
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("enble x", "qtctl enable"),
        ("list --sate enabled", "qtctl list --state"),
        ("list x --stat=enabled", "qtctl list --state"),
        ("tail x --were a", "qtctl tail --where"),
        ("tail x --max 3", "qtctl tail --max-events"),
        ("on RESET --onec do stop", "qtctl on --once"),
        ("--jason list", "qtctl --json"),
        ("--duration 1s tail x", "qtctl VERB ... --duration, behind its verb"),
        ("count x --topp 3", "qtctl count --help"),  # --top is an older spelling
        ("ps x", "qtctl ps --help"),
    ],
)
def test_what_is_misspelt_gets_the_near_name(words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(*words.split())
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10", 10), ("10s", 10), ("1.5s", 1.5), ("2m", 120), ("1h", 3600)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@given(st.text())
def test_any_text_is_a_value_or_a_refusal(text: str) -> None:
    for read in (duration, count):
        with contextlib.suppress(argparse.ArgumentTypeError):
            assert read(text) > 0


@given(
    st.lists(st.sampled_from(["a", "b*", "--except", "c", "--", "-d", "--except=e"]), max_size=6)
)
def test_rewriting_argv_loses_no_word(words: list[str]) -> None:
    try:
        rewritten = in_order(words)
    except UsageError:
        assert any(a == "--except" for a, b in pairwise([*words, "-"]) if b.startswith("-"))
        return
    head = words[: words.index("--")] if "--" in words else words
    markers = head.count("--except") + ("--" in words)
    assert len(rewritten) == len(words) - markers
    assert all(not word.startswith("--") for word in rewritten if word != "--")
    assert [w for w in rewritten if w.startswith(EXCLUDED)] or "--except" not in head


def test_the_pane_is_called_as_it_was_asked_for() -> None:
    from qtctl.ui.top import view_call

    asked = (
        *("--where", "a == '-x'", "--by", "tid", "--interval", "500ms", "--guard", "9"),
        *("--duration", "2m", "--strict", "--view", "top", "--backend", "log", "--time", "rel"),
    )
    given = options("pane", *asked, "--", "virtio_*", "-virtio_gpu*", "x")
    words = view_call(given, selection(given), "unix:/a b", Path("/e a"))
    called = options(*words)
    assert called.here and not given.here
    assert (called.targets, called.events_all) == (["unix:/a b"], Path("/e a"))
    for name in ("where", "by", "interval", "guard", "duration", "strict", "view", "time"):
        assert getattr(called, name) == getattr(given, name)
    assert selection(called) == selection(given)
    plain = options("pane")
    assert not selection(options(*view_call(plain, selection(plain), "x", None)))


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a,b", ("a", "b", None)),
        ("a,b,vdev,req", ("a", "b", ("vdev", "req"))),
        ("kvm:kvm_exit,kvm:kvm_entry", ("kvm:kvm_exit", "kvm:kvm_entry", None)),
        ("kvm:kvm_exit,b,vcpu", ("kvm:kvm_exit", "b", ("vcpu",))),
        ("a:b", ("a", "b", None)),
        ("a:b:vdev,req", ("a", "b", ("vdev", "req"))),
    ],
)
def test_a_pair_is_read_in_either_spelling(text: str, read: object) -> None:
    for verb in (("diff", "x", "y"), ("export", "--to", "perfetto", "x")):
        assert options(*verb, "--pair", text).pair == [read]


@pytest.mark.parametrize("text", ["a", "a,", ",b", "a,b,", ""])
def test_half_a_pair_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not two events"):
        options("diff", "x", "y", "--pair", text)


def test_an_older_spelling_goes_on_working_and_is_not_shown() -> None:
    assert options("count", "--top", "3").limit == options("count", "--limit", "3").limit == 3
    assert options("count").limit == 20
    assert options("query", "x", "f", "--format", "csv") == options(
        "query", "x", "f", "--to", "csv"
    )
    for verb, flag in (("count", "--top"), ("query", "--format")):
        assert flag not in verb_parser(COMMANDS.rows[verb]).format_help()
    with pytest.raises(UsageError, match="given twice"):
        options("count", "--top", "3", "--limit", "3")


def test_an_option_means_the_same_in_every_verb() -> None:
    same = {"--where", "--backend", "--duration", "--max-events", "--guard", "--kernel", "--ring"}
    same |= {"--by", "--limit", "--interval", "--time", "--ndjson", "--strict", "--except", "-o"}
    same |= {"--jobs"}
    kinds: dict[str, set[object]] = {}
    for row in COMMANDS.rows.values():
        for argument in row.arguments:
            for flag in same.intersection(argument.flags):
                own = {"help", "default", "required", "metavar"}
                kind = {k: str(v) for k, v in argument.options.items() if k not in own}
                kinds.setdefault(flag, set()).add((argument.flags, str(sorted(kind.items()))))
    assert set(kinds) == same
    assert [flag for flag, found in kinds.items() if len(found) > 1] == []
