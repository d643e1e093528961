"""Names for things that a recipe can ask for."""

import importlib

import pytest

from kdgen import registry
from kdgen.registry import Spec, build, get, names, nearest, register, summary
from kdgen.types import UserError


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def test_names_are_snake_case_of_the_thing():
    @register("net")
    class PlainNet2:
        """A net.

        More about it.
        """

    @register("net")
    def another(width: int = 3) -> int:
        return width

    assert names("net") == ["another", "plain_net2"]
    assert names("task") == []
    assert get("net", "plain_net2") is PlainNet2
    assert summary("net", "plain_net2") == "A net."
    assert summary("net", "another") == ""


def test_duplicates_raise():
    register("net")(lambda: 1)
    with pytest.raises(ValueError, match="registered already"):
        register("net")(lambda: 2)


def test_build_passes_arguments():
    @register("task")
    def denoise(sigma, *, seed=0):
        return sigma, seed

    assert build("task", Spec(name="denoise", args={"sigma": 25}), seed=3) == (25, 3)


def test_what_is_unknown_or_missing_is_named():
    @register("task")
    def denoise(sigma):
        return sigma

    with pytest.raises(UserError, match="no task is called 'denoize'; the nearest: denoise"):
        build("task", Spec(name="denoize"))
    with pytest.raises(UserError, match="'denoise' has no argument 'sigm'; the nearest: sigma"):
        build("task", Spec(name="denoise", args={"sigm": 25}))
    with pytest.raises(UserError, match="missing a required argument: 'sigma'"):
        build("task", Spec(name="denoise"))


def test_keyword_arguments_of_any_name():
    @register("net")
    def free(**options):
        return options

    assert build("net", Spec(name="free", args={"anything": 1})) == {"anything": 1}


def test_nearest():
    assert nearest("output", ["outputs", "feature"]) == "; the nearest: outputs"
    assert nearest("zzz", ["b", "a"]) == "; the nearest: a, b"
    assert nearest("zzz", []) == ""


def test_use_reads_like_a_call_and_refuses_unknown_keys():
    assert str(Spec(name="fixed", args={"alpha": 1.0})) == "fixed(alpha=1.0)"
    with pytest.raises(ValueError, match="extra"):
        Spec(name="fixed", alpha=1.0)  # type: ignore[call-arg]


def test_a_number_in_quotes_is_text():
    @register("net")
    def narrow(width: int = 3) -> int:
        return width if width < 9 else 9

    with pytest.raises(UserError, match="net narrow: width is a whole number, not '8'"):
        build("net", Spec(name="narrow", args={"width": "8"}))


def test_a_method_goes_by_the_name_of_its_paper_too(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_handles", {})

    @register("method", handle="fitnets")
    def feature() -> str:
        return "made"

    assert build("method", Spec(name="fitnets")) == "made"
    assert names("method") == ["feature"]
    assert registry.handles_of("method", "feature") == ["fitnets"]
    with pytest.raises(UserError, match="no method is called 'fitnet'; the nearest: fitnets"):
        build("method", Spec(name="fitnet"))
    with pytest.raises(ValueError, match="a method called 'fitnets' is registered already"):

        @register("method")
        def fitnets() -> None: ...


def test_one_thing_goes_by_several_handles(monkeypatch):
    monkeypatch.setattr(registry, "_handles", {})

    @register("adapter", handle=("PlainModel", "PlainPipeline"))
    class Plain:
        """Opens them."""

    @register("adapter", handle="Another")
    class Other:
        """Opens another."""

    assert registry.handles("adapter") == {"Another": "other", "PlainModel": "plain", "PlainPipeline": "plain"}
    assert registry.handles_of("adapter", "plain") == ["PlainModel", "PlainPipeline"]
    assert get("adapter", "PlainPipeline") is Plain
    with pytest.raises(ValueError, match="adapter called 'PlainModel' is registered already"):
        register("adapter", handle=("New", "PlainModel"))(type("Third", (), {}))


def test_a_file_in_a_package_is_all_that_a_new_thing_takes(tmp_path, monkeypatch):
    inner = tmp_path / "garden" / "beds"
    inner.mkdir(parents=True)
    (tmp_path / "garden" / "__init__.py").write_text(
        "from kdgen.registry import import_modules\nimport_modules(__name__, __path__)\n"
    )
    (inner / "__init__.py").write_text("")
    (inner / "rose.py").write_text("from kdgen.registry import register\n\n@register('net')\ndef rose(): return 5\n")
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("garden")
    assert build("net", Spec(name="rose")) == 5
