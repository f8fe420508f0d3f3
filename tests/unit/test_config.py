"""The configuration file: what it may hold, whose it may be, and errors with their lines."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qtctl import config
from qtctl.commands.context import Context, Result
from qtctl.commands.defaults import expanded
from qtctl.commands.parsing import COMMON, main_parser, parse
from qtctl.commands.registry import COMMANDS, Options
from qtctl.commands.slots import slot
from qtctl.config import Settings
from qtctl.errors import UsageError
from qtctl.events import sets
from qtctl.model import Address, Budget
from qtctl.session.attach import resolve
from qtctl.text.theme import configured_theme, theme
from qtctl.ui.actions import configured_actions

FILE = Path("config.toml")
TEXT = """\
# mine
[defaults]
color = "never"   # everywhere

[defaults.tail]
time = "delta"

[aliases]
blk = "tail @virtio-blk"

[sets]
disk = [
    "virtio_blk_*",  # requests
    "-virtio_blk_data*",
]
[targets]
"lab" = "10.0.0.2:4444"
"""


def wrong(text: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        Settings(FILE, text)
    return raised.value


def test_keys_have_their_lines() -> None:
    for text in (TEXT, TEXT.replace("\n", "\r\n")):
        found = dict(Settings(FILE, text).lines())
        assert found["defaults", "color"] == 3
        assert found["defaults", "tail"] == 5
        assert found["defaults", "tail", "time"] == 6
        assert found["aliases", "blk"] == 9
        assert found["sets",] == 11
        assert found["sets", "disk"] == 12
        assert found["targets", "lab"] == 17


def test_defaults_of_a_verb_come_before_those_of_all() -> None:
    both = Settings(FILE, '[defaults]\ntime = "rel"\nown = true\n[defaults.tail]\ntime = "delta"')
    assert both.defaults("tail") == {
        "time": ("delta", ("defaults", "tail", "time")),
        "own": (True, ("defaults", "own")),
    }
    assert both.defaults("wait")["time"] == ("rel", ("defaults", "time"))


@pytest.mark.parametrize(
    ("text", "line", "part", "hint"),
    [
        ("[defaults]\ntime = rel", 2, "this is not TOML: Invalid value", ""),
        ("[defaults", 1, "this is not TOML", ""),
        ("[aliases]\na = '''\n", 2, "this is not TOML", ""),
        ("\n[colours]", 2, "no setting 'colours'", "colors"),
        ("\n\ndefaults = 1", 3, "'defaults' is a table", ""),
        ("[defaults.tial]", 1, "no verb 'tial'", "tail"),
        ("[defaults]\ntime = 1979-05-27", 2, "'time' is to be a value", ""),
        ("[defaults]\ntail = {where = {a = 1}}", 2, "'where' is to be", ""),
        ("[defaults]\nkernel = [[1]]", 2, "'kernel' is to be", ""),
        ("[aliases]\nblk = ['tail']", 2, "'blk' is to be a line of qtctl", ""),
        ("[aliases]\nblk = 'tial x'", 2, "begins with a verb, and 'tial' is none", "tail"),
        ("[aliases]\nblk = ''", 2, "begins with a verb, and '' is none", ""),
        ("[aliases]\ntail = 'tail x'", 2, "'tail' is a verb", ""),
        ("[aliases]\n'a b' = 'tail x'", 2, "'a b' cannot be typed", ""),
        ("[aliases]\n-x = 'tail x'", 2, "'-x' cannot be typed", ""),
        ("[targets]\n4711 = 'unix:/x'", 2, "'4711' cannot name a target", ""),
        ("[targets]\n'a/b' = 'unix:/x'", 2, "'a/b' cannot name a target", ""),
        ("[sets]\nx = 'virtio_*'", 2, "'x' is to be a list of patterns", ""),
        ("[sets]\nx = [1]", 2, "'x' is to be a list of patterns", ""),
        ('[sets]\nx = ["a\\u0000"]', 2, "'x' has a NUL", ""),
        ("[aliases]\nexit = 'tail x'", 2, "'exit' means something else at the prompt", ""),
    ],
)
def test_an_error_names_the_file_and_the_line(text: str, line: int, part: str, hint: str) -> None:
    error = wrong(text)
    assert error.message.startswith(f"config.toml:{line}: "), error.message
    assert part in error.message
    assert error.hint == (hint or "QTCTL_CONFIG= qtctl ..., to do without it")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of the user's file."""
    monkeypatch.delenv("QTCTL_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "qtctl" / "config.toml"
    path.parent.mkdir()
    return path


def test_no_file_is_no_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.read_file().path is None
    monkeypatch.setenv("XDG_CONFIG_HOME", str(file / "not" / "a folder"))
    assert config.read_file().path is None
    monkeypatch.setenv("QTCTL_CONFIG", str(file))
    with pytest.raises(UsageError, match=r"cannot read .*config.toml: No such file"):
        config.read_file()


def test_a_variable_names_another_file_or_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("nonsense")
    with pytest.raises(UsageError, match=r"config.toml:1: this is not TOML"):
        config.read_file()
    for none in ("", "/dev/null"):
        monkeypatch.setenv("QTCTL_CONFIG", none)
        assert config.read_file().tables["aliases"] == {}


def test_the_api_and_other_tests_read_no_file(file: Path) -> None:
    file.write_text("nonsense")
    assert config.settings().path is None


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o600, False), (0o644, False), (0o646, True), (0o602, True)]
)
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int, refused: bool) -> None:
    file.write_text(TEXT)
    file.chmod(mode)
    if refused:
        with pytest.raises(UsageError) as raised:
            config.read_file()
        assert raised.value.hint == f"chmod go-w {file}"
    else:
        assert config.read_file().tables["sets"]


