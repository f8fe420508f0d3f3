"""Loops over bytes and rows that are compiled; ``inline`` holds the functions that they share.

The modules are Cython in pure Python mode: ``setup.py`` compiles each to an extension, and the same
source also runs interpreted, with the same results but slower. ``COMPILED`` is whether a module is
compiled. The interpreted form takes Cython's names from ``records/shadow.py``. Callers pass
``bytes`` and memoryviews of C-contiguous arrays, which work in both forms. The ``.pyi`` file beside
a module has its Python types, as its annotations are C types. Functions whose names begin with an
underscore are compiled to inline C functions, which run without the GIL and raise nothing.
"""
