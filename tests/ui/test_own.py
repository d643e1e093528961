"""What visitors bring: hostile files, other people's, and what is kept of them and for how long."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from bringing import photographs, student_files, weights, zipped

from kdgen.presets import preset
from kdgen.recipe import override, read
from kdgen.types import UserError
from kdgen.ui import own
from kdgen.ui.bring import declaration
from kdgen.ui.gallery import teacher_of
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.visitors import accept, resolve

MINE, OTHER = new_session(), new_session()


def brought(models, tmp_path, session=MINE):
    upload = zipped(tmp_path / "mine.zip", student_files())
    name, _ = models.bring([upload], None, session)
    assert not upload.exists()
    return name


def test_another_session_can_never_name_it(models, runs, tmp_path):
    name = brought(models, tmp_path)
    assert models.named(name, MINE)[1].startswith(str(runs.own.folder.resolve() / owner_of(MINE)))
    hostile = [name, f"{name}#decoder", f"./own/{name[4:]}", f"../own/{owner_of(MINE)}/{name[4:]}",
               f"own:../{owner_of(MINE)}/{name[4:]}", f"own:{name[4:]}/", "own:", "own:*", "own:" + "0" * 16,
               str(runs.own.folder / owner_of(MINE) / name[4:])]  # fmt: skip
    for reference in hostile:
        with pytest.raises(UserError):
            models.named(reference, OTHER)
        with pytest.raises(UserError):
            accept(override(preset("denoise"), [f"teacher={json.dumps(reference)}"]), OTHER, runs)
    for reference in hostile[2:]:
        with pytest.raises(UserError):
            models.named(reference, MINE)


def test_a_run_has_a_copy_that_goes_with_it(models, runs, tmp_path):
    name = brought(models, tmp_path)
    recipe = accept(override(preset("denoise"), [f"teacher={json.dumps(name)}"]), MINE, runs)
    assert recipe.teacher == f"./own/{name[4:]}"
    job = runs.submit(recipe, MINE)
    home = runs.home(job)
    found = read(home / "recipe.json")
    assert found.teacher == str(home.absolute() / "own" / name[4:])
    assert (Path(found.teacher) / "model.safetensors").is_file()
    (home / "run").mkdir()
    (home / "run" / "recipe.json").write_text(found.to_json())
    assert teacher_of(runs, job) == name
    place = runs.own.folder / owner_of(MINE) / name[4:]
    os.utime(place, (time.time() - own.KEPT_SECONDS - 5,) * 2)
    runs.own.sweep()
    assert not place.exists()
    assert models.named(name, MINE)[1] == found.teacher
    with pytest.raises(UserError):
        models.named(name, OTHER)
    runs.stop(job.id, MINE)
    runs.delete(job.id, MINE)
    assert not home.exists()
    with pytest.raises(UserError, match="bring it again"):
        models.named(name, MINE)


def on(reference, **more):
    return {"name": "folder", "args": {"path": reference, **more}}


def test_folders_are_those_that_the_session_brought_and_no_others(models, runs, tmp_path):
    name, about = models.bring_pictures(photographs(tmp_path), MINE)
    assert about.count == 5
    plain = preset("denoise")

    def asked(source, session, key="images"):
        return accept(override(plain, [f"task.args.{key}={json.dumps(source)}"]), session, runs)

    assert asked(on(name), MINE).task.args["images"] == on(f"./own/{name[4:]}")
    with pytest.raises(UserError, match="bring"):
        asked(on(name), OTHER)
    teacher = brought(models, tmp_path)
    for source in (on("/etc"), on("."), on(f"./own/{name[4:]}"), on("own:../x"), on(name, max_gib=99), on(teacher),
                   {"name": "image_folder", "args": {"path": name}}, {**on(name), "code": "x"}, {"name": "folder"},
                   {"name": "pairs", "args": {"damaged": name, "clean": name}}, on([name]), on({"a": name})):  # fmt: skip
        for key in ("images", "evaluate"):
            with pytest.raises(UserError):
                asked(source, MINE, key)
    with pytest.raises(UserError):
        accept(override(plain, [f"teacher={json.dumps(name)}"]), MINE, runs)
    job = runs.submit(asked(on(name), MINE), MINE)
    assert len(list((runs.home(job) / "own" / name[4:]).glob("*.png"))) == 5


def test_nothing_is_left_of_what_is_refused_and_a_session_is_bounded(models, runs, tmp_path):
    paths = photographs(tmp_path)
    paths[3].write_text("no picture")
    with pytest.raises(UserError, match="no PNG"):
        models.bring_pictures(paths, MINE)
    assert not any(path.exists() for path in paths)
    assert not [path for path in runs.own.folder.rglob("*") if path.is_file()]
    for _ in range(own.EACH):
        models.bring_pictures(photographs(tmp_path), MINE)
    with pytest.raises(UserError, match="kept for an hour"):
        models.bring_pictures(photographs(tmp_path), MINE)
    models.bring_pictures(photographs(tmp_path), OTHER)
    runs.own.limits = replace(runs.limits, own_bytes=10)
    with pytest.raises(UserError, match="kept for an hour"):
        models.bring_pictures(photographs(tmp_path), OTHER)


def test_what_is_made_of_it_is_cached_beside_the_run(tmp_path):
    from kdgen.ui.process import execute

    script = "import os; print(os.environ.get('KDGEN_CACHE'))"
    for brings in (False, True):
        home = tmp_path / str(brings)
        (home / "own").mkdir(parents=True) if brings else home.mkdir()
        execute(["python3", "-c", script], home, 30, env={**os.environ, "KDGEN_CACHE": "/shared"})
        cache = (home / "events.jsonl").read_text().strip()
        assert cache == (str(home.resolve() / "own" / "cache") if brings else "/shared")


def test_paths_are_for_who_is_trusted(runs, monkeypatch, tmp_path):
    with pytest.raises(UserError):
        resolve("/etc/passwd", MINE, runs)
    runs.limits = replace(runs.limits, trusted=True)
    assert resolve("/home/me/model", MINE, runs) == "/home/me/model"
    monkeypatch.setenv("KDGEN_APP_TRUSTED", "1")
    assert Limits.read().trusted
    monkeypatch.setenv("SPACE_ID", "a/b")
    with pytest.raises(UserError, match="a Space"):
        Limits.read()


def test_a_job_of_an_unfinished_folder_names_nothing(runs):
    reference, place = runs.own.begin(MINE)
    (place / "config.json").write_text("{}")
    with pytest.raises(UserError):
        resolve(reference, MINE, runs)
    runs.own.finish(place, None)
    assert not place.exists()


def test_a_teacher_that_was_refused_is_asked_for_anew_without_another_upload(models, tmp_path):
    file = weights(tmp_path / "mine.safetensors", depth=3, width=8)
    with pytest.raises(UserError, match="missing"):
        models.bring([file], declaration("dncnn", "depth=4, width=8", "[0, 1]", "residual", ""), MINE)
    models.bring([file], declaration("dncnn", "depth=3, width=8", "[0, 1]", "residual", ""), MINE)
    assert not file.exists()


def test_a_recipe_is_called_what_files_can_be_called(runs):
    assert accept(override(preset("denoise"), ["name=" + "x" * 119]), MINE, runs).name
    with pytest.raises(UserError, match="120 bytes"):
        accept(override(preset("denoise"), ["name=" + "\u540d" * 110]), MINE, runs)
