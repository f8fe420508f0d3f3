"""Parses a QEMU command line for its monitors, name and output files; no I/O.

Sources: ``system/vl.c`` (``lookup_opt``), ``monitor/monitor.c``, ``chardev/char.c`` and
``qemu-options.hx``; checked on QEMU 7.2, 10.0 and 11.1. None of them accepts JSON for ``-chardev``,
``-mon`` or ``-name``; it is parsed here nevertheless where it names a socket.
``-object monitor-qmp,chardev=ID`` is new in 11.1, as text or JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from qtctl.errors import UsageError
from qtctl.model import Address
from qtctl.monitor.address import OTHER_FRAMING, abstract_path, is_on, split_options, unix_address


class QemuOptions(NamedTuple):
    """The options of a QEMU command line that qtctl uses; paths are as the guest spelled them.

    ``addresses`` are those where QEMU serves QMP without telnet, WebSocket or TLS, in order; a
    wildcard host is given as the loopback address. ``descriptors`` are listening QMP sockets that
    QEMU inherited (``fd=N``, as libvirt starts it). ``log_file`` is ``-D``, ``log_items`` the items
    of the last ``-d``, ``config_files`` are ``-readconfig``, which may name further monitors.
    ``human_monitors`` are the paths of sockets where QEMU serves its human monitor. ``stamps_log``:
    the log has times of QEMU's own (``-msg timestamp=on``).
    """

    addresses: tuple[Address, ...] = ()
    descriptors: tuple[int, ...] = ()
    name: str | None = None
    log_file: str | None = None
    log_items: tuple[str, ...] = ()
    trace_file: str | None = None
    daemonize: bool = False
    data_dirs: tuple[str, ...] = ()
    chroot: str | None = None
    config_files: tuple[str, ...] = ()
    human_monitors: tuple[str, ...] = ()
    stamps_log: bool = False


_Pairs = dict[str, str]


class _Reader:
    """Collects options from left to right; :func:`_options` joins monitors with their chardevs."""

    def __init__(self) -> None:
        self.chardevs: dict[str, _Pairs] = {}
        self.monitors: list[str | _Pairs] = []
        self.human: list[str | _Pairs] = []
        self.values: dict[str, str] = {}
        self.data_dirs: list[str] = []
        self.config_files: list[str] = []

    def chardev(self, value: str) -> None:
        pairs = _pairs(value, "backend")
        if "id" in pairs:
            self.chardevs[pairs["id"]] = pairs

    def mon(self, value: str) -> None:
        pairs = _pairs(value, "chardev")
        if "chardev" in pairs:
            kinds = {"control": self.monitors, "readline": self.human}
            kinds.get(pairs.get("mode", "readline"), []).append(pairs["chardev"])

    def object(self, value: str) -> None:
        pairs = _pairs(value, "qom-type")
        if pairs.get("qom-type") == "monitor-qmp" and "chardev" in pairs:
            self.monitors.append(pairs["chardev"])

    def qmp(self, value: str) -> None:
        self.monitors += _legacy(value)

    def monitor(self, value: str) -> None:
        self.human += _legacy(value)


def parse_cmdline(argv: Sequence[str]) -> QemuOptions:
    """Parse a QEMU command line; ``argv[0]`` is the program. Never raises.

    An option may start with one dash or two. As in QEMU the last ``-D``, ``-d``, ``-trace file=``
    and ``-name`` apply. A QMP socket is listed only where QEMU is the server.
    """
    reader = _Reader()
    handlers: dict[str, Callable[[str], None]] = {
        "chardev": reader.chardev,
        "mon": reader.mon,
        "object": reader.object,
        "qmp": reader.qmp,
        "qmp-pretty": reader.qmp,
        "monitor": reader.monitor,
        "L": reader.data_dirs.append,
        "readconfig": reader.config_files.append,
    }
    words = iter(argv[1:])
    for word in words:
        option = word.removeprefix("-").removeprefix("-") if word.startswith("-") else ""
        if option == "daemonize":
            reader.values[option] = "on"
        elif option in handlers:
            handlers[option](next(words, ""))
        elif option in _PLAIN:
            reader.values[option] = next(words, "")
        elif option in _SUBOPTIONS:
            implied, key = _SUBOPTIONS[option]
            pairs = dict(split_options(next(words, ""), implied))
            reader.values |= {key: pairs[key]} if key in pairs else {}
        elif option in _FREE_TEXT:
            next(words, None)
    return _options(reader)


_PLAIN = ("D", "d", "chroot")
# Options of which one key is used: the key that QEMU implies for a bare value, and the key used.
_SUBOPTIONS = {
    "name": ("guest", "guest"),
    "trace": ("enable", "file"),
    "run-with": ("", "chroot"),
    "msg": ("", "timestamp"),
}
# Options whose value may be any text, even one that looks like an option.
_FREE_TEXT = frozenset(
    ("append", "kernel", "initrd", "fw_cfg", "smbios", "serial", "pidfile", "runas")
)


def _options(reader: _Reader) -> QemuOptions:
    addresses: list[Address] = []
    descriptors: list[int] = []
    for monitor in reader.monitors:
        pairs = reader.chardevs.get(monitor) if isinstance(monitor, str) else monitor
        if pairs is None or not _serves_plainly(pairs):
            continue
        descriptor = pairs.get("fd", "")
        if descriptor.isascii() and descriptor.isdigit() and len(descriptor) < 8:
            descriptors.append(int(descriptor))
        elif (address := _address(pairs)) is not None:
            addresses.append(address)
    values = reader.values
    return QemuOptions(
        addresses=tuple(dict.fromkeys(addresses)),
        descriptors=tuple(dict.fromkeys(descriptors)),
        name=values.get("guest"),
        log_file=values.get("D"),
        log_items=tuple(item for item in values.get("d", "").split(",") if item),
        trace_file=values.get("file"),
        daemonize="daemonize" in values,
        data_dirs=tuple(reader.data_dirs),
        chroot=values.get("chroot"),
        config_files=tuple(reader.config_files),
        human_monitors=tuple(dict.fromkeys(_human_paths(reader))),
        stamps_log=is_on(values.get("timestamp")),
    )


def _legacy(value: str) -> Iterator[str | _Pairs]:
    """Yield the chardev of a ``-qmp`` or ``-monitor``: its id, or its options."""
    scheme, _, rest = value.partition(":")
    if scheme == "chardev":
        yield rest
    elif scheme == "unix":
        yield {"backend": "socket"} | dict(split_options(rest, "path"))
    elif scheme == "tcp":
        place, _, options = rest.partition(",")
        host, _, port = place.partition(":")
        yield {"backend": "socket", "host": host, "port": port} | dict(split_options(options))


def _human_paths(reader: _Reader) -> Iterator[str]:
    for monitor in reader.human:
        pairs = reader.chardevs.get(monitor) if isinstance(monitor, str) else monitor
        if pairs is not None and _serves_plainly(pairs) and not is_on(pairs.get("abstract")):
            yield from [pairs["path"]] if "path" in pairs else []


def _serves_plainly(pairs: _Pairs) -> bool:
    """Return whether a plain client can connect: no telnet, WebSocket or TLS."""
    framed = "tls-creds" in pairs or any(is_on(pairs.get(key)) for key in OTHER_FRAMING)
    return pairs.get("backend", "socket") == "socket" and is_on(pairs.get("server")) and not framed


def _address(pairs: _Pairs) -> Address | None:
    if "path" in pairs:
        try:
            if is_on(pairs.get("abstract")):
                tight = pairs.get("tight") not in ("off", "no", "false", "n")
                return unix_address(abstract_path(pairs["path"], tight=tight))
            return unix_address(pairs["path"])
        except (UsageError, UnicodeEncodeError):
            return None  # QEMU refuses such a path too
    port = pairs.get("port", "")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or not 0 < int(port) < 65536:
        return None
    host = pairs.get("host", "")
    loopback = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound
    return Address(host=loopback.get(host, host), port=int(port))


def _pairs(value: str, implied: str) -> _Pairs:
    """Parse ``key=value,...`` or a JSON object, whose innermost scalars become the values."""
    if not value.startswith("{"):
        return dict(split_options(value, implied))
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    pairs: _Pairs = {"server": "on"}  # the default of QAPI's ChardevSocket
    _flatten(document, pairs, depth=0)
    return pairs


def _flatten(document: object, pairs: _Pairs, depth: int) -> None:
    if not isinstance(document, dict) or depth > 8:
        return
    for key, value in document.items():
        if isinstance(value, bool):
            pairs[key] = "on" if value else "off"
        elif isinstance(value, str | int) and key not in ("type", "driver"):
            pairs["fd" if key == "str" else key] = str(value)
        elif isinstance(value, dict):
            _flatten(value, pairs, depth + 1)
