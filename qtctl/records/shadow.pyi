# The C types of annotations have no meaning for the type checker.

from typing import Any

compiled: bool

def __getattr__(name: str) -> Any: ...
