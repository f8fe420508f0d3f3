"""Read the metadata of a trace, in either form of the Common Trace Format.

CTF 1.8: TSDL, in packets (section 7.1) or as plain text. CTF 2: fragments of JSON, the same way.
"""

from __future__ import annotations

import struct

from qtctl.backends.ust.ctf import TraceMetadata
from qtctl.backends.ust.ctf_json import BEGIN, parse_json
from qtctl.backends.ust.tsdl import parse_tsdl

_MAGICS = {struct.pack(order + "I", 0x75D11D57): order for order in "<>"}
_PACKET = "I16sIII5B"


def metadata_text(data: bytes) -> bytes:
    """Return the text of a ``metadata`` file: that in its packets, or all of a plain one.

    Of a file that is cut off or damaged, the text before that.
    """
    parts = []
    at = 0
    while (order := _MAGICS.get(data[at : at + 4])) is not None:
        size = struct.calcsize(f"={_PACKET}")
        if len(data) - at < size:
            break
        _, _, _, content, packet, *_ = struct.unpack_from(f"{order}{_PACKET}", data, at)
        parts.append(data[at + size : at + content // 8])
        if packet // 8 <= size:
            break
        at += packet // 8
    return b"".join(parts) if at or parts else data


def parse_metadata(data: bytes) -> TraceMetadata:
    """Parse a ``metadata`` file.

    Raises:
        ValueError: it is malformed, or cut off.
    """
    text = metadata_text(data).decode("utf-8", "surrogateescape")
    try:
        return parse_json(text) if text.startswith(BEGIN) else parse_tsdl(text)
    except (LookupError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"it makes no sense ({error!r})") from None
