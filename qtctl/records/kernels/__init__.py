"""The loops that walk bytes, one module a job; ``inline`` holds what they share.

Cython in pure-Python mode: ``setup.py`` makes an extension of each module, and the same source runs
compiled (fast) and interpreted (right, slower). ``COMPILED`` of each tells which. Interpreted, it
takes the names of Cython from ``records/shadow.py``. Callers pass ``bytes`` and memoryviews of
C-contiguous arrays, which both forms read alike. The ``.pyi`` beside a module has its Python types,
as its own annotations are those of C.
"""
