"""The registry of plug-ins, and the errors a user sees."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bangbench.core import registry as registry_module
from bangbench.core.errors import BenchError, UsageError, unknown_name
from bangbench.core.registry import Registry, load_object


@pytest.fixture
def registry() -> Registry:
    return Registry("attack", "bangbench.test-group", {"fgs": "json:dumps", "hc1": "no_such_module:x"})


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a module on the path that nothing has imported yet."""
    (tmp_path / "lazy_plugin.py").write_text("class Box:\n    content = 7\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "lazy_plugin", raising=False)
    return "lazy_plugin"


def test_nothing_is_imported_until_an_entry_is_loaded(registry: Registry, plugin: str) -> None:
    registry.register("lazy", f"{plugin}:Box.content")
    registry.check("lazy")
    assert registry.names() == ["fgs", "hc1", "lazy"]
    assert plugin not in sys.modules
    assert registry.load("lazy") == 7
    assert plugin in sys.modules


def test_a_name_that_is_taken_is_refused_with_both_targets(registry: Registry) -> None:
    with pytest.raises(BenchError, match=r"attack 'fgs' is registered twice: as json:dumps and as other:thing"):
        registry.register("fgs", "other:thing")


def test_an_unknown_name_brings_the_closest_one(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"^unknown attack 'fsg': did you mean 'fgs'\?$"):
        registry.load("fsg")


def test_an_entry_that_cannot_be_imported_says_which_one(registry: Registry) -> None:
    with pytest.raises(BenchError, match=r"attack 'hc1': 'no_such_module:x' cannot be loaded: No module named"):
        registry.load("hc1")


@pytest.mark.parametrize("target", ["json", "json:", "json:nothing", "json:dumps.nothing"])
def test_a_target_without_the_object_is_refused(target: str) -> None:
    with pytest.raises(BenchError, match="cannot be loaded"):
        load_object(target, "net 'x'")


def test_entry_points_of_other_packages_are_added(
    registry: Registry, plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entry_points(group: str) -> list[EntryPoint]:
        return [EntryPoint("theirs", f"{plugin}:Box", group)] if group == "bangbench.test-group" else []

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    assert "theirs" in registry.names()
    assert plugin not in sys.modules
    assert registry.load("theirs").content == 7


def test_an_entry_point_cannot_replace_what_is_built_in(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [EntryPoint("fgs", "evil:attack", group)])
    with pytest.raises(BenchError, match="'fgs' is registered twice: as json:dumps and as evil:attack"):
        registry.names()


def test_a_name_like_no_other_brings_the_whole_list() -> None:
    assert str(unknown_name("net", "xyz", ["lenet", "alex"])) == "unknown net 'xyz': known: alex, lenet"
    assert str(unknown_name("model", "R0", [])) == "unknown model 'R0': known: none"


def test_the_two_errors_carry_their_exit_statuses() -> None:
    assert (BenchError.exit_status, UsageError.exit_status) == (1, 2)
    assert issubclass(UsageError, BenchError)
