"""The named endpoints, as a program calls them."""

import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from bringing import zipped
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from serving import TINY, ended

import kdgen
from kdgen.models.model import Model, build_net
from kdgen.presets import preset
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.ui.job import new_session


def test_a_program_distils_and_compares(client, finished, tmp_path):
    run, session = finished.run, finished.session
    assert finished.begun["session"] == session
    assert finished.begun["state"] in ("queued", "running")
    roles = [row["role"] for row in finished.done["report"]["rows"]]
    assert roles == ["input", "teacher", "student"]

    zipped = client.predict(run, session, api_name="/student")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "student")
    assert kdgen.load(tmp_path / "student").task["name"] == "denoise"

    for format in ("int8", "safetensors-fp16"):
        file, parity = client.predict(run, session, format, api_name="/export")
        assert Path(file).stat().st_size > 1000
        assert (parity["format"], len(parity["agreement"]) > 0) == (format, True)
        assert parity["max_abs_error"] < (0.5 if format == "int8" else 0.01)
    with pytest.raises(
        AppError, match="a student is exported as onnx, onnx-fp16, int8, ncnn, safetensors-fp16, not as 'exe'"
    ):
        client.predict(run, session, "exe", api_name="/export")

    photo = tmp_path / "photo.png"
    Image.effect_noise((96, 64), 40).save(photo)
    report, picture = client.predict(
        f"denoiser,run:{run}", handle_file(photo), 25, 0, 16, 1, session, api_name="/compare"
    )
    assert [row["role"] for row in report["rows"]] == ["teacher", "model"]
    assert all(row["latency_ms"] > 0 and row["macs"] > 0 and row["metrics"]["psnr"] > 5 for row in report["rows"])
    path = picture["path"] if isinstance(picture, dict) else picture
    with Image.open(path) as image:
        assert image.width > image.height * 0.5


def test_the_endpoints_are_documented(client):
    told = client.view_api(return_format="dict")["named_endpoints"]
    assert set(told) == {"/presets", "/distill", "/status", "/runs", "/stop", "/resume", "/delete", "/student", "/export",
                         "/compare", "/teacher"}  # fmt: skip
    assert [p["parameter_name"] for p in told["/status"]["parameters"]] == ["run", "session"]
    for name, endpoint in told.items():
        for parameter in endpoint["parameters"]:
            assert len(parameter["python_type"]["description"]) > 5, f"{name}: {parameter['parameter_name']}"
    assert client.predict(api_name="/presets")["denoiser"]["denoise"].startswith("A small grey denoiser")


def test_a_program_brings_a_teacher_and_gets_a_recipe_of_it(client, session, tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx_files import style

    style(tmp_path / "a.onnx", end="clip", wasted=64, more=True)
    file = handle_file(tmp_path / "a.onnx")
    with pytest.raises(AppError, match=r"a.onnx reads more than an image"):
        client.predict(file=file, session=session, api_name="/teacher")
    told = client.predict(file=file, declaration='{"inputs": {"strength": 1}}', session=session, api_name="/teacher")
    assert (told["name"], told["task"], told["session"]) == ("a", "translate", session)
    recipe = parse(told["recipe"])
    assert (recipe.teacher, recipe.task.name) == (told["teacher"], "translate")
    begun = client.predict(recipe=told["recipe"], session=session, api_name="/distill")
    client.predict(run=begun["run"], session=session, api_name="/stop")
    with pytest.raises(AppError, match="this JSON is no object"):
        client.predict(file=file, declaration="[]", session=session, api_name="/teacher")


def test_a_program_says_how_strong_damage_is_and_what_is_missing(client, session, tmp_path):
    names = []
    for number in range(2):
        torch.manual_seed(number)
        args = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True, "mask": True}
        net, use = build_net(Spec(name="unet", args=args), 3)
        facts = {"name": "restore", "damages": ["mask"]}
        Model(net.eval(), name=f"it{number}", channels=3, use=use, task=facts).save(tmp_path / str(number))
        files = {path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()}
        packed = handle_file(zipped(tmp_path / f"{number}.zip", files))
        names.append(client.predict(file=packed, session=session, api_name="/teacher")["teacher"])
    Image.effect_noise((96, 64), 40).save(tmp_path / "photo.png")
    mask = Image.new("L", (96, 64))
    mask.paste(255, (0, 0, 48, 64))
    mask.save(tmp_path / "mask.png")
    mask.resize((48, 32)).save(tmp_path / "small.png")
    whole = {"names": ",".join(names), "photograph": handle_file(tmp_path / "photo.png"), "session": session,
             "api_name": "/compare"}  # fmt: skip
    sheets = [picture_of(client.predict(**whole, **more)[1]) for more in (
        {"mask": handle_file(tmp_path / "mask.png")}, {"mask": handle_file(tmp_path / "mask.png"), "seed": 1},
        {"strength": 0}, {"strength": 1},
    )]  # fmt: skip
    assert sheets[0] == sheets[1], "nothing is left to chance"
    assert len(set(sheets)) == 3
    with pytest.raises(AppError, match="the mask is not as large as the picture"):
        client.predict(**whole, mask=handle_file(tmp_path / "small.png"))
    with pytest.raises(AppError, match="strength is a share in"):
        client.predict(**whole, strength=2)
    with pytest.raises(AppError, match="none of these models is told what is missing"):
        client.predict(**{**whole, "names": "denoiser,gan"}, mask=handle_file(tmp_path / "mask.png"))


