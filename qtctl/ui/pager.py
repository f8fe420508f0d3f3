"""A long answer in the user's pager, while the prompt waits. Source: environ(7) for ``PAGER``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence


def pager_of(env: Mapping[str, str]) -> Sequence[str]:
    """Return the words of ``$PAGER``, else ``less -R``; empty where nothing is to be paged.

    That is so for an empty variable, for ``cat``, and for a program that is not found.
    """
    try:
        words = shlex.split(env.get("PAGER", "less -R"))
    except ValueError:
        return ()
    return () if not words or words == ["cat"] or shutil.which(words[0]) is None else words


async def page(words: Sequence[str], lines: Iterable[str]) -> None:
    """Run a pager on lines, in the terminal, until it is left; cancelled, it ends the pager.

    Raises:
        OSError: it cannot be started.
    """
    # less shows colours only with -R; git sets the variable in the same way.
    env = {"LESS": "R", **os.environ}
    process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.PIPE, env=env)
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        await process.communicate(text)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
