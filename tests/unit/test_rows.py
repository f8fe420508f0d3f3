"""A verb is one module and one row, and so is an export format: shown by adding one of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from qtctl.commands.registry import COMMANDS, CommandTable
from qtctl.verbs import VERBS, Verb
from qtctl.writers.table import FORMATS
from tests.samples import capture

VERB = '''
from qtctl.commands.registry import arg, command
from qtctl.commands.result import Result


@command("shout", arguments=(arg("word", metavar="WORD"),), examples=("qtctl shout x",))
async def shout(context, options):
    """Print a word in capitals."""
    text = options.word.upper()
    return Result({"text": text}, lambda style: [text])
'''
FORMAT = '''
from qtctl.records.batch import Batch


def open_lines(source):
    """Return what prints how many records each item holds."""
    return Counting()


class Counting:
    def lines(self, item, records):
        yield f"{min(records, len(item))} records" if isinstance(item, Batch) else "note"

    def ended(self, counts):
        yield f"{counts.shown} in all"
'''
MAIN = """
import sys
sys.path.insert(0, {folder!r})
from qtctl import verbs
from qtctl.writers import table
verbs.VERBS += (verbs.Verb("shout", "print a word in capitals", "shout_verb"),)
table.FORMATS["counting"] = table.Format("counting", "how many", "counting_format", "lines")
from qtctl.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(folder: Path, *words: str) -> str:
    (folder / "shout_verb.py").write_text(VERB)
    (folder / "counting_format.py").write_text(FORMAT)
    call = [sys.executable, "-c", MAIN.format(folder=str(folder)), *words]
    ran = subprocess.run(call, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_verb_is_a_module_and_a_row(tmp_path: Path) -> None:
    assert run(tmp_path, "shout", "hello") == "HELLO\n"
    assert run(tmp_path, "shout", "hello", "--json") == '{"text": "HELLO"}\n'
    assert "print a word in capitals" in run(tmp_path, "--help")
    assert "qtctl shout x" in run(tmp_path, "shout", "--help")
    assert "shout\tprint a word" in run(tmp_path, "completion", "zsh", "qtctl", "sho")


def test_an_export_format_is_a_module_and_a_row(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace-1")
    Path(trace).write_bytes(capture("qemu-10.2-simple-v4.bin"))
    *batches, last = run(tmp_path, "export", "--to", "counting", trace).splitlines()
    records = sum(int(line.split()[0]) for line in batches if line != "note")
    assert last == f"{records} in all"
    assert records > 0
    assert "counting: how many" in " ".join(run(tmp_path, "export", "--help").split())
    assert "counting" in run(tmp_path, "completion", "zsh", "qtctl", "export", "--to", "cou")


def test_each_verb_and_format_has_a_module_of_its_own() -> None:
    modules = [verb.module for verb in VERBS if verb.name != "disable"]
    assert sorted(set(modules)) == sorted(modules)
    for verb in VERBS:
        assert COMMANDS.rows[verb.name].run.__module__ == verb.module
    assert len({row.module for row in FORMATS.values()}) == len(FORMATS)
    table = CommandTable([Verb("ps", "", "qtctl.commands.ps")])
    assert list(table.rows) == ["ps"]