def test_whose_file_it_may_be(file: Path) -> None:
    def check(uid: int, gid: int, mode: int) -> str:
        state = os.stat_result((0o100000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
        try:
            config._check_owner(file, state)
        except UsageError as error:
            return error.message
        return ""

    own = os.geteuid()
    assert check(own, own, 0o664) == ""
    assert "may be written by others" in check(own, own + 1, 0o664)
    assert check(0, 0, 0o644) == ""
    assert "belongs to user" in check(own + 1, own, 0o600)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Settings]:
    """Return a function that makes a text the configuration of this process."""

    def use(text: str) -> Settings:
        monkeypatch.setattr(config, "_used", made := Settings(FILE, text))
        return made

    return use


Use = Callable[[str], Settings]


def parsed(line: str) -> Options:
    return parse(shlex.split(line), COMMANDS, "0")[1]


def refused(line: str) -> UsageError:
    with pytest.raises(UsageError) as raised:
        parsed(line)
    return raised.value


def test_a_default_holds_until_an_option_is_given(configured: Use) -> None:
    configured(
        '[defaults]\ntime = "rel"\ncolor = "never"\n'
        '[defaults.tail]\nguard = "20MB"\nmax-events = 5\n'
        '[defaults.record]\noutput = "~/x.qtr"\n[defaults.list]\ncolor = "always"'
    )
    tail = parsed("tail")
    assert (tail.time, tail.guard, tail.max_events) == ("rel", Budget(bytes_per_s=20_000_000), 5)
    assert parsed("tail --time abs --max-events 6").time == "abs"
    assert parsed("wait x").time == "rel"
    assert parsed("tail --max-events 6").max_events == 6
    assert parsed("record").out == Path("~/x.qtr").expanduser(), "the option is no longer required"
    assert parsed("tail").color == "never"
    assert parsed("list").color == "always"
    assert parsed("--color auto list").color == parsed("list --color auto").color == "auto"


def test_a_switch_that_is_on_can_be_switched_off(configured: Use) -> None:
    configured(
        "[defaults.ps]\njson = true\n[defaults.tail]\nown = true\njson = false\nkernel = ['kvm:*']"
    )
    assert parsed("tail").own
    assert not parsed("tail --no-own").own
    assert not parsed("tail").json
    assert parsed("tail --json").json
    assert parsed("ps").json
    assert not parsed("ps --no-json").json
    assert parsed("tail --kernel 'irq:*'").kernel == ["kvm:*", "irq:*"]
    assert parsed("tail").kernel == ["kvm:*"]
    assert "unrecognized" in refused("ps --no-own").message


def test_an_integer_of_many_digits_is_an_error() -> None:
    assert "config.toml cannot be read as TOML" in wrong(f"[defaults]\nx = {'1' * 5000}").message


def test_of_several_flags_for_one_thing_the_configured_one_holds(configured: Use) -> None:
    configured("[defaults.pane]\nbottom = true")
    assert parsed("pane").side == "bottom"
    assert parsed("pane --left").side == "left"


def test_a_default_is_not_taken_for_what_was_given(configured: Use) -> None:
    configured("[defaults]\nduration = '5s'")
    options = parsed("count --from x")
    assert options.duration == 5
    assert "duration" not in options.given
    assert "duration" in parsed("count --from x --duration 1s").given


def test_help_needs_no_configuration(configured: Use, capsys: pytest.CaptureFixture[str]) -> None:
    configured("[defaults.tail]\ntiem = 'rel'")
    with pytest.raises(SystemExit):
        parsed("tail --help")
    assert "--max-events" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[defaults]\njson = true", "2: streams have no --json", ""),
        ("[defaults.tail]\ntiem = 'rel'", "2: tail has no option --tiem", "time"),
        ("[defaults.tail]\ntime = 'rle'", "2: --time: 'rle' is none of abs, rel", "rel"),
        ("[defaults.tail]\nduration = 'x'", "2: --duration: not a duration: 'x'", ""),
        ("[defaults.tail]\nown = 'yes'", "2: --own is a switch", ""),
        ("[defaults.tail]\ntime = true", "2: --time takes a value", ""),
        ("[defaults.tail]\ntime = ['rel', 'abs']", "2: --time takes a value", ""),
        ("[defaults]\ntarget = 'vm1'", "2: --target has no default: $QTCTL_TARGET", ""),
        ("[defaults.tail]\nexcept = 'x'", "2: --except has no default", ""),
    ],
)
def test_a_wrong_default_is_reported_by_the_verb_that_has_it(
    configured: Use, text: str, message: str, hint: str
) -> None:
    configured(text)
    error = refused("tail")
    assert error.message.startswith(f"config.toml:{message}"), error.message
    assert error.hint == (hint or "QTCTL_CONFIG= qtctl ..., to do without it")
    if ".tail" in text:
        assert parsed("list").verb == "list"


