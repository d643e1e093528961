"""What recipes name on this machine: beside themselves, from wherever they are read."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from support import call, drain

from kdgen.hub.parcel import packed
from kdgen.models.model import load
from kdgen.recipe import Recipe, read
from kdgen.registry import Spec, _registered, arguments, build, names
from kdgen.training.run import distill, resume
from kdgen.types import UserError
from kdgen.utils.references import FilePath, _hints, renamed

CHAIN = {"name": "dncnn", "args": {"depth": 3, "width": 4, "channels": 1}}


@pytest.fixture
def project(tmp_path: Path, make: Callable[..., Recipe], monkeypatch: Any) -> Path:
    """A recipe that names all it can beside itself; the current folder is another one."""
    recipe = json.loads(make("steps=2", "controls=false").to_json())
    torch.manual_seed(0)
    net = build("net", Spec.model_validate({**CHAIN, "args": {**CHAIN["args"], "predicts": "image"}}))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    recipe["teacher"] = {"file": "net.pth", "net": CHAIN}
    recipe["task"]["args"]["images"] = {
        "name": "mixture", "args": {"sources": [{"name": "folder", "args": {"path": "pictures"}}]},
    }  # fmt: skip
    recipe["task"]["args"]["evaluate"] = {"name": "folder", "args": {"path": "./pictures"}}
    recipe["cache"]["dir"] = "cache"
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_a_recipe_names_what_lies_beside_it(project: Path) -> None:
    assert call("distill", "../recipe.json", "--out", "run", "--quiet") == 0
    kept = read(Path("run/recipe.json"))
    assert kept.teacher.file == str(project / "net.pth")
    assert (project / "cache").is_dir()
    assert not (project / "elsewhere" / "cache").exists()


def test_a_run_is_resumed_from_anywhere(project: Path, monkeypatch: Any) -> None:
    drain(distill(read(Path("../recipe.json")), "run"))
    monkeypatch.chdir("/")
    assert [event.kind for event in resume(project / "elsewhere" / "run")][-1] == "done"
    (project / "elsewhere" / "run" / "student" / "config.json").unlink()
    assert [event.kind for event in resume(project / "elsewhere" / "run")][-1] == "done"
    assert call("evaluate", str(project / "elsewhere" / "run")) == 0


def test_what_a_run_tells_others_names_no_place_of_this_machine(project: Path) -> None:
    assert call("distill", "../recipe.json", "--out", "run", "--quiet") == 0
    for name in ("report.md", "report.json", "student/README.md", "student/config.json"):
        assert str(project) not in Path("run", name).read_text(encoding="utf-8"), name
    with TemporaryDirectory() as folder:
        sent = packed(Path("run"), Path(folder), repo="org/name")
        for path in Path(folder).rglob("*.*"):
            assert str(project).encode() not in path.read_bytes(), path.name
        assert sent.recipe is not None
        assert sent.recipe.task.args["evaluate"]["args"]["path"] == "pictures"


def test_a_moved_run_is_still_resumed(project: Path) -> None:
    drain(distill(read(Path("../recipe.json")), "run"))
    (project / "far" / "away").mkdir(parents=True)
    (project / "elsewhere" / "run").rename(project / "far" / "away" / "run")
    assert [event.kind for event in resume(project / "far" / "away" / "run")][-1] == "done"


def test_what_is_set_on_the_command_line_lies_in_the_current_folder(project: Path) -> None:
    (project / "elsewhere" / "own").mkdir()
    assert call("distill", "../recipe.json", "--out", "run", "--quiet", "--set", "cache.dir=own") == 0
    assert read(Path("run/recipe.json")).cache.dir == str(project / "elsewhere" / "own")


def written(folder: Path, **changes: Any) -> Path:
    data = {"name": "t", "task": {"name": "denoise"}, "student": CHAIN, "steps": 1, **changes}
    (folder / "r.json").write_text(json.dumps(data))
    return folder / "r.json"


@pytest.mark.parametrize(
    ("teacher", "place"),
    [
        ("student", "student"),
        ("./nothing", "nothing"),
        ("../student#decoder", "../student#decoder"),
        ("runs/late", "runs/late"),
        ("student/config.json", "student/config.json"),
        ("denoiser", None),
        ("vae#encoder", None),
        ("org/name", None),
        ("hub:runs/late", None),
        ("pictures", None),
    ],
)
def test_a_model_is_meant_beside_the_recipe_where_it_can_be(tmp_path: Path, teacher: str, place: str | None) -> None:
    for folder in ("student", "runs", "pictures"):
        (tmp_path / folder).mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    found = read(written(tmp_path, teacher=teacher)).teacher
    assert found == (teacher if place is None else str((tmp_path / place).resolve()))


@pytest.mark.parametrize(
    ("init", "place"),
    [
        ("../other-run", "../other-run"),
        ("~/x", "home/x"),
        ("student", "student"),
        ("random", None),
        ("teacher", None),
        ("denoiser", None),
    ],
)
def test_first_weights_lie_beside_the_recipe(tmp_path: Path, monkeypatch: Any, init: str, place: str | None) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("student", "random", "teacher"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text("{}")
    wanted = init if place is None else str((tmp_path / place).resolve())
    recipe = read(written(tmp_path, teacher="denoiser", init=init, assistants=[{"student": CHAIN, "init": init}]))
    assert [recipe.init, recipe.assistants[0].init] == [wanted, wanted]


def test_a_declared_start_lies_beside_the_recipe(tmp_path: Path) -> None:
    init = {"file": "net.pth", "net": CHAIN}
    assert read(written(tmp_path, init=init)).init.file == str(tmp_path / "net.pth")


def test_a_student_goes_on_from_a_run_beside_its_recipe(project: Path) -> None:
    assert call("distill", "../recipe.json", "--out", "../first", "--quiet") == 0
    (project / "more").mkdir()
    recipe = json.loads((project / "first" / "recipe.json").read_text())
    (project / "more" / "recipe.json").write_text(json.dumps({**recipe, "init": "../first"}))
    assert call("distill", "../more/recipe.json", "--out", "run", "--quiet") == 0
    assert read(Path("run/recipe.json")).init == str(project / "first")
    assert str(project) not in Path("run/student/README.md").read_text(encoding="utf-8")


def test_a_tilde_is_the_users(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    recipe = read(written(tmp_path, teacher="~/nets/a", cache={"dir": "~/caches"}))
    assert (recipe.teacher, recipe.cache.dir) == (str(tmp_path / "home/nets/a"), str(tmp_path / "home/caches"))
    with pytest.raises(UserError, match=str(tmp_path / "home/nets/a.pth")):
        load({"file": "~/nets/a.pth", "net": CHAIN})


def test_a_declaration_names_what_lies_beside_it_and_nothing_else(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "here").mkdir()
    torch.save(build("net", Spec.model_validate(CHAIN)).state_dict(), tmp_path / "here" / "net.pth")
    (tmp_path / "net.json").write_text(json.dumps({"file": "net.pth", "net": CHAIN}))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=f"no weights file at {tmp_path / 'net.pth'}"):
        load("../net.json")


@pytest.mark.parametrize("wrapper", ["views", "harden"])
def test_a_wrapped_task_names_what_lies_beside_the_recipe(wrapper: str, tmp_path: Path) -> None:
    inner = {"name": "denoise", "args": {"images": {"name": "folder", "args": {"path": "pictures"}}}}
    task = {"name": wrapper, "args": {"task": inner}}
    kept = read(written(tmp_path, task=task, teacher="denoiser")).task.args["task"]
    assert kept["args"]["images"]["args"]["path"] == str(tmp_path / "pictures")


def test_every_mark_is_found_and_nothing_is_a_path_by_its_looks(tmp_path: Path, monkeypatch: Any) -> None:
    class ArrayStore:
        def __init__(self, folders: list[FilePath], title: str, other: FilePath | None = None) -> None: ...

    monkeypatch.setitem(_registered["images"], "shelf", ArrayStore)
    args = {"folders": ["a", "b"], "title": "./c", "other": "d"}
    task = {
        "name": "decode",
        "args": {"encoder": {"file": "e.pth", "net": CHAIN}, "images": {"name": "shelf", "args": args}},
    }
    methods = [{"name": "perceptual", "args": {"features": name}} for name in ("features32", "f.pth")]
    recipe = read(written(tmp_path, task=task, teacher="denoiser", stages=[{"methods": methods}]))
    seen: list[tuple[str, str]] = []

    def note(what: str, text: str) -> str:
        seen.append((what, Path(text).name))
        return text

    renamed(recipe, note)
    assert seen == [
        ("path", "e.pth"),
        ("path", "a"),
        ("path", "b"),
        ("path", "d"),
        ("model", "denoiser"),
        ("path", "f.pth"),
    ]


def test_what_stands_in_a_list_beside_a_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    for given, found in ((["red heart", "./a"], ["red heart", "./a"]), ("p.txt", str(tmp_path / "p.txt"))):
        task = {"name": "latent_diffusion", "args": {"model": "pipeline", "prompts": given}}
        args = read(written(tmp_path, task=task, teacher="denoiser")).task.args
        assert args == {"model": str(tmp_path / "pipeline"), "prompts": found}


def test_every_bundled_source_says_what_names_files() -> None:
    marks = {name: set(_hints("images", name)) for name in names("images")}
    named = {"path", "damaged", "clean", "images", "labels", "model", "embeddings"}
    assert {name: set(arguments("images", name)) & named for name in marks} == marks
