"""The named endpoints, as a program calls them."""

import zipfile
from pathlib import Path

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from serving import TINY, ended

import kdgen
from kdgen.presets import preset


def test_a_program_distils_and_compares(client, session, tmp_path):
    begun = client.predict(preset="denoise", seconds=2, settings=TINY, session=session, api_name="/distill")
    assert begun["session"] == session
    assert begun["state"] in ("queued", "running")
    done = ended(client, begun["run"], session)
    assert done["state"] == "done", done["message"]
    roles = [row["role"] for row in done["report"]["rows"]]
    assert roles == ["input", "teacher", "student"]

    zipped = client.predict(begun["run"], session, api_name="/student")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "student")
    assert kdgen.load(tmp_path / "student").task["name"] == "denoise"

    photo = tmp_path / "photo.png"
    Image.effect_noise((96, 64), 40).save(photo)
    report, picture = client.predict(
        f"denoiser,run:{begun['run']}", handle_file(photo), 25, 0, 16, 1, session, api_name="/compare"
    )
    assert [row["role"] for row in report["rows"]] == ["teacher", "model"]
    assert all(row["latency_ms"] > 0 and row["macs"] > 0 and row["metrics"]["psnr"] > 5 for row in report["rows"])
    path = picture["path"] if isinstance(picture, dict) else picture
    with Image.open(path) as image:
        assert image.width > image.height * 0.5

    assert client.predict(run=begun["run"], session=session, api_name="/delete") == {"deleted": begun["run"]}
    with pytest.raises(AppError, match="no such run"):
        client.predict(run=begun["run"], session=session, api_name="/status")


def test_the_endpoints_are_documented(client):
    told = client.view_api(return_format="dict")["named_endpoints"]
    assert set(told) == {"/presets", "/distill", "/status", "/stop", "/delete", "/student", "/compare"}
    assert [p["parameter_name"] for p in told["/status"]["parameters"]] == ["run", "session"]
    assert client.predict(api_name="/presets")["denoiser"]["denoise"].startswith("A small grey denoiser")


def test_a_run_is_its_sessions_alone(client, session, server):
    begun = client.predict(preset="denoise", seconds=300, settings=TINY, session=session, api_name="/distill")
    stranger = client.predict(preset="gan", seconds=1, api_name="/distill")
    for what in ("/status", "/stop", "/delete"):
        with pytest.raises(AppError, match="no such run"):
            client.predict(run=begun["run"], session=stranger["session"], api_name=what)
    with pytest.raises(AppError, match="no such run"):
        client.predict(f"gan,run:{begun['run']}", None, 25, 0, 16, 1, stranger["session"], api_name="/compare")
    client.predict(run=stranger["run"], session=stranger["session"], api_name="/stop")
    client.predict(run=begun["run"], session=session, api_name="/stop")
    assert ended(client, begun["run"], session)["state"] == "stopped"
    for path in ("job.json", "recipe.json", "run/recipe.json"):
        file = server.folder.resolve() / "runs" / begun["run"] / path
        assert _status(f"{server.url}/gradio_api/file={file}") == 403
    assert _status(f"{server.url}/gradio_api/file=/etc/passwd") == 403
    assert _status(f"{server.url}/gradio_api/file={Path(kdgen.__file__)}") == 403


def test_a_run_that_fails_says_why_and_the_next_one_goes_on(client, session):
    wrong = 'student={"name": "half_res", "args": {"width": 8, "blocks": 1, "channels": 3}}\n' + TINY
    begun = client.predict(preset="denoise", seconds=2, settings=wrong, session=session, api_name="/distill")
    failed = ended(client, begun["run"], session)
    assert failed["state"] == "failed"
    assert "channels" in failed["message"] or "shape" in failed["message"] or "size" in failed["message"]
    assert client.predict(api_name="/presets")["gan"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preset": "../../etc/passwd"}, "no preset"),
        ({"settings": "teacher=../../../etc"}, "no model is called|no id of the Hub"),
        ({"settings": "teacher=hub:../../x"}, "no id of the Hub"),
        ({"settings": "pool.dir=/tmp"}, "pool.dir"),
        ({"settings": "device=cuda:0"}, "device"),
        ({"settings": 'task.args.images={"name":"folder","args":{"path":"/etc"}}'}, "images come from"),
        ({"settings": "batch_size=100000"}, "batch_size is at most"),
        ({"settings": "no_such_key=1"}, "no key|unknown key"),
        ({"seconds": 1e9}, "may train for"),
        ({"steps": 10**9}, "may train for"),
        ({"recipe": "{"}, "no JSON"),
        ({"recipe": "[" * 5000}, "no JSON"),
        ({"recipe": "x" * 1_000_000}, "longer than"),
        ({"recipe": preset("denoise").to_json().replace('"seed": 0,', '"sead": 0,', 1)}, "unknown key"),
        ({"session": "../../x"}, "no session"),
    ],
)
def test_hostile_recipes_are_refused_politely(client, arguments, said):
    with pytest.raises(AppError, match=said):
        client.predict(**{"preset": "denoise", "seconds": 2.0, **arguments}, api_name="/distill")


def _status(url: str) -> int:
    import httpx

    return httpx.get(url).status_code
