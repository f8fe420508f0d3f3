"""Compile the one module that walks bytes; qtctl is right, only slower, where that fails."""

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    modules = []
else:
    modules = cythonize(
        [
            Extension(
                "qtctl.records.kernels",
                ["qtctl/records/kernels.py"],
                optional=True,
                extra_compile_args=["-O3"],
            )
        ],
        language_level=3,
        build_dir="build/cython",
    )

setup(ext_modules=modules)
