"""Stubs of the Cython names that kernels use, to run kernels interpreted; they do nothing.

A kernel imports this module as ``cython``; ``setup.py`` imports Cython in its place for the
compiler. So qtctl does not need Cython at run time, and never imports an installed one.
``cython.address`` and ``cython.NULL`` are missing: only compiled code uses them.
"""

from contextlib import nullcontext
from typing import Any

compiled = False


class _Type:
    """A C type, for annotations; it converts no values."""

    def __getitem__(self, shape: object) -> "_Type":
        return self


bint = uchar = ushort = int = uint = longlong = ulonglong = Py_ssize_t = void = _Type()
p_uchar = p_int = p_longlong = p_ulonglong = const = _Type()


def cast(kind: _Type, value: Any) -> Any:
    """Return the value unchanged."""
    return value


def declare(kind: _Type | None = None, value: Any = None, **variables: _Type) -> Any:
    """Return the value unchanged."""
    return value


nogil = nullcontext()
