"""The names of Cython that the kernels use, for running them interpreted: they do nothing.

A kernel imports this module as ``cython``, and Cython itself only under ``TYPE_CHECKING``: the
compiler and the type checker follow that import, the interpreter never does. So qtctl needs no
Cython at run time, and an installed one, whatever its version, changes nothing.
``cython.address`` and ``cython.NULL`` are missing, as they are used where ``compiled`` is true.
"""

from typing import Any

compiled = False


class _Type:
    """A C type, named in annotations. No value is converted to it."""

    def __getitem__(self, shape: object) -> "_Type":
        return self


bint = uchar = int = uint = longlong = ulonglong = Py_ssize_t = void = _Type()
p_uchar = p_int = p_longlong = p_ulonglong = const = _Type()


def cast(kind: _Type, value: Any) -> Any:
    """Return the value unchanged."""
    return value


def declare(kind: _Type | None = None, value: Any = None, **variables: _Type) -> Any:
    """Return the value unchanged."""
    return value


class _Directive:
    """A decorator that returns its function, and a context that does nothing."""

    def __call__(self, function: Any) -> Any:
        return function

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


cfunc = inline = nogil = _Directive()


def exceptval(check: bool) -> _Directive:
    """Return a decorator that does nothing."""
    return cfunc
