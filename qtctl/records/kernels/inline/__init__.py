"""Functions that several kernels share; the compiler inlines them into each.

C cannot inline a function of another extension, and Cython only inlines functions of a ``.pxd``
file, which is not Python. So ``setup.py`` generates a ``.pxd`` from each module here, with the
function bodies unchanged, and compiles no extension of it. A module here may contain only the
import of ``cython``, imports under ``if cython.compiled`` and its ``else``, and functions with
annotated arguments. Kernels import it as ``import cython.cimports.PATH as NAME``: with other forms
cythonize does not detect the dependency.
"""
