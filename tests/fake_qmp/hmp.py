"""The human monitor: the few lines of it that matter to tracing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from .trace import QmpError

if TYPE_CHECKING:
    from .machine import Machine

_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_TRACE_FILE_HELP = (
    "trace-file on|off|flush|set [arg] -- open, close, or flush trace file, or set a new file name"
)
_HELP = {
    "help": "help|? [cmd] -- show the help",
    "log": "log item1[,...] -- activate logging of the specified items",
    "logfile": "logfile filename -- output logs to 'filename'",
    "trace-event": (
        "trace-event name on|off [vcpu] -- changes status of a specific trace event "
        "(vcpu: vCPU to set, default is all)"
    ),
    "trace-file": _TRACE_FILE_HELP,
    "stop": "stop  -- stop emulation",
    "cont": "cont  -- resume emulation",
}
_INFO_HELP = {
    "chardev": "info chardev  -- show the character devices",
    "cpus": "info cpus  -- show infos for each CPU",
    "kvm": "info kvm  -- show KVM information",
    "name": "info name  -- show the current VM name",
    "status": "info status  -- show the current VM status (running|paused)",
    "trace-events": (
        "info trace-events [name] [vcpu] -- show available trace-events & their state "
        "(name: event name pattern; vcpu: vCPU to query, default is any)"
    ),
    "uuid": "info uuid  -- show the current VM UUID",
    "version": "info version  -- show the version of QEMU",
}


class _ComplaintError(Exception):
    """What the monitor says instead of running a command."""


class _Words:
    """Takes a command line apart by the rules of QEMU's argument types."""

    def __init__(self, command: str, rest: str) -> None:
        self._command = command
        self._rest = rest.lstrip()

    def _complain(self, text: str) -> _ComplaintError:
        return _ComplaintError(f'{text}\r\nTry "help {self._command}" for more information\r\n')

    @property
    def _short(self) -> str:
        return self._command.split()[-1]

    def optional(self) -> str | None:
        """Take a word or a quoted string, if there is one."""
        return self.string("string expected") if self._rest else None

    def string(self, wanted: str) -> str:
        """Take a word or a quoted string."""
        word = ""
        if not self._rest.startswith('"'):
            word, _, self._rest = self._rest.partition(" ")
        else:
            at = 1
            while at < len(self._rest) and self._rest[at] != '"':
                char = self._rest[at]
                if char == "\\":
                    at += 1
                    char = _ESCAPES.get(self._rest[at : at + 1], "")
                    if not char:
                        raise self._complain(f"{self._short}: {wanted}")
                word += char
                at += 1
            if at >= len(self._rest):
                raise self._complain(f"{self._short}: {wanted}")
            self._rest = self._rest[at + 1 :]
            self._rest = self._rest.lstrip()
            return word
        self._rest = self._rest.lstrip()
        if not word:
            raise self._complain(f"{self._short}: {wanted}")
        return word

    def switch(self) -> bool:
        """Take ``on`` or ``off``."""
        word, _, self._rest = self._rest.partition(" ")
        self._rest = self._rest.lstrip()
        if word not in ("on", "off"):
            raise self._complain("Expected 'on' or 'off'")
        return word == "on"

    def number(self) -> int | None:
        """Take a whole number, if there is anything left."""
        if not self._rest:
            return None
        found = re.match(r"(?:0x[0-9a-fA-F]+|\d+)(?=\s|$)", self._rest)
        if found is None:
            raise self._complain(f"invalid char '{self._rest[0]}' in expression")
        self._rest = self._rest[found.end() :].lstrip()
        return int(found[0], 0)

    def end(self) -> None:
        """Insist that nothing is left."""
        if self._rest:
            raise self._complain(f"{self._short}: extraneous characters at the end of line")