def picture_of(answer):
    path = answer["path"] if isinstance(answer, dict) else answer
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def test_a_run_is_its_sessions_alone(client, session, server):
    begun = client.predict(preset="denoise", seconds=300, settings=TINY, session=session, api_name="/distill")
    stranger = client.predict(preset="gan", seconds=1, api_name="/distill")
    for what in ("/status", "/stop", "/delete", "/resume"):
        with pytest.raises(AppError, match="no such run"):
            client.predict(run=begun["run"], session=stranger["session"], api_name=what)
    with pytest.raises(AppError, match="no such run"):
        client.predict(f"gan,run:{begun['run']}", None, 25, 0, 16, 1, stranger["session"], api_name="/compare")
    client.predict(run=stranger["run"], session=stranger["session"], api_name="/stop")
    with pytest.raises(AppError, match="no such run"):
        client.predict(begun["run"], stranger["session"], "onnx", api_name="/export")
    assert client.predict(session=new_session(), api_name="/runs") == []
    client.predict(run=begun["run"], session=session, api_name="/stop")
    assert ended(client, begun["run"], session)["state"] == "stopped"
    listed = client.predict(session=session, api_name="/runs")
    assert [(each["run"], each["state"]) for each in listed] == [(begun["run"], "stopped")]
    with pytest.raises(AppError, match="not done, it is stopped"):
        client.predict(begun["run"], session, "onnx", api_name="/export")
    assert client.predict(run=begun["run"], session=session, api_name="/resume")["state"] == "queued"
    client.predict(run=begun["run"], session=session, api_name="/stop")
    assert ended(client, begun["run"], session)["state"] == "stopped"
    for path in ("job.json", "recipe.json", "run/recipe.json"):
        file = server.folder.resolve() / "runs" / begun["run"] / path
        assert _status(f"{server.url}/gradio_api/file={file}") in (403, 404)
    assert _status(f"{server.url}/gradio_api/file=/etc/passwd") in (403, 404)
    assert _status(f"{server.url}/gradio_api/file={Path(kdgen.__file__)}") in (403, 404)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "../../etc/passwd"}, "no preset"),
        ({"settings": "teacher=../../../etc"}, "no model is called|no id of the Hub"),
        ({"settings": "teacher=hub:../../x"}, "no id of the Hub"),
        ({"settings": "init=../../../etc"}, "no model is called|no id of the Hub"),
        ({"settings": 'init={"file": "x.pth", "net": {"name": "dncnn"}}'}, "file of this machine"),
        ({"settings": "cache.dir=/tmp"}, "cache.dir"),
        ({"settings": "device=cuda:0"}, "device"),
        (
            {"settings": 'task.args.images={"name":"folder","args":{"path":"/etc"}}'},
            "nothing of that name that you brought",
        ),
        ({"settings": "batch_size=100000"}, "batch_size is at most"),
        ({"settings": "no_such_key=1"}, "no key|unknown key"),
        ({"seconds": 1e9}, "may train for"),
        ({"steps": 10**9}, "may train for"),
        ({"recipe": "{"}, "no JSON"),
        ({"recipe": "[" * 5000}, "no JSON"),
        ({"recipe": "x" * 1_000_000}, "longer than"),
        ({"recipe": preset("denoise").to_json().replace('"seed": 0,', '"sead": 0,', 1)}, "unknown key"),
        ({"session": "../../x"}, "no session"),
        ({"settings": "seed=" + "9" * 5000}, "seed"),
        ({"settings": "batch_size=" + "[" * 5000}, "batch_size"),
        ({"settings": "stages.²=1"}, "not one of its"),
        ({"settings": "x" * 1_000_000}, "longer than"),
        ({"settings": "student.args.depth=1e9"}, "depth is at most"),
        ({"settings": "task.args.num_steps=1000"}, "num_steps is at most 100"),
        (
            {"settings": 'stages.0.methods=[{"name": "score_identity", "args": {"steps": 5000}}]'},
            "steps is at most 100",
        ),
        ({"settings": "stages.0.weight_decay=1e300"}, "weight_decay is at most"),
        ({"recipe": preset("denoise").to_json().replace('"seed": 0,', '"seed": NaN,', 1)}, "seed"),
        ({"recipe": preset("denoise").to_json().replace('"sigma": 25', '"sigma": Infinity', 1)}, "sigma"),
    ],
)
def test_hostile_recipes_are_refused_politely(client, arguments, said):
    with pytest.raises(AppError, match=said):
        client.predict(**{"preset": "denoise", "seconds": 2.0, **arguments}, api_name="/distill")


