"""Optional dependencies: an error names the missing one, and the command that installs it."""

from __future__ import annotations

import importlib

from qtctl.errors import Unsupported


def need_analysis(what: str, *modules: str, install: str = "'qtctl[analysis]'") -> None:
    """Import modules of the extra ``analysis``; ``what`` names the feature that needs them.

    ``install`` is what pip is to install.

    Raises:
        Unsupported: one of ``modules`` cannot be imported.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise Unsupported(
                f"{what} needs {module}, which cannot be imported: {error}",
                hint=f"pip install {install}",
            ) from error
