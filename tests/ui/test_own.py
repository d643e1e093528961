"""What visitors bring: hostile files, other people's, and what is kept of them and for how long."""

import json
import os
import stat
import struct
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kdgen import registry
from kdgen.models.loading import BUNDLED
from kdgen.presets import preset
from kdgen.recipe import override, read
from kdgen.registry import Spec
from kdgen.types import UserError
from kdgen.ui import own, picture_files, teacher_files
from kdgen.ui.bring import declaration
from kdgen.ui.gallery import teacher_of
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.runs import Runs
from kdgen.ui.visitors import accept, resolve

MOST = 5_000_000
MINE, OTHER = new_session(), new_session()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "kept"
    made.mkdir()
    return made


@pytest.fixture
def runs(tmp_path):
    made = Runs(Limits(folder=tmp_path / "app"), lambda *command: 0, workers=0)
    yield made
    made.close()


class Inline:
    """Answers in this process."""

    def call(self, name, *args):
        from kdgen.ui.answering import CALLS

        return CALLS[name](*args)

    def end(self):
        pass


@pytest.fixture
def models(runs):
    made = Models(runs)
    made.worker = made.questions.worker = Inline()
    yield made
    made.end()


def zipped(path, files, **changed):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changed.items():
                setattr(entry, key, value)
            archive.writestr(entry, data)
    return path


def student_files():
    return {name: (BUNDLED / "denoiser" / name).read_bytes() for name in ("config.json", "model.safetensors")}


def weights(path, **args):
    torch.manual_seed(0)
    save_file(registry.build("net", Spec(name="dncnn", args=args)).state_dict(), path)
    return path


# -- zips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "../config.json", "/etc/config.json", "a/../../config.json", "..\\config.json", "C:/config.json", "a/./config.json",
    "config.json\x01",
])  # fmt: skip
def test_paths_in_a_zip_lead_nowhere_else(tmp_path, folder, name):
    hostile = zipped(tmp_path / "a.zip", {**student_files(), name: b"{}"})
    with pytest.raises(UserError, match="leads elsewhere"):
        teacher_files.unpack(hostile, folder, MOST)
    assert list(tmp_path.iterdir()) == [hostile, folder] or set(tmp_path.iterdir()) == {hostile, folder}
    assert not list(folder.iterdir())


def test_links_in_a_zip_are_refused(tmp_path, folder):
    link = (stat.S_IFLNK | 0o777) << 16
    hostile = zipped(tmp_path / "a.zip", {"config.json": b"/etc/passwd", "model.safetensors": b"x"}, external_attr=link)
    with pytest.raises(UserError, match="a link"):
        teacher_files.unpack(hostile, folder, MOST)


def test_a_zip_bomb_is_not_unpacked(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": b"{}", "model.safetensors": bytes(50_000_000)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="more than 5 MB"):
        teacher_files.unpack(bomb, folder, MOST)
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= MOST + teacher_files.CHUNK


def test_a_configuration_that_is_a_bomb_is_not_unpacked(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": bytes(4_000_000), "model.safetensors": b"x"})
    with pytest.raises(UserError, match="1 MB"):
        teacher_files.unpack(bomb, folder, MOST)


def test_a_size_that_lies_is_found_out(tmp_path, folder):
    bomb = zipped(tmp_path / "a.zip", {"config.json": b"{}", "model.safetensors": bytes(50_000_000)})
    data = bytearray(bomb.read_bytes())
    data = data.replace(struct.pack("<I", 50_000_000), struct.pack("<I", 10))
    bomb.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        teacher_files.unpack(bomb, folder, MOST)


def test_many_files_one_twice_nonsense_and_passwords(tmp_path, folder):
    many = zipped(tmp_path / "a.zip", {**student_files(), **{f"{number}.txt": b"" for number in range(100)}})
    with pytest.raises(UserError, match="102 files"):
        teacher_files.unpack(many, folder, MOST)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, data in student_files().items():
            archive.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", b"{}")
    with pytest.raises(UserError, match="twice"):
        teacher_files.unpack(tmp_path / "b.zip", folder, MOST)
    for text in (b"", b"PK\x03\x04" + bytes(100), b"not a zip"):
        (tmp_path / "c.zip").write_bytes(text)
        with pytest.raises(UserError, match="damaged"):
            teacher_files.unpack(tmp_path / "c.zip", folder, MOST)
    locked = zipped(tmp_path / "d.zip", student_files())
    data = bytearray(locked.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(magic)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(magic, at + 4)
    locked.write_bytes(data)
    with pytest.raises(UserError, match="password"):
        teacher_files.unpack(locked, folder, MOST)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "model.ckpt"])
def test_pickles_in_a_zip_are_never_opened(tmp_path, folder, name):
    hostile = zipped(tmp_path / "a.zip", {"config.json": b"{}", name: b"cos\nsystem\n(S'touch /tmp/pwned'\ntR."})
    with pytest.raises(UserError, match="may run code"):
        teacher_files.keep([hostile], None, MOST, folder)


def test_of_a_zip_nothing_but_a_model_is_kept(tmp_path, folder):
    files = {f"mine/{name}": data for name, data in student_files().items()}
    more = {"mine/evil.py": b"import os", "mine/__init__.py": b"", "mine/README.md": b"x", "mine/a.bin": b"x"}
    about = teacher_files.keep([zipped(tmp_path / "mine.zip", {**files, **more})], None, MOST, folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (about.kind, about.name, about.task) == ("teacher", "mine", "denoise")


# -- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "line"), [
    (b"", "no safetensors"),
    (struct.pack("<Q", 2**63), "no safetensors"),
    (struct.pack("<Q", 90) + b"{}", "no safetensors"),
    (struct.pack("<Q", 4_000_001) + b" " * 4_000_001, "header of 4,000,001"),
    (struct.pack("<Q", 2) + b"[]", "no safetensors"),
    (struct.pack("<Q", 2) + b"{}", "damaged"),
    (struct.pack("<Q", 100_000) + b"[" * 100_000, "no safetensors"),
    (b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR.", "no safetensors"),
])  # fmt: skip
def test_headers_of_weights_are_judged(tmp_path, folder, data, line):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=line):
        teacher_files.keep([tmp_path / "a.safetensors"], {"net": {"name": "dncnn"}}, MOST, folder)


