"""The command line: runs one verb, with signals and errors handled."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from qtctl.commands.parsing import parse
from qtctl.commands.registry import COMMANDS, Command, Options
from qtctl.config import settings, use_file
from qtctl.errors import NotChosen, QtctlError, unexpected
from qtctl.version import VERSION

if TYPE_CHECKING:
    import asyncio

    from qtctl.commands.context import Context
    from qtctl.text.theme import Theme

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one qtctl command and return its exit code; report errors on stderr."""
    _prepare_outputs()
    use_file()
    # The garbage collector would scan all imported objects several times, and again at exit: a
    # sixth of the time that a control verb takes.
    gc.disable()
    atexit.register(gc.freeze)
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        gc.enable()


def _main(words: list[str]) -> int:
    try:
        row, options = parse(words, COMMANDS, VERSION, alone=_default_verb())
        colours = _configured_colours()
    except QtctlError as error:
        return _fail(error, words)
    except SystemExit as done:
        return int(done.code or 0)
    # Imported late: --help and --version need neither.
    import asyncio

    from qtctl.commands.context import Context
    from qtctl.text.style import style_for

    context = Context(
        target=next(iter(options.targets), None),
        events_all=options.events_all,
        json=options.json,
        ndjson=getattr(options, "ndjson", False),
        quiet=options.quiet,
        verbose=options.verbose,
        out_style=style_for(sys.stdout, options.color, os.environ, colours),
        err_style=style_for(sys.stderr, options.color, os.environ, colours),
        choose=_choose,
    )
    gc.freeze()
    gc.enable()
    try:
        return asyncio.run(_run(row, options, context))
    except QtctlError as error:
        return context.fail(error)
    except BrokenPipeError:
        _abandon(sys.stdout)  # its reader left: end quietly
        return 0
    except OSError as error:
        _abandon(sys.stdout)
        return context.fail(unexpected(error))
    except Exception as error:
        if options.verbose:
            raise
        return context.fail(unexpected(error))


async def _choose(context: Context) -> str | None:
    """Let the user choose one of several guests; return None where nobody can be asked.

    Raises:
        NotChosen: the user left the list.
    """
    from qtctl.commands.keys import in_foreground
    from qtctl.ui.top import has_a_screen

    asks = has_a_screen(context) and in_foreground(sys.stdin.fileno())
    if context.json or context.ndjson or not asks:
        return None
    from qtctl.ui.picker import pick_guest

    if (target := await pick_guest(context.out_style)) is None:
        raise NotChosen("several guests run, and none was chosen", hint="qtctl -t PID")
    return target


def _configured_colours() -> Theme | None:
    """Return the colours of the user's configuration; None where it has none."""
    found = settings()
    if not found.tables["colors"]:
        return None
    from qtctl.text.theme import configured_theme

    return configured_theme(found, os.environ)


def _fail(error: QtctlError, words: list[str]) -> int:
    """Print an error in the command line itself; return its exit code."""
    from qtctl.commands.context import Context
    from qtctl.text.style import style_for

    style = style_for(sys.stderr, "auto", os.environ)
    return Context(err_style=style, json=not {"--json", "--ndjson"}.isdisjoint(words)).fail(error)


async def _run(row: Command, options: Options, context: Context) -> int:
    """Run a verb; the first signal stops it, a third one ends the process at once."""
    import asyncio

    from qtctl.commands.each import run_verb

    task = asyncio.ensure_future(run_verb(row, context, options))
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if number == signal.SIGINT and context.interrupt is not None:
            context.interrupt()
            return
        caught.append(number)
        if len(caught) == 2:
            context.complain("restoring the guest; interrupt again to leave that to the next run")
        elif len(caught) > 2:
            os._exit(128 + number)
        elif context.stops:
            context.stop.set()
        else:
            task.cancel()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_loop_error)
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        result = await task
    except asyncio.CancelledError:
        if not caught:
            raise
        return 128 + caught[0]
    code = result if isinstance(result, int) else context.show(result)
    return 128 + caught[0] if caught and code == 0 else code


def _default_verb() -> str:
    """Return the verb of a call that names none: the prompt on a terminal, else none."""
    return "repl" if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty() else ""


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore a broken link that qemu.qmp (0.0.6) reports to the loop where a task was cancelled.

    The command that used the link has reported it.
    """
    if not isinstance(context.get("exception"), EOFError | ConnectionError):
        loop.default_exception_handler(context)


def _abandon(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _flush_stderr() -> None:
    """Flush stderr, or drop what it does not accept: the interpreter would exit with code 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            _abandon(sys.stderr)


def _prepare_outputs() -> None:
    """Make stdout and stderr usable, also where the caller closed them, in any locale."""
    atexit.register(_flush_stderr)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
            setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
