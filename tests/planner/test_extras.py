from __future__ import annotations

import importlib.metadata
import pickle
import sys

import pytest

from planner import extras
from planner.errors import MissingExtraError
from planner.extras import missing, require
from tests.install.project import dependencies, metadata


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is installed as pyproject.toml is now."""
    monkeypatch.setattr(extras, "requires", lambda project: metadata())


def test_the_metadata_say_which_extra_has_each_package() -> None:
    known = {d.package: d.extra for d in dependencies() if d.extra}
    assert extras.extras() == known


def test_a_module_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtraError) as caught:
        require("a drawing", "numpy", "sqlalchemy")
    assert str(caught.value) == ("a drawing needs sqlalchemy: pip install 'layout-planner[serve]'")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_is_there_is_not_loaded() -> None:
    sys.modules.pop("this", None)
    require("a poem", "this")
    assert "this" not in sys.modules


def test_a_module_of_no_extra_has_no_extra() -> None:
    assert str(missing("it", "colorama.ansi")) == "it needs colorama: pip install colorama"


def test_a_checkout_that_is_not_installed_knows_no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(project: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(project)

    monkeypatch.setattr(extras, "requires", absent)
    assert str(missing("it", "torch")) == "it needs torch: pip install torch"
