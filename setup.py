"""Compile the kernels with Cython and a C compiler; without either, qtctl runs them interpreted.

The manual pages are made as well.

A kernel is a file ``kernel.py`` or any module in a folder ``kernels``; modules in a folder
``kernels/inline`` are inlined into the kernels that import them.
"""

import ast
import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD = Path("build/cython")
MAN = Path("build/man")
#: The module of what Cython needs in every kernel, compiled once: memoryviews are a megabyte of C.
SHARED = "qtctl.records.kernels._cython"

modules = sorted(Path("qtctl").rglob("[!_]*.py"))
kernels = [path for path in modules if path.name == "kernel.py" or path.parent.name == "kernels"]
inlines = [path for path in modules if path.parts[-3:-1] == ("kernels", "inline")]


def with_cimports(source: str) -> str:
    """Import Cython for its stubs, and ``inline`` in the form whose changes cythonize detects."""
    inline = "qtctl.records.kernels.inline"
    lines = source.replace("from qtctl.records import shadow as cython", "import cython")
    return re.sub(
        f"^from {inline} import (.+)$",
        lambda match: "\n".join(
            f"import cython.cimports.{inline}.{name} as {name}" for name in match[1].split(", ")
        ),
        lines,
        flags=re.MULTILINE,
    )


def inline_pxd(source: str) -> str:
    """Write a module of ``kernels/inline`` as the ``.pxd`` that Cython inlines its functions from.

    Only imports and heads differ: ``cimport``, and ``cdef inline`` for ``def``.
    """
    source = with_cimports(source)
    lines = source.splitlines()
    text = [lines[0]]  # the first line has the directives
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.If):
            for one in map(ast.unparse, node.body if isinstance(node, ast.If) else [node]):
                text.append(one.replace("cython.cimports.", "").replace("import ", "cimport "))
        elif isinstance(node, ast.FunctionDef):
            typed = (f"{ast.unparse(arg.annotation)} {arg.arg}" for arg in node.args.args)
            head = f"{ast.unparse(node.returns)} {node.name}({', '.join(typed)})"
            head = re.sub(r"cython\.const\[([\w.]+)\]", r"const \1", head)
            text.append(f"cdef inline {head} noexcept nogil:")
            text += lines[node.body[0].lineno - 1 : node.end_lineno]
    return "\n".join(text) + "\n"


def with_c_functions(source: str) -> str:
    """Decorate the private functions of a kernel: they become C functions that need no GIL."""
    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_"):
            decorators = ("cfunc", "inline", "nogil", "exceptval(check=False)")
            lines[node.lineno - 1 : node.lineno - 1] = [f"@cython.{one}" for one in decorators]
    return "\n".join(lines) + "\n"


def write_changed(path: Path, text: str) -> None:
    """Write a file of the build, unless it has that text already."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def remove_stale(folder: Path) -> None:
    """Remove what was built below ``folder`` from sources that changed or are gone.

    Python prefers an extension to the source beside it, so one that can't be built anew has to go.
    """
    newest = max(path.stat().st_mtime for path in inlines)
    for built in [*folder.glob("qtctl/**/*.py"), *folder.glob("qtctl/**/[!_]*.so")]:
        source = built.relative_to(folder).with_name(built.name.partition(".")[0] + ".py")
        is_stale = not source.exists()
        if built.suffix == ".so" and not is_stale:
            is_stale = built.stat().st_mtime < max(source.stat().st_mtime, newest)
        if is_stale:
            built.unlink()


class BuildKernels(build_ext):
    """Build each kernel's extension, or leave it out and log why."""

    def build_extensions(self) -> None:
        """Translate the kernels to C, then compile them."""
        for folder in (Path(), *Path("build").glob("lib*")):
            remove_stale(folder)
        try:
            self.translate()
        except Exception as error:  # Cython is missing, or finds a fault in a kernel
            self.warn(f"the kernels are not compiled: {error!r}")
        else:
            super().build_extensions()
            if not Path(self.get_ext_fullpath(SHARED)).exists():  # no kernel can be imported then
                for extension in self.extensions:
                    Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)

    def translate(self) -> None:
        """Replace the sources of all extensions by the C that Cython makes of them."""
        from Cython.Build import cythonize

        for path in inlines:
            write_changed(BUILD / path.with_suffix(".pxd"), inline_pxd(path.read_text()))
        for path in kernels:
            write_changed(BUILD / path, with_c_functions(with_cimports(path.read_text())))
        for extension in self.extensions:
            extension.sources = [str(BUILD / source) for source in extension.sources]
        translated = cythonize(
            self.extensions,
            include_path=[str(BUILD)],
            language_level=3,
            shared_utility_qualified_name=SHARED,
        )
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]


def manual_pages() -> list[str]:
    """Write the manual pages; none, with a warning, where the verbs cannot be imported."""
    shutil.rmtree(MAN, ignore_errors=True)  # of verbs that are gone
    sys.path.insert(0, str(Path.cwd()))
    try:
        from qtctl import manual

        manual.main([str(MAN)])
    except Exception as error:
        sys.stderr.write(f"no manual pages are made: {error!r}\n")
    return sorted(map(str, MAN.glob("*.1")))


pages = manual_pages()


def extension(name: str, source: str) -> Extension:
    """Return an extension that may fail to build."""
    return Extension(name, [source], optional=True, extra_compile_args=["-O3", "-g0"])


setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[
        extension(SHARED, f"{SHARED.replace('.', '/')}.c"),
        *(extension(".".join(path.with_suffix("").parts), str(path)) for path in kernels),
    ],
    data_files=[("share/man/man1", pages)] if pages else [],
    options={"build_ext": {"parallel": os.cpu_count()}},
)
