"""Optional dependencies: what is missing is named, with the command that installs it."""

from __future__ import annotations

import importlib

from qtctl.errors import Unsupported

__all__ = ["need_analysis"]


def need_analysis(what: str, *modules: str) -> None:
    """Import what the extra ``analysis`` brings; ``what`` is the thing that needs it.

    Raises:
        Unsupported: one of ``modules`` is not installed, or too broken to be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Unsupported(
                f"{what} needs {module}, which cannot be imported: {error}",
                hint="pip install 'qtctl[analysis]'",
            ) from error
