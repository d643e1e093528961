"""What the app fetches for its visitors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from kdgen.hub import push_to_hub
from kdgen.models.hub_cache import publishable
from kdgen.models.model import Model
from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.types import UserError
from kdgen.ui.job import new_session
from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import accept

from .conftest import RunContext
from .server import Hub

Make = Callable[..., Model]


def published(student: Make, place: RunContext, tmp_path: Path) -> str:
    name = place.name("tiny")
    student().save(tmp_path / "student")
    push_to_hub(tmp_path / "student", name)
    return name


@pytest.mark.usefixtures("hub")
def test_a_run_names_no_model_of_more_bytes_than_are_fetched(student: Make, place: RunContext, tmp_path: Path) -> None:
    name = published(student, place, tmp_path)
    runs = Runs(Limits(folder=tmp_path, download_bytes=100), lambda *given: 0)
    for settings in (
        [f"teacher={name}"],
        [f"teacher=hub:{name}#decoder"],
        [f"task.args.images={json.dumps(samples(name))}"],
        [f'teachers={{"other": "{name}"}}'],
    ):
        with pytest.raises(UserError, match=f"{name}: 0.0 GB, and at most 0.0 GB are fetched"):
            accept(override(preset("denoise"), settings), new_session(), runs)
    with pytest.raises(UserError, match="at most"):
        Models(runs).named(name, new_session())
    assert not Path(constants.HF_HUB_CACHE).exists()


def test_a_lora_is_not_fetched_whose_model_nobody_weighed(place: RunContext, tmp_path: Path, hub: Hub) -> None:
    hub.store.plant(name := place.name("lora"), {"config.json": b"{}", "pytorch_lora_weights.safetensors": b""})
    runs = Runs(Limits(folder=tmp_path), lambda *given: 0)
    with pytest.raises(
        UserError, match=r"holds pytorch_lora_weights.safetensors, a LoRA, which is opened with another"
    ):
        Models(runs).named(name, new_session())


@pytest.mark.parametrize("named", ["/etc/passwd", "../x", "run", "runs/x/run"])
def test_a_further_teacher_is_no_folder_of_the_machine(tmp_path: Path, named: str) -> None:
    runs = Runs(Limits(folder=tmp_path), lambda *given: 0)
    recipe = override(preset("denoise"), [f'teachers={{"other": "{named}"}}'])
    with pytest.raises(UserError, match=r"no model is called|no id of the Hub"):
        accept(recipe, new_session(), runs)


def samples(name: str) -> dict[str, object]:
    return {"name": "samples", "args": {"model": name}}


def test_what_was_weighed_is_what_a_run_fetches(student: Make, place: RunContext, tmp_path: Path, hub: Hub) -> None:
    name = published(student, place, tmp_path)
    runs = Runs(Limits(folder=tmp_path), lambda *given: 0)
    recipe = override(preset("denoise"), [f"teacher={name}", f"task.args.images={json.dumps(samples(name))}"])
    accepted = accept(recipe, new_session(), runs)
    commit = hub.store.repos["model", name].commit("main")
    assert accepted.teacher == f"hub:{name}@{commit}"
    assert accepted.task.args["images"] == samples(f"hub:{name}@{commit}")


def test_the_models_of_a_run_are_weighed_together(student: Make, place: RunContext, tmp_path: Path, hub: Hub) -> None:
    one, two = (published(student, place, tmp_path) for _ in range(2))
    repo = hub.store.repos["model", one]
    size = sum(file.size for path, file in repo.commits[repo.commit("main")].items() if publishable(path))
    runs = Runs(Limits(folder=tmp_path, download_bytes=size * 5 // 3), lambda *given: 0)
    once = override(preset("denoise"), [f"teacher={one}", f"task.args.images={json.dumps(samples(one))}"])
    accept(once, new_session(), runs)
    with pytest.raises(UserError, match=f"{two} and {one}: 0.0 GB"):
        accept(override(once, [f"task.args.images={json.dumps(samples(two))}"]), new_session(), runs)