class HumanMonitor:
    """Runs lines against a machine and returns text, errors included."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._commands: dict[str, Callable[[_Words], str]] = {
            "trace-event": self._trace_event,
            "log": self._log,
            "logfile": self._logfile,
            "stop": self._stop,
            "cont": self._cont,
        }
        if "simple" in machine.backends:
            self._commands["trace-file"] = self._trace_file

    def run(self, line: str) -> str:
        """Run one line."""
        command, _, rest = line.strip().partition(" ")
        if not command:
            return ""
        try:
            if command in ("help", "?"):
                return self._help(rest.split())
            if command == "info":
                return self._info(rest)
            if command not in self._commands:
                return f"unknown command: '{command}'\r\n"
            return self._commands[command](_Words(command, rest))
        except _ComplaintError as complaint:
            return str(complaint)
        except QmpError as error:
            return f"{error.words}\r\n"

    def _help(self, words: list[str]) -> str:
        if not words:
            known = [*self._commands, "help"]
            return "".join(f"{_HELP[name]}\r\n" for name in sorted(known))
        if words == ["log"]:
            return self._log_help()
        if words[0] == "info" and len(words) > 1:
            text = _INFO_HELP.get(words[1])
            return f"{text}\r\n" if text else f"unknown command: 'info {words[1]}'\r\n"
        if words[0] == "info":
            return self._info("")
        if words[0] in self._commands or words[0] == "help":
            return f"{_HELP[words[0]]}\r\n"
        return f"unknown command: '{words[0]}'\r\n"

    def _log_help(self) -> str:
        text = self._machine.transcript.hmp("help log")
        if "log" in self._machine.backends:
            return text
        return text.partition("trace:PATTERN")[0]

    def _log_items(self) -> set[str]:
        rows = (re.match(r"(\w+) *", line) for line in self._log_help().split("\r\n"))
        return {row[1] for row in rows if row and row.end() == 16} | {"all"}

    def _info(self, rest: str) -> str:
        topic, _, rest = rest.strip().partition(" ")
        if not topic:
            return "".join(f"{text}\r\n" for text in _INFO_HELP.values())
        if topic not in _INFO_HELP:
            return f"unknown command: 'info {topic}'\r\n"
        words = _Words(f"info {topic}", rest)
        if topic == "trace-events":
            return self._info_trace_events(words)
        words.end()
        text = self._machine.info(topic)
        return f"{text}\r\n" if text else ""

    def _info_trace_events(self, words: _Words) -> str:
        name = words.optional()
        cpu = words.number()
        words.end()
        trace = self._machine.trace
        found = trace.get("*" if name is None else name, cpu=cpu if trace.vcpu else None)
        return "".join(f"{event.name} : state {int(event.enabled)}\r\n" for event in found)

    def _trace_event(self, words: _Words) -> str:
        name = words.string("string expected")
        enable = words.switch()
        cpu = words.number()
        words.end()
        trace = self._machine.trace
        trace.set(name, enable=enable, ignore_unavailable=True, cpu=cpu if trace.vcpu else None)
        return ""

    def _log(self, words: _Words) -> str:
        items = words.string("string expected")
        words.end()
        known = self._log_items()
        said = ""
        for item in [] if items == "none" else items.split(","):
            kind, _, pattern = item.partition(":")
            if kind == "trace" and pattern and "log" in self._machine.backends:
                said += self._enable(pattern)
            elif item not in known:
                return said + self._log_help()
        try:
            self._machine.log.reopen()
        except QmpError as error:
            said += f"{error.words}\r\n"
        return said

    def _enable(self, pattern: str) -> str:
        enable = not pattern.startswith("-")
        name = pattern.removeprefix("-")
        try:
            self._machine.trace.set(name, enable=enable, ignore_unavailable=True)
        except QmpError:
            return f"warning: trace event '{name}' does not exist\r\n"
        return ""

    def _logfile(self, words: _Words) -> str:
        name = words.string("filename expected")
        words.end()
        self._machine.log.set(name)
        return ""

    def _stop(self, words: _Words) -> str:
        words.end()
        self._machine.stop()
        return ""

    def _cont(self, words: _Words) -> str:
        words.end()
        self._machine.cont()
        return ""

    def _trace_file(self, words: _Words) -> str:
        operation = words.optional()
        path = words.optional()
        words.end()
        file = self._machine.simple
        if operation is None:
            return file.status()
        if operation == "on":
            file.enable()
        elif operation == "off":
            file.disable()
        elif operation == "set":
            if path is not None:
                file.set(path)
        elif operation != "flush":
            return f'unexpected argument "{operation}"\r\n{_TRACE_FILE_HELP}\r\n'
        return ""
