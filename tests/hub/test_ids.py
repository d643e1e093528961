"""Ids of the Hub: what is one, and recipes that name models by them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kdgen.hub import push_to_hub
from kdgen.models.hub_cache import HubId, commit_of, hub_id, pinned
from kdgen.models.model import Model, load
from kdgen.recipe import parse
from kdgen.types import UserError

from .conftest import RECIPE, RunContext

Make = Callable[..., Model]


def test_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_id("hub:a/b@v1") == HubId("a/b", "v1")
    assert hub_id("a/b") == HubId("a/b")
    assert [hub_id(text) for text in ("denoiser", "/a/b", "./a", "a/b/c", "../a", "a/b.json@", "a/.b")] == [None] * 7
    (tmp_path / "a").mkdir()
    assert hub_id("a/b") is None, "a folder of that name means a path"
    assert hub_id("hub:a/b") == HubId("a/b")
    assert hub_id("hub:a/b/vae@v1") == hub_id("hub:a/b/vae").at("v1") == HubId("a/b", "v1", "vae")  # type: ignore[union-attr]
    assert str(HubId("a/b", "v1", "vae")) == "hub:a/b/vae@v1"
    for text in ("hub:a", "hub:a/../b", "hub:a/b@../../x", "hub:a--b/c", "hub:a/b c"):
        with pytest.raises(UserError, match="no id of the Hub"):
            hub_id(text)
    with pytest.raises(UserError, match="a revision is one of a repository"):
        load("denoiser", revision="v1")


def test_recipes_are_pinned(place: RunContext, student: Make) -> None:
    name = place.name("pinned")
    commit = str(push_to_hub(student(), name).commit)
    images = {"name": "mixture", "args": {"sources": [{"name": "samples", "args": {"model": f"hub:{name}@main"}}]}}
    task = {"name": "denoise", "args": {"images": images}}
    lora = {"name": "lora", "args": {"model": name}}
    recipe = parse({**RECIPE, "task": task, "teacher": f"{name}#decoder", "student": lora})
    done = pinned(recipe, commit_of).model_dump()
    assert done["student"]["args"]["model"] == f"hub:{name}@{commit}"
    assert done["teacher"] == f"hub:{name}@{commit}#decoder"
    assert done["task"]["args"]["images"]["args"]["sources"][0]["args"]["model"] == f"hub:{name}@{commit}"
    assert pinned(parse(done), commit_of).model_dump() == done
    local = parse({**RECIPE, "teacher": "denoiser", "task": {"name": "denoise"}})
    assert pinned(local, commit_of) is local
