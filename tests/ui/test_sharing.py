"""A read-only link: shows one run, and can do nothing; made and revoked by the owner alone."""

import json
import shutil

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.types import UserError
from kdgen.ui import sharing
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import COOKIE
from kdgen.ui.shared_routes import shared_routes
from kdgen.ui.showcase import EXAMPLE, FOLDER, LEARNED

ID, OWNER = "0123456789ab", new_session()


@pytest.fixture
def runs(tmp_path):
    """The app's runs with one that is finished."""
    home = tmp_path / "runs" / ID
    shutil.copytree(EXAMPLE, home / "run", ignore=shutil.ignore_patterns(FOLDER))
    shutil.copytree(EXAMPLE / FOLDER, home / FOLDER)
    job = {"id": ID, "owner": owner_of(OWNER), "name": "denoise", "task": "denoise", "created": 1.0, "ended": 9e9,
           "state": "done", "message": ""}  # fmt: skip
    (home / "job.json").write_text(json.dumps(job))
    runs = Runs(Limits(folder=tmp_path), lambda *_: 0)
    yield runs
    runs.close()


@pytest.fixture
def browser(runs):
    return TestClient(Starlette(routes=shared_routes(runs)), base_url="http://kdgen.test")


def test_a_link_shows_the_figures_the_recipe_and_how_to_make_it_again(runs, browser):
    token = sharing.share(runs, ID, OWNER)
    assert sharing.share(runs, ID, OWNER) == token, "one link a run"
    page = browser.get(f"/r/{token}", headers={"x-forwarded-proto": "https", "x-forwarded-host": "me.hf.space"}).text
    for words in ("13.5x", "kd-numbers", "kdgen distill denoise --set seconds=", "kdgen.distill(recipe",
                  f'property="og:image" content="https://me.hf.space/r/{token}/link.jpg"', 'property="og:title"',
                  'property="og:description" content="Keeps', "teacher&quot;: &quot;denoiser"):  # fmt: skip
        assert words in page
    assert OWNER not in page
    assert owner_of(OWNER) not in page
    assert str(runs.folder) not in page
    picture = browser.get(f"/r/{token}/link.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert 20_000 < len(picture.content) < 400_000
    assert "保留" in browser.get(f"/r/{token}", headers={"accept-language": "zh-CN"}).text


def test_how_the_student_learned_can_be_saved(runs, browser):
    folder = runs.folder / ID / FOLDER
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in LEARNED:
        frames[0].save(folder / name, save_all=True, append_images=frames[1:])
    token = sharing.share(runs, ID, OWNER)
    assert f'href="/r/{token}/learned.gif" download' in browser.get(f"/r/{token}").text
    for address, cookies in ((f"/r/{token}/learned.gif", {}), (f"/learned/{ID}.gif", {COOKIE: OWNER})):
        answer = browser.get(address, cookies=cookies)
        assert answer.headers["content-type"] == "image/gif"
        assert answer.content == (folder / "learned.gif").read_bytes()
    for cookies in ({}, {COOKIE: new_session()}):
        assert browser.get(f"/learned/{ID}.gif", cookies=cookies).status_code == 404


def test_a_link_can_do_nothing(runs):
    token = sharing.share(runs, ID, OWNER)
    for act in (runs.stop, runs.resume, runs.delete, runs.get):
        with pytest.raises(UserError, match="no such run of yours"):
            act(ID, token)
    assert runs.owned_by(token) == []


def test_only_the_owner_makes_and_revokes(runs, browser):
    for stranger in (new_session(), new_session()):
        with pytest.raises(UserError, match="no such run of yours"):
            sharing.share(runs, ID, stranger)
    token = sharing.share(runs, ID, OWNER)
    with pytest.raises(UserError, match="no such run of yours"):
        sharing.revoke(runs, ID, new_session())
    assert browser.get(f"/r/{token}").status_code == 200
    sharing.revoke(runs, ID, OWNER)
    for file in ("", "/link.jpg", "/learned.webp", "/learned.gif"):
        assert browser.get(f"/r/{token}{file}").status_code == 404
    assert sharing.share(runs, ID, OWNER) != token, "a link that was taken back stays so"


@pytest.mark.parametrize("token", [ID, f"{ID}-", f"{ID}-{'a' * 22}", "../../etc", "%2e%2e", f"{ID}-{'a' * 5000}",
                                   f"{ID}-{'é' * 22}", f"{ID}-{'中' * 22}"])  # fmt: skip
def test_links_are_not_guessed(runs, browser, token):
    sharing.share(runs, ID, OWNER)
    assert browser.get(f"/r/{token}").status_code == 404


@pytest.mark.parametrize(
    "settings",
    [[], ["seconds=42"], ["steps=90", "batch_size=4"], ["task.args.sigma=15", "stages.0.lr=0.001"],
     ["stages.0.methods=[]"], ["student.args.width=16", "name=denoise"]],
)  # fmt: skip
def test_the_line_to_copy_makes_the_same_recipe(settings):
    recipe = override(preset("denoise"), settings)
    name, changed = sharing.changed_settings(recipe)
    assert name == "denoise"
    assert override(preset(name), changed) == recipe
    assert sharing.command_line(recipe).startswith("kdgen distill denoise")
    assert len(changed) <= len(settings) + 1
    compile(sharing.python(recipe), "python", "exec")


def test_a_recipe_of_no_preset_is_a_file():
    recipe = preset("denoise").model_copy(update={"name": "mine"})
    assert sharing.command_line(recipe) == "kdgen distill recipe.json"
    compile(sharing.python(recipe), "python", "exec")


def test_the_picture_of_a_link_is_made_anew_once_there_are_pictures(runs, browser):
    token = sharing.share(runs, ID, OWNER)
    home = runs.folder / ID
    (home / FOLDER).rename(home / "later")
    bare = browser.get(f"/r/{token}/link.jpg").content
    (home / "later").rename(home / FOLDER)
    assert browser.get(f"/r/{token}/link.jpg").content != bare
