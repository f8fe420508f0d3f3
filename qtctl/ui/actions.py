"""What can be done in a view: one table, from which keys, help, the palette and the docs come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qtctl.config import Settings
from qtctl.errors import UsageError
from qtctl.events.patterns import near


class ViewAction(NamedTuple):
    """One thing to do: its name, its keys as prompt_toolkit calls them, and what it does."""

    name: str
    keys: tuple[str, ...]
    does: str


ACTIONS = (
    ViewAction("quit", ("q", "c-c"), "leave, and give the guest back"),
    ViewAction("guests", ("g",), "go on with another guest, chosen from a list"),
    ViewAction("help", ("h", "?"), "list the keys"),
    ViewAction("palette", (":",), "do something by its name"),
    ViewAction("pause", ("space",), "hold the rows still; counters go on"),
    ViewAction("view", ("tab",), "records, rates, latency: the next, at the same time"),
    ViewAction("rates", ("t",), "rates, or back to the records"),
    ViewAction("pair", ("P",), "measure the latency of a pair of events, over time"),
    ViewAction("up", ("up", "k"), "select the row above"),
    ViewAction("down", ("down", "j"), "select the row below; behind the last, go on"),
    ViewAction("page-up", ("pageup",), "a page up; in latency, earlier"),
    ViewAction("page-down", ("pagedown",), "a page down; in latency, later"),
    ViewAction("first", ("home", "<"), "the first row, or second, that is kept"),
    ViewAction("newest", ("end", ">", "G"), "select no row, no second, and go on with the newest"),
    ViewAction("left", ("left",), "scroll arguments; in rates and latency, the second before"),
    ViewAction("right", ("right",), "scroll arguments; in rates and latency, the second behind"),
    ViewAction("wrap", ("w",), "continue long records on further rows, or crop them"),
    ViewAction("times", ("T",), "time of day, since the first, since the one before, none"),
    ViewAction("search", ("/",), "search for a text"),
    ViewAction("older-hit", ("n",), "the next hit above"),
    ViewAction("newer-hit", ("N",), "the next hit below"),
    ViewAction("context", ("z",), "show only the hits, with the rows around them"),
    ViewAction("filter", ("f",), "show and count only records for which an expression holds"),
    ViewAction("only", ("&",), "show only rows with a text"),
    ViewAction(
        "open", ("enter",), "the whole record; in rates the row's records, in latency the last END"
    ),
    ViewAction("same", ("p",), "the next, or the selected, record of the same request"),
    ViewAction("bookmark", ("m",), "bookmark the selected row"),
    ViewAction("span-a", ("A",), "begin or end a span at the selected row, to compare"),
    ViewAction("span-b", ("B",), "begin or end the other span"),
    ViewAction("disable", ("d",), "switch the selected event off"),
    ViewAction("enable", ("e",), "switch events on"),
    ViewAction("by", ("b",), "rates: count by an argument, tid or event"),
    ViewAction("sort", ("s",), "rates: sort by the next column"),
    ViewAction("command", ("y",), "show and copy the command line that gives this view"),
    ViewAction("clear", ("c",), "remove all rows"),
    ViewAction("back", ("escape",), "leave help, record or search; select no second"),
)
_NAMED = {"space": "Space", "pageup": "PgUp", "pagedown": "PgDn", "c-c": "Ctrl-C", "escape": "Esc"}


def key_words(keys: Sequence[str]) -> str:
    """Return keys as people call them."""
    return " ".join(_NAMED.get(key, key if len(key) == 1 else key.capitalize()) for key in keys)


def help_lines(actions: Sequence[ViewAction] = ACTIONS) -> list[str]:
    """Return a line per action: its keys, and what it does."""
    width = max(len(key_words(action.keys)) for action in actions)
    return [f"{key_words(action.keys):{width}}  {action.does}" for action in actions]


def key_table() -> list[str]:
    """Return the lines of the table of actions in ``docs/keys.md``."""
    rows = [
        (one.name, " ".join(f"`{key_words([key])}`" for key in one.keys), one.does)
        for one in ACTIONS
    ]
    return [
        "| action | keys | what it does |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def with_keys(changed: Mapping[str, Sequence[str]]) -> tuple[ViewAction, ...]:
    """Return the actions with other keys for those of ``changed``, by name.

    Raises:
        UsageError: there is no such action, or a key would do two things.
    """
    for name in changed:
        action_of(name)
    actions = [one._replace(keys=tuple(changed.get(one.name, one.keys))) for one in ACTIONS]
    owners: dict[str, str] = {}
    for action in actions:
        for key in action.keys:
            if owners.setdefault(key, action.name) != action.name:
                raise UsageError(f"the key {key!r} is for {owners[key]} and for {action.name}")
    return tuple(actions)


def configured_actions(found: Settings) -> tuple[ViewAction, ...]:
    """Return the actions with the ``[keys]`` of the user's configuration.

    Raises:
        UsageError: there is no such action or key, or a key would do two things.
    """
    from prompt_toolkit.key_binding import KeyBindings

    changed: dict[str, tuple[str, ...]] = {}
    for name, value in found.tables["keys"].items():
        key = ("keys", name)
        names = [one.name for one in ACTIONS]
        if name not in names:
            raise found.wrong(key, f"there is no action {name!r}", name=name, names=names)
        changed[name] = (value,) if isinstance(value, str) else tuple(value)
        for one in changed[name]:
            try:
                KeyBindings().add(one)
            except ValueError as error:
                raise found.wrong(key, f"there is no key {one!r}") from error
    try:
        return with_keys(changed)
    except UsageError as error:
        raise found.wrong(("keys", *list(changed)[-1:]), error.message) from error


def action_of(name: str) -> ViewAction:
    """Return the action of a name, or of the only name that begins so.

    Raises:
        UsageError: there is none, or several.
    """
    begun = [one for one in ACTIONS if one.name.startswith(name)] if name else []
    exact = [one for one in begun if one.name == name]
    if len(exact or begun) == 1:
        return (exact or begun)[0]
    names = [one.name for one in begun] or near(name, [one.name for one in ACTIONS])[:3]
    hint = " or ".join(names) or "h lists them"
    raise UsageError(
        f"{'several actions begin' if begun else 'no action is named'} {name!r}", hint=hint
    )
