"""Keys of actions, as the user's configuration changes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prompt_toolkit.key_binding import KeyBindings

from qtctl.config import settings


def keys_of(actions: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the keys of each action: those of ``[keys]`` in the configuration, else its own.

    Keys are named as prompt_toolkit does (``c-r``, ``escape``, ``pageup``, ``x``). A key that the
    user gives to an action is taken from the others.

    Raises:
        UsageError: the configuration names an action or a key that does not exist.
    """
    configured = settings()
    chosen: dict[str, tuple[str, ...]] = {}
    for name, value in configured.tables["keys"].items():
        key = ("keys", name)
        if name not in actions:
            message = f"there is no action {name!r}"
            raise configured.wrong(key, message, name=name, names=actions)
        chosen[name] = (value,) if isinstance(value, str) else tuple(value)
        for one in chosen[name]:
            try:
                KeyBindings().add(one)
            except ValueError as error:
                raise configured.wrong(key, f"there is no key {one!r}") from error
    taken = {key for keys in chosen.values() for key in keys}
    others = {
        name: tuple(key for key in keys if key not in taken) for name, keys in actions.items()
    }
    return {**others, **chosen}
