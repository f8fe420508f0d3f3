"""docs/api.md describes every public name, and every member of every public class."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import qtctl

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
CODE = re.compile(r"`([^`]+)`")
CLASSES = [name for name in qtctl.__all__ if inspect.isclass(getattr(qtctl, name))]
DESCRIBED = [
    name
    for name in CLASSES
    if name == "QtctlError" or not issubclass(getattr(qtctl, name), qtctl.QtctlError)
]


def section(heading: str) -> str:
    """Return the text below a heading, up to the next heading of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", TEXT, re.M | re.S)
    return found[1] if found else ""


def bullets(text: str) -> list[str]:
    """Return the code at the beginning of each bullet, such as ``pick(names)``."""
    heads = re.findall(r"^- ((?:`[^`]+`(?:, )?)+)", text, re.M)
    return [code for head in heads for code in CODE.findall(head)]


def name_of(code: str) -> str:
    return code.partition("(")[0]


def parameters_of(code: str) -> list[tuple[str, bool]]:
    """Return the parameters of documented code, and whether each has a default value."""
    [function] = ast.parse(f"def {code}: ...").body
    assert isinstance(function, ast.FunctionDef)
    args = function.args
    plain = [one.arg for one in args.args]
    least = len(plain) - len(args.defaults)
    found = [(name, index >= least) for index, name in enumerate(plain)]
    if args.vararg:
        found.append((args.vararg.arg, False))
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return found + [(one.arg, default is not None) for one, default in pairs]


def actual_parameters(function: Any) -> list[tuple[str, bool]]:
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.default is not p.empty) for p in parameters if p.name != "self"]


def members(cls: type) -> set[str]:
    """Return the public members: those of the class, and those that its methods assign."""
    assigned = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(cls).strip()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return {name for name in {*vars(cls), *assigned} if not name.startswith("_")}


def test_every_public_name_is_described() -> None:
    headings = re.findall(r"^### `(\w+)`$", TEXT, re.M)
    errors = re.findall(r"^\| `(\w+)` \|", TEXT, re.M)
    functions = [name_of(code) for code in bullets(section("Functions"))]
    assert sorted([*headings, *errors, *functions]) == sorted(qtctl.__all__)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_member_of_a_class_is_described(name: str) -> None:
    described = [name_of(code) for code in bullets(section(f"`{name}`"))]
    assert sorted(described) == sorted(members(getattr(qtctl, name)))


@pytest.mark.parametrize("name", DESCRIBED)
def test_parameters_of_methods_are_those_described(name: str) -> None:
    cls = getattr(qtctl, name)
    for code in bullets(section(f"`{name}`")):
        member = inspect.getattr_static(cls, name_of(code), None)
        if callable(member) or isinstance(member, classmethod):
            described = getattr(cls, name_of(code))
            assert parameters_of(code) == actual_parameters(described), code
        else:
            assert "(" not in code


def test_parameters_of_functions_are_those_described() -> None:
    for code in bullets(section("Functions")):
        if name_of(code) != "__version__":
            function = getattr(qtctl, name_of(code))
            assert parameters_of(code) == actual_parameters(function), code


def test_exit_codes_of_errors_are_those_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", TEXT, re.M)
    assert len(rows) > 5
    assert rows == [(name, str(getattr(qtctl, name).exit_code)) for name, _ in rows]


def test_a_described_name_that_does_not_exist_is_found() -> None:
    assert parameters_of("f(a, *b, c=1, d)") == [
        ("a", False),
        ("b", False),
        ("c", True),
        ("d", False),
    ]
    assert parameters_of("f(a, b=1)") == [("a", False), ("b", True)]
    assert bullets("- `a(b=1)`, `c`: `d`\n") == ["a(b=1)", "c"]
