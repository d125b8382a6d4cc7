"""Named methods: the house's own and those of plug-ins."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from difflapse import methods
from difflapse.errors import MissingDependencyError, OptionError


def install(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    found = [
        EntryPoint(name.replace("__", "."), value, "difflapse.methods") for name, value in points.items()
    ]
    monkeypatch.setattr(methods, "entry_points", lambda group: found if group == "difflapse.methods" else [])


def test_a_plug_in_can_be_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, align__mine="os.path:join")
    assert methods.names("align") == ("auto", "wcs", "asterism", "features", "phase", "none", "mine")
    assert methods.find_method("align", "mine").__name__ == "join"
    assert methods.names("match") == ("auto", "none", "scale", "psf", "zogy")


@pytest.mark.parametrize("name", ["diff__mine", "mine", "align__", "align__wcs"])
def test_what_cannot_be_used_is_passed_over_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install(monkeypatch, **{name: "os.path:join"})
    with pytest.warns(UserWarning, match="ignored"):
        assert methods.all_methods() == methods.TABLE


def test_a_missing_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, align__mine="no_such_module.align:find")
    with pytest.raises(MissingDependencyError, match="needs the module no_such_module") as caught:
        methods.find_method("align", "mine")
    assert caught.value.facts == {"module": "no_such_module"}
    assert caught.value.hint == "pip install no_such_module"


def test_an_unknown_name_lists_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(OptionError, match="'other'; there are auto, wcs"):
        methods.find_method("align", "other")
