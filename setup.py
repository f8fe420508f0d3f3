"""Compile the modules that walk bytes; qtctl is right, only slower, where that fails."""

from pathlib import Path

from setuptools import Extension, setup

KERNELS = (
    "kernels",
    "simplekernels",
    "tracekernels",
    "lttngkernels",
    "syslogkernels",
    "bpfkernels",
    "pairkernels",
    "linekernels",
    "storekernels",
    "packetkernels",
)

try:
    from Cython.Build import cythonize
except ImportError:
    modules = []
else:
    modules = cythonize(
        [
            Extension(
                f"qtctl.records.{name}",
                [f"qtctl/records/{name}.py"],
                optional=True,
                extra_compile_args=["-O3"],
            )
            for name in KERNELS
        ],
        language_level=3,
        build_dir="build/cython",
    )

# ./dev man makes them.
pages = sorted(map(str, Path("build/man").glob("*.1")))

setup(ext_modules=modules, data_files=[("share/man/man1", pages)] if pages else [])
