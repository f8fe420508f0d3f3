"""Compile the modules that walk bytes; qtctl is right, only slower, where that fails."""

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

setup(ext_modules=modules)
