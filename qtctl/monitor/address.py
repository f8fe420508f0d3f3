"""Parses a TARGET of the command line; reads nothing but the current directory.

Sources: ``qemu_chr_parse_compat`` in ``chardev/char.c`` and ``util/qemu-option.c`` for pasted QEMU
strings, unix(7) for the length of a path. Checked against QEMU 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

import os
import re
import socket
import stat

from qtctl.errors import UsageError
from qtctl.model import Address

SUN_PATH_SIZE = 108
"""Size of ``sun_path`` in bytes (unix(7)); with ``tight=off`` QEMU pads an abstract name to it."""

UNIX_PATH_MAX = SUN_PATH_SIZE - 1
"""Longest path of a Unix socket, in bytes, without its final NUL."""

PID_MAX = 4194304
"""``PID_MAX_LIMIT`` of a 64-bit Linux (proc(5), ``/proc/sys/kernel/pid_max``)."""

_FORMS = "a socket path, HOST:PORT, a pid, a guest's name or libvirt:DOMAIN"
_ON = frozenset(("on", "yes", "true", "y"))
OTHER_FRAMING = ("telnet", "tn3270", "websocket")
_SOCKET_OPTION_NAMES = (
    "abstract append backend delay fd host id ipv4 ipv6 keep-alive localaddr localport "
    "logappend logfile mptcp mux path port reconnect reconnect-ms server telnet tight "
    "tls-authz tls-creds tn3270 to wait websocket"
)
_SOCKET_OPTIONS = frozenset(_SOCKET_OPTION_NAMES.split())
_OPTION = re.compile(r"(?!\Z)([^=,]*)(=(?:[^,]|,,)*)?,?")


def parse_target(text: str) -> Address | int | str:
    """Parse a TARGET: an address, a pid, or a guest's name, which may be ``libvirt:DOMAIN``.

    Only digits: a pid. Text with a ``/``, ending in ``.sock``, or naming a socket of the current
    directory is a path of a Unix socket. A ``,`` that starts no QEMU option belongs to the path.
    An abstract socket (``unix:NAME,abstract=on``) has a path that starts with NUL, as in Python's
    ``socket``. Text of no other form is a name, so names may hold colons and spaces.

    Raises:
        UsageError: the text is empty, a port or pid is out of range, a path is too long for a Unix
            socket, or it needs a framing or transport that QMP clients do not speak.
    """
    if not text.strip():
        raise UsageError("the target is empty", hint=_FORMS)
    _check_encodable(text)
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("telnet", "tn3270", "websocket", "ws", "wss", "http", "https"):
        raise UsageError(f"{shown(text)}: a monitor on {scheme} is not plain QMP", hint=_FORMS)
    if colon and scheme == "ssh":
        raise UsageError(f"{shown(text)} is on another host; a guest of this one is needed here")
    if colon and scheme == "unix":
        return _unix(rest, text)
    if colon and scheme == "tcp":
        address = _host_port(rest.partition(",")[0])
        if address is None:
            raise UsageError(f"{shown(text)} is not tcp:HOST:PORT", hint="tcp:127.0.0.1:4444")
        return address
    if colon and scheme == "libvirt" and rest.strip():
        return text  # a domain's name may be like a port
    if text.isascii() and text.isdigit():
        return _number(text, PID_MAX, "pid", text)
    if "/" in text or text.endswith(".sock") or is_socket(text):
        return unix_address(text)
    return _host_port(text) or text


def unix_address(path: str) -> Address:
    """Return the address of a Unix socket; a leading NUL makes it an abstract name.

    Raises:
        UsageError: the path is empty, holds a NUL elsewhere, or is longer than ``UNIX_PATH_MAX``.
    """
    _check_encodable(path)
    size = len(os.fsencode(path))
    if not path:
        raise UsageError("the socket path is empty", hint=_FORMS)
    if path.startswith("\0"):
        if size > SUN_PATH_SIZE:
            raise UsageError(f"the abstract socket name has {size} bytes, more than 108")
    elif size > UNIX_PATH_MAX:
        raise UsageError(
            f"{shown(path)}: the path has {size} bytes, a Unix socket's holds at most "
            f"{UNIX_PATH_MAX}",
            hint="a shorter path to it: a symbolic link, or a relative path from its directory",
        )
    return Address(path=path)


def split_options(text: str, implied: str = "") -> list[tuple[str, str]]:
    """Split ``key=value,flag,noflag`` as QEMU's ``opts_do_parse`` does.

    ``,,`` in a value is one comma. A first part without ``=`` is the value of ``implied``; a later
    one is ``on``, or ``off`` with its leading ``no`` removed. Any text gives a result.
    """
    if implied and text and "=" not in text.partition(",")[0]:
        text = f"{implied}={text}"
    pairs: list[tuple[str, str]] = []
    for key, value in _OPTION.findall(text):
        if value:
            pairs.append((key, value[1:].replace(",,", ",")))
        else:
            pairs.append((key[2:], "off") if key.startswith("no") else (key, "on"))
    return pairs


def is_on(value: str | None) -> bool:
    """Return whether QEMU reads an option's value as true (``qapi_bool_parse``)."""
    return value in _ON


