"""Compile the modules that walk bytes; qtctl is right, only slower, where that fails."""

import ast
import os
from pathlib import Path

from setuptools import Extension, setup

KERNELS = sorted(
    [*Path("qtctl/records/kernels").glob("[!_]*.py"), *Path("qtctl").rglob("kernel.py")]
)
INLINE = Path("qtctl/records/kernels/inline")
BUILD = Path("build/cython")


def inline_pxd(source: str) -> str:
    """Write a module of ``kernels/inline`` as the ``.pxd`` that Cython inlines its functions from.

    Only heads differ, ``cdef inline`` for ``def``; imports are those of ``if cython.compiled``.
    """
    lines = source.splitlines()
    text = [lines[0], "cimport cython"]  # the first line has the directives
    for node in ast.parse(source).body:
        if isinstance(node, ast.If):
            for one in map(ast.unparse, node.body):
                text.append(one.replace("cython.cimports.", "").replace("import ", "cimport "))
        elif isinstance(node, ast.FunctionDef):
            typed = (f"{ast.unparse(arg.annotation)} {arg.arg}" for arg in node.args.args)
            head = f"{ast.unparse(node.returns)} {node.name}({', '.join(typed)})"
            text.append(f"cdef inline {head} noexcept nogil:")
            text += lines[node.body[0].lineno - 1 : node.end_lineno]
    return "\n".join(text) + "\n"


try:
    from Cython.Build import cythonize
except ImportError:
    modules = []
else:
    for path in sorted(INLINE.glob("[!_]*.py")):
        pxd = BUILD / path.with_suffix(".pxd")
        text = inline_pxd(path.read_text())
        if not pxd.exists() or pxd.read_text() != text:
            pxd.parent.mkdir(parents=True, exist_ok=True)
            pxd.write_text(text)
    modules = cythonize(
        [
            Extension(
                ".".join(path.with_suffix("").parts),
                [str(path)],
                optional=True,
                extra_compile_args=["-O3", "-g0"],
            )
            for path in KERNELS
        ],
        include_path=[str(BUILD)],
        language_level=3,
        build_dir=str(BUILD),
    )

# ./dev man makes them.
pages = sorted(map(str, Path("build/man").glob("*.1")))

setup(
    ext_modules=modules,
    data_files=[("share/man/man1", pages)] if pages else [],
    options={"build_ext": {"parallel": os.cpu_count()}},
)
