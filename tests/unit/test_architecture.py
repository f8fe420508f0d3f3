"""The layout is what the folder list says: imports point down."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "qtctl"

# A room may import from its own and from lower numbers; rooms of one number do not know each other.
FLOORS = {
    "errors": 0,
    "folders": 1,
    "version": 2,
    "verbs": 3,
    "config": 4,
    "model": 4,
    "shapes": 4,
    "text": 5,
    "monitor": 6,
    "events": 7,
    "records": 8,
    "leases": 9,
    "backends": 10,
    "recordings": 11,
    "analysis": 12,
    "writers": 13,
    "session": 14,
    "query": 15,
    "commands": 16,
    "ui": 17,
    "cli": 18,
    "manual": 19,
    "__main__": 20,
    "__init__": 21,
}


def imports() -> list[tuple[str, str, str]]:
    """Return (file, room, imported room) for every import of qtctl inside qtctl."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
                if node.module == "qtctl":
                    names = [f"qtctl.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found += [
                (str(path.relative_to(PACKAGE)), parts[0], name.split(".")[1])
                for name in names
                if name.startswith("qtctl.")
            ]
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__pycache__", "py"} == set(FLOORS)


def test_imports_point_down() -> None:
    wrong = [
        f"{file}: {room} imports {other}"
        for file, room, other in imports()
        if room != other and FLOORS[room] <= FLOORS[other]
    ]
    assert wrong == []
    assert len(imports()) > 50


def module_imports() -> dict[str, set[str]]:
    """Return the modules of qtctl that each imports, for types and in functions as well."""
    paths = sorted(PACKAGE.rglob("*.py"))
    modules = {
        ".".join(("qtctl", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in paths
    }
    modules = {name.removesuffix(".__init__") for name in modules}
    found: dict[str, set[str]] = {name: set() for name in modules}
    for path in paths:
        parts = ("qtctl", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = {f"{node.module}.{alias.name}" for alias in node.names} & modules
                found[name] |= names or ({node.module} & modules)
            elif isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & modules
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or by way of others."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        numbers[node] = lowest[node] = len(numbers)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in numbers:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], numbers[other])
        if lowest[node] == numbers[node]:
            at = stack.index(node)
            group = sorted(stack[at:])
            del stack[at:]
            if len(group) > 1 or node in graph[node]:
                found.append(group)

    for node in sorted(graph):
        if node not in numbers:
            visit(node)
    return found


def test_no_modules_import_each_other() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert circles(module_imports()) == []


def test_only_the_link_imports_qemu_qmp() -> None:
    users = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(
            isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qemu")
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert users == ["monitor/link.py"]


def test_public_names_are_there() -> None:
    import qtctl

    for name in qtctl.__all__:
        assert getattr(qtctl, name) is not None
    with pytest.raises(AttributeError):
        _ = qtctl.nothing_of_this_name


def test_no_two_classes_have_one_name() -> None:
    names = [
        node.name.removeprefix("_")
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert len(names) > 200
    assert sorted(name for name in set(names) if names.count(name) > 1) == []