def abstract_path(name: str, *, tight: bool) -> str:
    """Return an abstract socket's path: NUL, the name, and NULs as padding unless ``tight``."""
    path = "\0" + name
    return path if tight else path + "\0" * (SUN_PATH_SIZE - len(os.fsencode(path)))


def is_ip(host: str, family: int) -> bool:
    """Return whether a host is spelled as an address of a family, such as ``AF_INET6``."""
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def shown(text: str) -> str:
    """Return ``text`` quoted for a message, with unprintable characters escaped."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"'{plain}'"


def _unix(rest: str, text: str) -> Address:
    if rest.startswith("\0"):
        return unix_address(rest)
    options = dict(split_options(rest, "path"))
    if "path" not in options or options.keys() - _SOCKET_OPTIONS:
        return unix_address(rest)
    for key in (*OTHER_FRAMING, "tls-creds"):
        if key in options and options[key] != "off":
            raise UsageError(f"{shown(text)}: a monitor with {key} is not plain QMP")
    if is_on(options.get("abstract")):
        return unix_address(abstract_path(options["path"], tight=options.get("tight") != "off"))
    return unix_address(options["path"])


def _host_port(text: str) -> Address | None:
    """Parse ``HOST:PORT`` or ``[IPV6]:PORT``; None for text of another form."""
    bracketed = re.fullmatch(r"\[([^\]]*:[^\]]*)\](?::(.*))?", text, re.DOTALL)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        if not is_ip(host, socket.AF_INET6):
            raise UsageError(f"{shown(text)}: {shown(host)} is not an IPv6 address")
        return Address(host=host, port=_port(port or "", text))
    host, colon, port = text.rpartition(":")
    if ":" in host and any(is_ip(one, socket.AF_INET6) for one in (text, host)):
        meant = shown(f"[{host or '::1'}]:{port or 4444}")[1:-1]
        raise UsageError(f"{shown(text)} is ambiguous", hint=meant)
    if not colon or not re.fullmatch(r"[\w.-]*", host, re.ASCII):
        return None
    if port and not (port.isascii() and port.isdigit()):
        return None
    return Address(host=host or "127.0.0.1", port=_port(port, text))


def _port(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit()):
        raise UsageError(f"{shown(text)} has no port", hint="HOST:PORT, as in 127.0.0.1:4444")
    return _number(digits, 65535, "port", text)


def _number(digits: str, most: int, meant: str, text: str) -> int:
    number = int(digits.lstrip("0")[:8] or "0")  # eight digits are too many for any of them
    if not 1 <= number <= most:
        raise UsageError(f"{shown(text)}: a {meant} is a number from 1 to {most}")
    return number


def is_socket(path: str) -> bool:
    """Return whether a path leads to a socket."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - pathlib costs 10 ms to import
    except (OSError, ValueError):
        return False


def _check_encodable(text: str) -> None:
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UsageError(f"{shown(text)} cannot be encoded as a path or a name") from error
    bare = text.removeprefix("unix:")
    if "\0" in (bare[1:].rstrip("\0") if bare.startswith("\0") else bare):
        raise UsageError(f"{shown(text)} holds a NUL, which no path or name may")
