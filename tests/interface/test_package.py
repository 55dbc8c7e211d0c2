"""What `import bangbench` is: quick, small, typed, and not hidden by its own subpackages."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from importlib import resources

import pytest

import bangbench as bb
from bangbench.core.errors import BenchError
from bangbench.core.registry import Registry

#: Modules that need what the test extra may lack, or that run a command when imported.
LEFT_OUT = {"bangbench.__main__", "bangbench.core.executor_ray"}


def test_importing_it_imports_nothing_heavy():
    heavy = {"torch", "numpy", "pandas", "pydantic", "matplotlib"}
    code = f"import bangbench, sys; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_everything_that_is_offered_is_there_and_nothing_else():
    assert set(bb.__all__) == set(bb._PLACES)
    for name in bb.__all__:
        assert getattr(bb, name) is not None
    assert set(bb.__all__) <= set(dir(bb))
    with pytest.raises(AttributeError, match="module 'bangbench' has no attribute 'audits'"):
        _ = bb.audits


def test_no_module_hides_a_function_of_its_name(model, images, labels):
    for module in pkgutil.walk_packages(bb.__path__, "bangbench."):
        if module.name not in LEFT_OUT:
            importlib.import_module(module.name)
    packages = {module.name.rpartition(".")[2] for module in pkgutil.iter_modules(bb.__path__, "bangbench.")}
    assert not packages & set(bb.__all__)
    assert all(callable(getattr(bb, name)) for name in bb.__all__ if name.islower())
    assert bb.audit(model, images[:5], labels[:5], budget="8/255", strength="quick", progress=False).verdict


def test_the_package_says_that_it_is_typed():
    assert resources.files("bangbench").joinpath("py.typed").is_file()


def test_a_decorator_registers_and_the_same_cell_may_run_again():
    registry: Registry[type] = Registry("thing", "bangbench.no-group", {"old": "json:dumps"}, _is_class)

    def cell():
        @registry.register("mine")
        class Mine:
            pass

        return Mine

    assert registry.load("mine") is cell() if "mine" in registry else cell() is registry.load("mine")
    again = cell()
    assert registry.load("mine") is again
    assert list(registry) == ["mine", "old"]
    assert len(registry) == 2
    assert registry.objects() == {"mine": again}
    with pytest.raises(BenchError, match="thing 'old' is registered twice"):
        registry.register("old")(again)
    with pytest.raises(BenchError, match="thing 'other': no class"):
        registry.register("other")(7)
    assert "other" not in registry


def _is_class(found: object) -> str | None:
    return None if isinstance(found, type) else "no class"
