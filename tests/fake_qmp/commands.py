"""QMP commands: parameter rules and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .hmp import HumanMonitor
from .machine import UUID, Machine
from .trace import QmpError

Arguments = dict[str, Any]
_TYPES: dict[str, type] = {"string": str, "boolean": bool, "integer": int, "array": list}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter a command takes, in the order in which QEMU looks at them."""

    name: str
    kind: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    run: Callable[[Arguments], Any]
    parameters: tuple[Parameter, ...] = ()

    def check(self, arguments: Arguments) -> None:
        """Complain as QEMU's input visitor does: missing and wrong ones first."""
        for parameter in self.parameters:
            if parameter.name not in arguments:
                if parameter.optional:
                    continue
                raise QmpError(f"Parameter '{parameter.name}' is missing")
            value = arguments[parameter.name]
            right = isinstance(value, _TYPES[parameter.kind])
            if not right or (isinstance(value, bool) and parameter.kind == "integer"):
                raise QmpError(
                    f"Invalid parameter type for '{parameter.name}', expected: {parameter.kind}"
                )
        known = {parameter.name for parameter in self.parameters}
        for name in arguments:
            if name not in known:
                raise QmpError(f"Parameter '{name}' is unexpected")


class Commands:
    """Every command the fake answers."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._hmp = HumanMonitor(machine)
        self._known = machine.commands
        vcpu = (Parameter("vcpu", "integer", optional=True),) if machine.series.vcpu else ()
        name = Parameter("name", "string")
        self._table = {
            "query-version": Command(lambda _: machine.version),
            "query-name": Command(lambda _: {} if machine.name is None else {"name": machine.name}),
            "query-status": Command(lambda _: machine.status()),
            "query-uuid": Command(lambda _: {"UUID": UUID}),
            "query-kvm": Command(lambda _: machine.transcript.returned("query-kvm")),
            "query-cpus-fast": Command(lambda _: machine.cpus()),
            "query-chardev": Command(lambda _: machine.chardevs()),
            "query-target": Command(lambda _: {"arch": "x86_64"}),
            "query-iothreads": Command(lambda _: []),
            "query-commands": Command(lambda _: machine.transcript.returned("query-commands")),
            "query-command-line-options": Command(
                self._options, (Parameter("option", "string", optional=True),)
            ),
            "qom-list": Command(self._qom_list, (Parameter("path", "string"),)),
            "qom-get": Command(
                self._qom_get, (Parameter("path", "string"), Parameter("property", "string"))
            ),
            "stop": Command(self._stop),
            "cont": Command(self._cont),
            "system_reset": Command(self._reset),
            "quit": Command(self._quit),
            "human-monitor-command": Command(
                self._human,
                (
                    Parameter("command-line", "string"),
                    Parameter("cpu-index", "integer", optional=True),
                ),
            ),
            "trace-event-get-state": Command(self._get_state, (name, *vcpu)),
            "trace-event-set-state": Command(
                self._set_state,
                (
                    name,
                    Parameter("enable", "boolean"),
                    Parameter("ignore-unavailable", "boolean", optional=True),
                    *vcpu,
                ),
            ),
        }

    def add(self, name: str, command: Command) -> None:
        """Teach the fake one more command."""
        self._table[name] = command

    def _insist(self, name: str) -> None:
        if name not in self._known and name not in self._table:
            raise QmpError(f"The command {name} has not been found", "CommandNotFound")

    def refuse_oob(self, name: str) -> None:
        """Refuse to run a command out of band, as QEMU does with all of these."""
        self._insist(name)
        raise QmpError(f"The command {name} does not support OOB")

    def run(self, name: str, arguments: Arguments) -> Any:
        """Run a command and return its result, or raise what QEMU would answer."""
        self._insist(name)
        if name not in self._table:
            raise QmpError(f"the fake does not do {name}")
        command = self._table[name]
        command.check(arguments)
        return command.run(arguments)

    def _options(self, arguments: Arguments) -> Any:
        transcript = self._machine.transcript
        wanted = [arguments["option"]] if "option" in arguments else ["trace", "msg"]
        found: list[Any] = []
        for option in wanted:
            try:
                found += transcript.returned("query-command-line-options", option=option)
            except LookupError:
                raise QmpError(f"invalid option name: {option}") from None
        return found

    def _qom_list(self, arguments: Arguments) -> Any:
        if arguments["path"] != "/":
            raise QmpError(f"Device '{arguments['path']}' not found", "DeviceNotFound")
        machine = self._machine.series.machine
        kinds = {"machine": f"child<{machine}>"}
        return [{"name": "type", "type": "string"}] + [
            {"name": name, "type": kinds.get(name, "child<container>")}
            for name in self._machine.series.root_objects
        ]

    def _qom_get(self, arguments: Arguments) -> Any:
        path, wanted = arguments["path"], arguments["property"]
        machine = self._machine.series.machine
        if path != "/machine":
            raise QmpError(f"Device '{path}' not found", "DeviceNotFound")
        if wanted != "type":
            raise QmpError(f"Property '{machine}.{wanted}' not found")
        return machine

    def _stop(self, arguments: Arguments) -> Any:
        self._machine.stop()
        return {}

    def _cont(self, arguments: Arguments) -> Any:
        self._machine.cont()
        return {}

    def _reset(self, arguments: Arguments) -> Any:
        self._machine.on_event("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        return {}

    def _quit(self, arguments: Arguments) -> Any:
        self._machine.on_event("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
        return {}

    def _human(self, arguments: Arguments) -> Any:
        if arguments.get("cpu-index", 0) != 0:
            raise QmpError("Parameter 'cpu-index' expects a CPU number")
        return self._hmp.run(arguments["command-line"])

    def _get_state(self, arguments: Arguments) -> Any:
        rows = []
        for event in self._machine.trace.get(arguments["name"], cpu=arguments.get("vcpu")):
            vcpu = {"vcpu": event.vcpu} if self._machine.series.vcpu else {}
            rows.append({"name": event.name, **vcpu, "state": event.state})
        return rows

    def _set_state(self, arguments: Arguments) -> Any:
        self._machine.trace.set(
            arguments["name"],
            enable=arguments["enable"],
            ignore_unavailable=arguments.get("ignore-unavailable", False),
            cpu=arguments.get("vcpu"),
        )
        return {}
