"""Functions that several kernels share; the compiler inlines them into each.

C cannot inline a function of another extension, and Cython only inlines functions of a ``.pxd``
file, which is not Python. So ``setup.py`` generates a ``.pxd`` from each module here, with the
function bodies unchanged, and compiles no extension of it. A module here may contain only the
import of ``cython`` and of other modules here, cimports under ``if cython.compiled``, and functions
with annotated arguments. Kernels import it by one line, which ``setup.py`` replaces by the form
with which cythonize detects the dependency.
"""
