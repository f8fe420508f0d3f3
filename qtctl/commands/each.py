"""Running a verb on several guests at once: each as if it were the only one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from qtctl.commands.context import Context, Result, error_object
from qtctl.commands.registry import Command, Options
from qtctl.errors import QtctlError, UsageError, unexpected
from qtctl.session.attach import other_host
from qtctl.session.targets import Chosen, awaited, chosen_guests, several
from qtctl.text.style import Style


async def run_verb(row: Command, context: Context, options: Options) -> Result | int:
    """Run a verb on the guests that the call names: one, or several.

    Raises:
        UsageError: it names several, and the verb is for one; and what the verb raises.
    """
    context.waits = getattr(options, "waits", False)
    targets = awaited(options.targets) if context.waits else several(options.targets)
    if not targets:
        return await _on_one(row, context, options)
    if not row.guests:
        hint = f"qtctl -t {targets[0]} {row.name}" if len(targets) > 1 else "qtctl ps"
        raise UsageError(f"{row.name} is for one guest", hint=hint)
    guests = await asyncio.to_thread(chosen_guests, targets)
    if row.guests == "each":
        return await _on_each(row, context, options, guests)
    context.several = guests
    return await _together(row, context, options)


async def _together(row: Command, context: Context, options: Options) -> Result | int:
    """Run a verb that follows several guests; its exit code is that of the first that failed."""
    try:
        result = await row.run(context, options)
    except QtctlError as error:
        _report_rest(context, error)
        raise
    _report_rest(context)
    places = {guest: place for place, guest in enumerate(context.several)}
    failures = sorted(context.failures, key=lambda one: places[one.guest])
    code = failures[0].error.exit_code if failures else 0
    if isinstance(result, Result):
        return result._replace(exit_code=result.exit_code or code)
    return result or code


def _report_rest(context: Context, but: QtctlError | None = None) -> None:
    """Print the errors of guests that were not printed yet."""
    for one in context.failures:
        if not one.printed and one.error is not but:
            context.for_guest(one.guest.target, one.guest.name).report(one.error)


async def _on_one(row: Command, context: Context, options: Options) -> Result | int:
    """Run a verb on one guest; a one-shot verb on the host of the guest."""
    host = other_host(context.target) if row.guests == "each" else None
    if host is None:
        return await row.run(context, options)
    from qtctl.commands.there import run_there

    return await run_there(context, options, host)


async def _on_each(
    row: Command, context: Context, options: Options, guests: Sequence[Chosen]
) -> Result:
    """Run a verb on guests at once; where it fails on one, that is reported, and others go on."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_on(row, context, options, one)) for one in guests]
    found = [(guest.name, task.result()) for guest, task in zip(guests, running, strict=True)]
    failed = [result.exit_code for _, result in found if result.exit_code]
    return Result(
        {"guests": [_member(name, result.document) for name, result in found]},
        lambda style: _lines(style, found),
        failed[0] if failed else 0,
    )


async def _on(row: Command, context: Context, options: Options, guest: Chosen) -> Result:
    own = context.for_guest(guest.target, guest.name)
    try:
        result = await _on_one(row, own, options)
    except Exception as problem:
        if options.verbose and not isinstance(problem, QtctlError | OSError):
            raise
        error = problem if isinstance(problem, QtctlError) else unexpected(problem)
        own.report(error)
        return Result(error_object(error), lambda style: (), error.exit_code)
    assert isinstance(result, Result), f"{row.name} prints for itself"
    return result


def _member(name: str, document: Any) -> dict[str, Any]:
    found = document if isinstance(document, dict) else {"value": document}
    return {"guest": name, **found}


def _lines(style: Style, found: Sequence[tuple[str, Result]]) -> Iterator[str]:
    """Yield the lines of each guest below its name; equal ones once, below all names."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, result in found:
        if lines := tuple(result.lines(style)):
            alike.setdefault(lines, []).append(name)
    for lines, names in alike.items():
        yield style.paint(f"{', '.join(names)}:", "note")
        yield from lines
