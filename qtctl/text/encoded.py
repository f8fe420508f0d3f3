"""Lines of a text that is encoded already, so that they can be written without decoding them."""

from __future__ import annotations

from collections.abc import Iterator


class EncodedLines:
    """The lines of ``data``, UTF-8, in which each line ends with a newline.

    Iterated, they are decoded.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = data

    def __iter__(self) -> Iterator[str]:
        return iter(str(self.data, "utf-8").split("\n")[:-1])
