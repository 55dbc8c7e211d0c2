"""The house rules of the source, read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bangbench

PACKAGE = Path(bangbench.__file__).parent
SOURCES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}

_COMPUTING = {"metrics", "nets", "data", "store", "core"}
#: What each package may import of the others.
ALLOWED = {
    "core": set(),
    "store": {"core"},
    "data": {"store", "core"},
    "nets": {"data", "store", "core"},
    "training": {"nets", "data", "store", "core"},
    "metrics": {"store", "core"},
    "attacks": _COMPUTING,
    "noise": _COMPUTING,
    "auditing": _COMPUTING | {"attacks", "training"},
    "reporting": {"store", "core", "auditing"},
    "paper": {"reporting", "store", "core", "auditing"},
    "recipes": _COMPUTING | {"training", "attacks", "noise", "auditing", "reporting"},
    "interface": _COMPUTING | {"training", "attacks", "noise", "auditing", "reporting"},
    "cli": _COMPUTING | {"training", "attacks", "noise", "auditing", "reporting", "recipes", "interface"},
}
LONGEST_FUNCTION = 60
LONGEST_FILE = 400
PRINTING = {"print", "sys.stdout.write", "sys.stderr.write", "tqdm.write"}


def package_of(path: Path) -> str:
    """Return the package a file belongs to; the two files at the top belong to the command line."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else "cli"


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Yield every imported module, those imported inside functions among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            module = node.module or ""
            yield from (f"{module}.{name.name}" for name in node.names) if module == "bangbench" else (module,)


def imports_torch(tree: ast.AST) -> bool:
    """Return whether torch is imported anywhere in `tree`."""
    return "torch" in {module.split(".")[0] for module in imported_modules(tree)}


def run_on_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements of a module that run on import: not those for type checkers or inside functions."""
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement


def name_of(path: Path) -> str:
    """Return a file's path as a reader would look for it."""
    return path.relative_to(PACKAGE.parent).as_posix()


def test_every_package_has_its_place_in_the_layers() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)


def test_imports_only_point_downwards() -> None:
    for path, tree in SOURCES.items():
        used = {module.split(".")[1] for module in imported_modules(tree) if module.startswith("bangbench.")}
        wrong = used - {package_of(path), "__version__"} - ALLOWED[package_of(path)]
        assert not wrong, f"{name_of(path)} imports {sorted(wrong)}, which lies beside or above it"


def test_report_store_and_data_import_no_torch() -> None:
    for path, tree in SOURCES.items():
        if package_of(path) in {"reporting", "paper", "store", "data"}:
            assert not imports_torch(tree), f"{name_of(path)} imports torch"


def test_core_and_cli_import_torch_only_where_it_is_used() -> None:
    for path, tree in SOURCES.items():
        if package_of(path) in {"core", "cli"}:
            assert not any(map(imports_torch, run_on_import(tree))), f"{name_of(path)} imports torch when imported"


def test_only_the_command_line_prints() -> None:
    for path, tree in SOURCES.items():
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if package_of(path) != "cli":
            assert not called & PRINTING, f"{name_of(path)} prints"


def test_functions_and_files_stay_short() -> None:
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{name_of(path)}: {node.name} has {length} lines"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, f"{name_of(path)} is too long"


def test_asserts_never_check_what_a_user_gives() -> None:
    for path, tree in SOURCES.items():
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), f"{name_of(path)} uses assert"


def test_the_walk_sees_imports_inside_functions() -> None:
    tree = ast.parse("def f():\n    from bangbench.cli import main\n    import torch\n")
    assert set(imported_modules(tree)) == {"bangbench.cli", "torch"}