@pytest.mark.parametrize("offsets", [[0, 2**60], [-8, 0], [8, 0], [0, 1.5], "ab", [0], None, [True, True]])
def test_offsets_that_lead_out_of_the_file(tmp_path, folder, offsets):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(UserError):
        teacher_files.keep([tmp_path / "a.safetensors"], {"net": {"name": "dncnn"}}, MOST, folder)


@pytest.mark.parametrize("name", ["a.pt", "a.bin", "a.onnx", "a.py", "a.safetensors.pkl"])
def test_other_files_are_refused(tmp_path, folder, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match="safetensors alone"):
        teacher_files.keep([tmp_path / name], None, MOST, folder)


@pytest.mark.parametrize("args", [{"width": 10**6}, {"depth": 10**9}, {"width": [1, 10**7]}, {"config": "../../x"},
                                  {"model": "denoiser"}])  # fmt: skip
def test_nets_of_any_size_are_not_built(tmp_path, folder, args):
    file = weights(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"at most|path|argument"):
        teacher_files.keep([file], {"net": {"name": "dncnn", "args": args}}, MOST, folder)
    config = {"kdgen": "1", "name": "a", "channels": 1, "net": {"name": "dncnn", "args": args}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"at most|path|argument"):
        teacher_files.keep([file, tmp_path / "config.json"], None, MOST, folder)


@pytest.mark.parametrize("file", ["/etc/passwd", "../../secret.safetensors", "~/x.pt"])
def test_a_declaration_names_no_other_file(tmp_path, folder, file):
    net = {"name": "dncnn", "args": {"depth": 3, "width": 8}}
    (tmp_path / "mine.json").write_text(json.dumps({"file": file, "net": net}))
    teacher_files.keep(
        [weights(tmp_path / "a.safetensors", depth=3, width=8), tmp_path / "mine.json"], None, MOST, folder
    )
    assert json.loads((folder / own.DECLARATION).read_text())["file"] == "model.safetensors"


def test_what_is_declared_is_tried_and_said_without_paths(tmp_path, folder):
    file = weights(tmp_path / "mine.safetensors", depth=3, width=8)
    with pytest.raises(UserError) as refused:
        teacher_files.keep([file], declaration("dncnn", "depth=4, width=8", "[0, 1]", "residual", ""), MOST, folder)
    assert "missing" in str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    with pytest.raises(UserError, match="no net of the list"):
        declaration("os.system", "", "[0, 1]", "image", "")
    about = teacher_files.keep([file], declaration("dncnn", "depth=3, width=8", "[0, 1]", "residual", ""), MOST, folder)
    assert about.name == "mine"


def test_a_wrong_reading_is_refused_with_the_figures(tmp_path, folder):
    config = json.loads((BUNDLED / "denoiser" / "config.json").read_text())
    args = ", ".join(f"{name}={json.dumps(value)}" for name, value in config["net"]["args"].items())
    family, file = config["net"]["name"], BUNDLED / "denoiser" / "model.safetensors"
    with pytest.raises(UserError, match=r"dB; range .* gives .* dB"):
        teacher_files.keep([file], declaration(family, args, "[0, 1]", "residual", ""), MOST, folder)


# -- whose it is, and for how long ---------------------------------------------------------------------------------


def brought(models, tmp_path, session=MINE):
    upload = zipped(tmp_path / "mine.zip", student_files())
    name, _ = models.bring([upload], None, session)
    assert not upload.exists()
    return name


def photographs(tmp_path, count=5, side=80):
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.effect_noise((side, side), 60).save(path)
    return paths


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


def test_pictures_are_written_anew_and_bounded(tmp_path, folder):
    paths = photographs(tmp_path)
    Image.effect_noise((1500, 1000), 60).save(paths[0])
    paths[1].write_bytes(paths[1].read_bytes() + b"<script>")
    picture_files.keep(paths, Limits(), folder)
    with Image.open(folder / "000.png") as image:
        assert image.width * image.height <= Limits().pixels
    assert b"<script>" not in (folder / "001.png").read_bytes()
    for wrong in (paths[:4], paths * 50):
        with pytest.raises(UserError, match="5 to 200"):
            picture_files.keep(wrong, Limits(), folder)
    paths[2].write_text("<svg/>")
    with pytest.raises(UserError, match=r"2\.png: this is no PNG"):
        picture_files.keep(paths, Limits(), folder)
    small = photographs(tmp_path, side=40)
    with pytest.raises(UserError, match="64 a side"):
        picture_files.keep(small, Limits(), folder)


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
