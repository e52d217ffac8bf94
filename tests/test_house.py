"""The house: who may import whom, and every example in a docstring runs."""

from __future__ import annotations

import ast
import doctest
import graphlib
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "bigcorr"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(path: Path, everywhere: bool) -> set[str]:
    """Names of the modules that a file imports: at its top, or anywhere in it."""
    found = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), everywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & set(MODULES)) or {node.module}
    return found


def _nodes(tree: ast.AST, everywhere: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        yield node
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if not typing_only and (everywhere or not function):
            yield from _nodes(node, everywhere)


@pytest.mark.parametrize(
    "name", [m for m in MODULES if m == "bigcorr.tiles" or m.startswith("bigcorr.kernels")]
)
def test_kernels_and_tiles_know_nothing_of_dask_and_files(name: str) -> None:
    roots = {imported.split(".")[0] for imported in imports(MODULES[name], everywhere=True)}
    assert not roots & {"dask", "distributed", "zarr", "zarrs", "xarray", "tifffile", "pandas"}


def test_nobody_imports_the_command_line_and_only_it_and_the_demo_the_report() -> None:
    front = ("bigcorr.cli", "bigcorr.__main__")
    for name, path in MODULES.items():
        used = imports(path, everywhere=True)
        if not name.startswith(front):
            assert not any(each.startswith("bigcorr.cli") for each in used), name
        if not name.startswith((*front, "bigcorr.report", "bigcorr.demo")):
            assert not any(each.startswith("bigcorr.report") for each in used), name


def test_there_are_no_import_circles() -> None:
    graph = {
        name: {each for each in imports(path, everywhere=False) if each in MODULES} - {name}
        for name, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_the_examples_of_a_module_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.failed == 0
