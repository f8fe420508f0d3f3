"""The tables of verbs and export formats: a module for each row."""

from __future__ import annotations

from qtctl.commands.registry import COMMANDS, CommandTable
from qtctl.verbs import VERBS, Verb
from qtctl.writers.table import FORMATS


def test_each_verb_and_format_has_a_module_of_its_own() -> None:
    modules = [verb.module for verb in VERBS if verb.name != "disable"]
    assert sorted(set(modules)) == sorted(modules)
    for verb in VERBS:
        assert COMMANDS.rows[verb.name].run.__module__ == verb.module
    assert len({row.module for row in FORMATS.values()}) == len(FORMATS)
    table = CommandTable([Verb("look", "ps", "", "qtctl.commands.ps")])
    assert list(table.rows) == ["ps"]
