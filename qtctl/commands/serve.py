"""The hidden verb serve: does the work here for the qtctl of another host; see ``session/link``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtctl.commands.context import Context, Result, error_object
from qtctl.commands.parsing import parse
from qtctl.commands.registry import COMMANDS, Options, command
from qtctl.commands.wire import IncomingCalls, Wire
from qtctl.errors import QtctlError, UsageError, unexpected
from qtctl.recordings.chunks import Chunk, ChunkKind
from qtctl.session.link import PROTOCOL
from qtctl.shapes import Malformed, any_text, elements, flag, member, whole
from qtctl.text.style import Style
from qtctl.version import VERSION


@command("serve", details="The qtctl of another host starts this one over ssh.")
async def serve(context: Context, options: Options) -> int:
    """Serve one call, until it is answered or the link ends."""
    del options
    wire = await Wire.open()
    wire.note("hello", qtctl=VERSION, protocol=PROTOCOL)
    calls = IncomingCalls(wire)
    try:
        await _answer(context, wire, calls, await calls.next())
    except QtctlError as error:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(error)))
    except Malformed as malformed:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(UsageError(f"senseless: {malformed}"))))
    except OSError as failure:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(unexpected(failure))))
    await wire.finish()
    return 0


async def _answer(context: Context, wire: Wire, calls: IncomingCalls, call: dict[str, Any]) -> None:
    """Run the verb of a call and send its result, or follow the guest of a call.

    Raises:
        Malformed: the call has another shape.
        QtctlError: what the verb raises.
    """
    from qtctl.commands.each import run_verb

    own = replace(
        context,
        target=any_text(member(call, "target"), "the target"),
        name=any_text(member(call, "name"), "the name"),
        choose=None,
        alone=False,
    )
    if call.get("type") == "attach":
        from qtctl.commands.serving import serve_guest

        await serve_guest(own, wire, calls)
        return
    words = [any_text(one, "a word") for one in elements(member(call, "words"), "the words")]
    try:
        row, options = parse(words, COMMANDS, VERSION)
    except SystemExit:
        raise UsageError("help is had without a target", hint="qtctl --help") from None
    options.targets = [own.target] if own.target is not None else []
    own.json, own.quiet, own.verbose = options.json, options.quiet, options.verbose
    width, colour, unicode = elements(member(call, "style"), "the style")
    own.out_style = Style(whole(width, "the width", 0), flag(colour, "colour"), flag(unicode, "it"))
    result = await run_verb(row, own, options)
    if not isinstance(result, Result):
        raise UsageError(f"{row.name} prints for itself, and cannot be run from another host")
    lines = [] if own.json else [*result.lines(own.out_style)]
    wire.note("result", document=result.document, lines=lines, exit_code=result.exit_code)