def test_an_alias_takes_words(configured: Use) -> None:
    configured(
        "[aliases]\nblk = \"tail 'virtio_blk_*' --time delta\"\nslow = 'latency $1 x --key=$2'\n"
        'open = "tail \'x"\n'
    )
    assert expanded(["blk", "--max-events", "3"]) == [
        *("tail", "virtio_blk_*", "--time", "delta", "--max-events", "3")
    ]
    assert expanded(["slow", "a b", "req", "--json"]) == [
        "latency",
        "a b",
        "x",
        "--key=req",
        "--json",
    ]
    assert parsed("-t vm1 blk").targets == ["vm1"]
    assert parsed("blk").verb == "tail"
    error = refused("slow a")
    assert error.message == "'slow' needs 2 words behind it"
    assert expanded(["slow", "--help"]) == ["latency", "--help"]
    assert "config.toml:4: " in refused("open").message
    assert refused("blkk").hint == "qtctl blk"


def test_help_names_the_aliases_and_needs_no_file_without_errors(
    configured: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured("[aliases]\nodd = 'tail --where \"req % 2\"'")
    assert '  odd         tail --where "req % 2"\n' in main_parser(COMMANDS, "0").format_help()
    monkeypatch.setattr(config, "_used", None)
    monkeypatch.setenv("QTCTL_CONFIG", "/nonexistent/file")
    assert "tail" in main_parser(COMMANDS, "0").format_help()


def test_an_alias_completes_as_its_line_does(configured: Use) -> None:
    lines = {"blk": "tail 'virtio_blk_*' --where", "slow": "latency $1"}
    assert slot(["blk", "se"], COMMANDS, COMMON, lines).kind == "filter"
    assert slot(["-q", "slow", "ev"], COMMANDS, COMMON, lines).kind == "event"
    assert slot(["slow", "--ke"], COMMANDS, COMMON, lines).kind == "option"


def test_a_set_of_the_file_goes_before_others(configured: Use) -> None:
    configured("[sets]\nnvme = ['nvme_*', '-nvme_x']\nbad = ['a b']\n'x y' = []")
    found = sets.read_set("nvme")
    assert found.own
    assert found.rules == ((True, "nvme_*"), (False, "nvme_x"))
    assert "nvme" in sets.names()
    with pytest.raises(UsageError, match=r"config.toml:3: not one pattern: 'a b'"):
        sets.read_set("bad")
    with pytest.raises(UsageError, match="would hide it"):
        sets.save("nvme", [(True, "x")])


def test_a_name_of_a_target_is_resolved(configured: Use) -> None:
    configured("[targets]\nlab = '192.0.2.7:4444'\nbad = ':'")
    assert resolve("lab") == (Address(host="192.0.2.7", port=4444), None)
    with pytest.raises(UsageError, match=r"config.toml:3: .* has no port"):
        resolve("bad")


def shown(*words: str) -> tuple[list[tuple[str, Any, str]], int]:
    options = parse(["config", *words], COMMANDS, "0")[1]

    async def run() -> Result | int:
        return await COMMANDS.rows["config"].run(Context(quiet=True), options)

    result = asyncio.run(run())
    assert isinstance(result, Result)
    rows = [(row["setting"], row["value"], row["from"]) for row in result.document["settings"]]
    return [row for row in rows if not row[0].startswith("$")], result.exit_code


def test_config_prints_what_holds_and_where_it_comes_from(configured: Use) -> None:
    configured(TEXT)
    assert shown() == (
        [
            ("defaults.color", "never", "config.toml:3"),
            ("defaults.tail.time", "delta", "config.toml:6"),
            ("aliases.blk", "tail @virtio-blk", "config.toml:9"),
            ("sets.disk", ["virtio_blk_*", "-virtio_blk_data*"], "config.toml:12"),
            ("targets.lab", "10.0.0.2:4444", "config.toml:17"),
        ],
        0,
    )
    rows, _ = shown("defaults.tail")
    assert ("defaults.tail.time", "delta", "config.toml:6") in rows
    assert ("defaults.tail.color", "never", "config.toml:3") in rows
    assert ("defaults.tail.backend", "auto", "qtctl") in rows
    assert shown("defaults.tail.time")[0] == [("defaults.tail.time", "delta", "config.toml:6")]
    assert shown("targets")[0] == [("targets.lab", "10.0.0.2:4444", "config.toml:17")]


def test_config_reports_everything_that_is_wrong(
    configured: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(
        "[defaults]\nnosuch = 1\ntime = 'x'\n[defaults.tail]\nlimit = 1\n"
        '[aliases]\na = "tail \'x"\n'
        "[targets]\nt = ':'\n[sets]\ns = ['@s']\n"
    )
    _, code = shown()
    said = capsys.readouterr().err
    assert code == 2
    for line in (2, 3, 5, 7, 9, 11):
        assert f"config.toml:{line}: " in said, said
    assert "contains itself" in said


def test_colours_are_changed(configured: Use) -> None:
    found = configured("[colors]\nbackground = 'light'\nevent = 'bold #ff0000'")
    made = configured_theme(found, {"COLORTERM": "truecolor"})
    assert made.roles["event"] == "1;38;2;255;0;0"
    assert made.identities == theme(16777216, "light").identities
    rows = {row[0]: row[1:] for row in shown("colors")[0]}
    assert rows["colors.event"] == ("bold #ff0000", "config.toml:3")
    assert rows["colors.good"] == ("green", "qtctl")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[colors]\nevnt = 'red'", "2: nothing is coloured as 'evnt'", "event"),
        ("[colors]\nevent = 'rde'", "2: 'rde' is no colour", ""),
        ("[colors]\nevent = '#12345g'", "2: '#12345g' is no colour", ""),
        ("[colors]\nbackground = 'red'", "2: the background is dark or light or any", ""),
        ("[keys]\npuase = 'x'", "2: there is no action 'puase'", "pause"),
        ("[keys]\npause = 'F99'", "2: there is no key 'F99'", ""),
        ("[keys]\npause = 'c'", "2: the key 'c' is for", ""),
    ],
)
def test_wrong_colours_and_keys_are_reported(
    configured: Use, text: str, message: str, hint: str
) -> None:
    found = configured(text)
    with pytest.raises(UsageError) as raised:
        configured_theme(found, {}) if "colors" in text else configured_actions(found)
    assert raised.value.message.startswith(f"config.toml:{message}"), raised.value.message
    assert raised.value.hint == (hint or "QTCTL_CONFIG= qtctl ..., to do without it")
    assert shown() == (
        [(text.split(" ")[0][1:].replace("]\n", "."), text.split("'")[1], "config.toml:2")],
        2,
    )


def test_keys_are_changed(configured: Use) -> None:
    found = configured("[keys]\npause = ['f2', 'c-x']\nclear = []")
    keys = {action.name: action.keys for action in configured_actions(found)}
    assert keys["pause"] == ("f2", "c-x")
    assert keys["clear"] == ()
    assert keys["quit"] == ("q", "c-c")
    assert ("keys.pause", ["f2", "c-x"], "config.toml:2") in shown("keys")[0]
    assert ("keys.quit", ["q", "c-c"], "qtctl") in shown("keys")[0]
