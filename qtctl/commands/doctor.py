"""The verb doctor: find out what stops tracing."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, command
from qtctl.commands.status import lender_line
from qtctl.errors import QtctlError
from qtctl.model import EventState, Guest
from qtctl.monitor.advice import run_beside, start_with
from qtctl.monitor.answers import run_state_of
from qtctl.session.journals import leases_folder
from qtctl.session.session import Session
from qtctl.text.style import Style, counted, escaped
from qtctl.text.tables import panel
from qtctl.version import VERSION

if TYPE_CHECKING:
    from qtctl.backends.log.target import LogTarget
    from qtctl.session.facts import Backends


class Finding(NamedTuple):
    """One finding: ``level`` is ok, note or bad; ``mend`` is a command that helps, or empty."""

    level: str
    what: str
    mend: str = ""
    more: tuple[str, ...] = ()


@command(
    "doctor",
    examples=("qtctl doctor", "qtctl -t /run/vm.sock doctor", "qtctl doctor --json"),
    details="Exit code 1 if something is wrong.",
    guests="each",
)
async def doctor(context: Context, options: Options) -> Result:
    """Check this machine, then the guest."""
    machine, guest = [*_machine()], []
    try:
        async with context.attached() as session:
            guest += await _guest(session)
    except QtctlError as error:
        guest.append(Finding("bad", error.message, error.hint, error.more))
    findings = [*machine, *guest]
    bad = any(finding.level == "bad" for finding in findings)
    document = {"findings": [finding._asdict() for finding in findings]}
    parts = {"this machine": machine, "guest": guest}
    return Result(document, lambda style: _lines(style, parts), int(bad))


def _lines(style: Style, parts: Mapping[str, list[Finding]]) -> Iterator[str]:
    """Yield the findings, on a terminal in a panel for each part."""
    for title, findings in parts.items():
        lines = _finding_lines(style, findings)
        yield from panel(style, title, list(lines)) if style.terminal else lines


def _finding_lines(style: Style, findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        role = {"ok": "good", "note": "note", "bad": "bad"}[finding.level]
        yield f"{style.paint(finding.level.ljust(4), role)}  {escaped(finding.what)}"
        yield from (f"      {escaped(line)}" for line in finding.more)
        if finding.mend:
            yield f"      try: {escaped(finding.mend)}"


def _machine() -> Iterator[Finding]:
    yield Finding("ok", f"qtctl {VERSION}, Python {platform.python_version()}")
    yield _form_of_kernels()
    folder = leases_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK):
        yield Finding("ok", f"leases are kept in {folder}")
    else:
        yield Finding(
            "bad",
            f"leases cannot be kept: {existing} is not writable",
            "set XDG_STATE_HOME to a folder that can be written",
        )


def _form_of_kernels() -> Finding:
    """Return whether the kernels (see ``setup.py``) run compiled or interpreted."""
    package = Path(__file__).parents[1]
    names = [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in sorted(package.rglob("[!_]*.py"))
        if path.name == "kernel.py" or path.parent.name == "kernels"
    ]
    interpreted = [name for name in names if not importlib.import_module(name).COMPILED]
    if not interpreted:
        return Finding("ok", "decoding runs compiled")
    slow = "decoding runs as plain Python, about 100 times slower"
    if interpreted != names:
        slow += f", in {', '.join(interpreted)}"
    return Finding("note", slow, "install gcc and the Python headers, then reinstall qtctl")


async def _guest(session: Session) -> list[Finding]:
    version = ".".join(map(str, session.monitor.version))
    findings = [Finding("ok", f"{session.where} answers: QEMU {version}")]
    run_state = await session.monitor.ask("query-status", run_state_of)
    if run_state != "running":
        findings.append(Finding("note", f"the guest is {run_state}", "qtctl qmp cont"))
    lender = await session.monitor.lender()
    if lender:
        findings.append(Finding("ok", f"lent by {lender_line(lender)}"))
    backends = await session.backends()
    findings += _backend_findings(
        session.where, session.guest, backends, await session.log_target()
    )
    states = await session.all_states()
    findings.append(_declared(session, list(states)))
    enabled = sum(state == EventState.ENABLED for state in states.values())
    if enabled:
        mend = "qtctl restore" if await session.leasing.leases() else "qtctl list --state enabled"
        findings.append(Finding("note", f"{counted(enabled, 'event')} on", mend))
    return findings


def _backend_findings(
    where: str, guest: Guest | None, backends: Backends, target: LogTarget
) -> Iterator[Finding]:
    from qtctl.backends.log.target import LogReach
    from qtctl.backends.table import candidates

    names = ", ".join(backends.known) or "none that can be seen"
    try:
        candidates(backends.known, "auto", where)
    except QtctlError as error:
        yield Finding("bad", f"trace backends: {names}; {error.message}", error.hint)
        return
    yield Finding("ok", f"trace backends: {names}")
    if backends.undecided:
        yield Finding(
            "note",
            f"not known from here: {', '.join(backends.undecided)}",
            run_beside(guest),
        )
    if not target.certain:
        mend = "qtctl hmp 'logfile FILE', with a new file"
        yield Finding("note", f"the log goes to {target}; tail checks that", mend)
    elif target.reach is LogReach.FILE:
        yield Finding("ok", f"the log goes to {target}, and can be read there")
    elif target.reach in (LogReach.PER_THREAD, LogReach.UNKNOWN):
        tid = target.reach is LogReach.PER_THREAD
        mend = start_with(guest, "-D FILE, without -d tid") if tid else run_beside(guest)
        yield Finding("bad", f"the log goes {target}", mend)
    else:
        back = "to /dev/null" if target.undo == "/dev/null" else "back"
        yield Finding("ok", f"the log goes to {target}; tail points it at a spool, then {back}")


def _declared(session: Session, names: list[str]) -> Finding:
    path: Path | None = session.facts.declarations_path
    mend = "qtctl --events-all FILE, from the same build"
    if path is None:
        what = "no trace-events-all was found beside the guest's binary: arguments stay text"
        return Finding("bad", what, mend)
    declarations = session.facts.declarations
    missing = [name for name in names if name not in declarations.by_name]
    if missing:
        what = f"{path} is not of this build: {len(missing)} events of the guest are not in it"
    elif declarations.errors:
        what = f"{path} has {len(declarations.errors)} lines that could not be read"
    else:
        return Finding("ok", f"{len(names)} events, all declared in {path}")
    return Finding("bad", what, mend)