def test_hostile_comparisons_are_refused_politely(client, session):
    whole = {"names": "gan,run:0123456789ab", "photograph": None, "sigma": 25, "seed": 0, "num_images": 16,
             "num_steps": 1, "session": session}  # fmt: skip
    for arguments, said in (
        ({"sigma": -5}, "sigma is a number in"),
        ({"sigma": 1e9}, "sigma is a number in"),
        ({"seed": 10**40}, "seed is a number in"),
        ({"num_images": 10**9}, "num_images is a number in"),
        ({"num_steps": 100_000}, "num_steps is a number in"),
        ({"names": ",".join(f"acme/net-{number}" for number in range(7))}, "at most 6 models"),
        ({"names": "denoiser,../../etc"}, "no id of the Hub"),
        ({"session": "x"}, "no session"),
    ):
        with pytest.raises(AppError, match=said):
            client.predict(*{**whole, **arguments}.values(), api_name="/compare")


def test_what_names_no_run_is_refused_politely(client, session):
    for what in ("/status", "/stop", "/delete", "/student"):
        for run in ("../..", "x" * 100_000, None, 5, ["a"]):
            with pytest.raises(AppError, match="no such run"):
                client.predict(run, session, api_name=what)


def test_many_callers_at_once_leave_every_run_in_one_state(client, server, session):
    """Of eight that begin a run of a session at once two get one; of six that delete it one does; the line goes on."""

    def together(count, *arguments, **more):
        def one(_):
            try:
                return client.predict(*arguments, session=session, **more)
            except AppError as error:
                return str(error)

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    answers = together(8, preset="denoise", seconds=300, settings=TINY, api_name="/distill")
    begun = [answer["run"] for answer in answers if isinstance(answer, dict)]
    assert len(begun) == 2
    assert all("2 runs" in answer for answer in answers if isinstance(answer, str))
    for run in reversed(begun):
        together(6, run=run, api_name="/stop")
        assert ended(client, run, session)["state"] == "stopped"
    for run in begun:
        answers = together(6, run=run, api_name="/delete")
        assert sorted(isinstance(answer, dict) for answer in answers) == [False] * 5 + [True]
        assert not (server.folder / "runs" / run).exists()
    last = client.predict(preset="denoise", seconds=300, settings=TINY, session=session, api_name="/distill")["run"]
    while (state := client.predict(last, session, api_name="/status")["state"]) == "queued":
        time.sleep(0.2)
    assert state == "running"
    client.predict(last, session, api_name="/stop")
    assert ended(client, last, session)["state"] == "stopped"


def _status(url: str) -> int:
    import httpx

    return httpx.get(url).status_code
