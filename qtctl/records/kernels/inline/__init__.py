"""Steps that several kernels take, inlined into each where they are compiled.

C inlines no function of another extension, and Cython none of another module but of a ``.pxd``,
which cannot hold Python. So ``setup.py`` writes a ``.pxd`` from each module here, the bodies as
they are; no extension is made of them. A module here has its import of ``cython``, its imports
under ``if cython.compiled`` and in its ``else``, plain functions of annotated arguments, and no
more. Kernels import it as ``import cython.cimports.PATH as NAME``: of the other forms cythonize
does not see that a kernel depends on it.
"""
