"""The panel that runs a recipe as a job of the visitor's account, in a browser, against the Hub on the loopback."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import gradio as gr
import pytest
from gradio_client import Client
from serving import TINY, free_port

from kdgen.types import UserError
from kdgen.ui import elsewhere, watch
from kdgen.ui.sessions import COOKIE

pytestmark = pytest.mark.skipif(
    find_spec("authlib") is None or find_spec("itsdangerous") is None, reason="signing in needs gradio[oauth]"
)
ROOT = Path(__file__).parents[2]
SMALL = f'{TINY}\nstudent={{"name": "dncnn", "args": {{"depth": 3, "width": 4}}}}\nprecision=float32'
USERS = {"writer": "hf_writer_of_acme_0001", "stranger": "hf_nobody_of_nothing_1"}


def serve(arguments, cwd, env, log, url, ready):
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, env=env, stdout=log.open("w"), stderr=subprocess.STDOUT
    )
    for _ in range(1200):
        try:
            urllib.request.urlopen(url + ready, timeout=5).close()
            return process
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The app as a Space on which visitors sign in, beside a Hub: the address of both."""
    folder, ports = tmp_path_factory.mktemp("space"), [free_port(), free_port()]
    hub, url = (f"http://127.0.0.1:{port}" for port in ports)
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1",
           "HF_HOME": str(folder / "hf")}  # fmt: skip
    app = {**env, "KDGEN_APP_FOLDER": str(folder / "state"), "GRADIO_SERVER_PORT": str(ports[1]), "SYSTEM": "spaces",
           "SPACE_ID": "acme/kdgen", "SPACE_HOST": f"127.0.0.1:{ports[1]}", "OAUTH_CLIENT_ID": "id",
           "OAUTH_CLIENT_SECRET": "secret", "OAUTH_SCOPES": "openid profile contribute-repos jobs",
           "OPENID_PROVIDER_URL": hub, "GRADIO_ANALYTICS_ENABLED": "False", "KDGEN_APP_PREPARE": "0"}  # fmt: skip
    with ExitStack() as ends:
        hub_server = ["-m", "tests.hub.server", folder / "hub", str(ports[0])]
        for arguments, cwd, each, log, address, ready in (
            (hub_server, ROOT, env, "hub.txt", hub, "/api/jobs/hardware"),
            ([ROOT / "app.py"], folder, app, "app.txt", url, "/config"),
        ):
            process = serve(arguments, cwd, each, folder / log, address, ready)
            ends.callback(process.wait, 60)
            ends.callback(process.terminate)
        yield url, hub


def signed_in(token):
    """The cookie by which Gradio knows who signed in, as it signs it."""
    from itsdangerous import TimestampSigner

    user = {"sub": "1", "name": "Ada", "preferred_username": "ada", "profile": "", "picture": ""}
    info = {"access_token": token, "scope": "jobs", "expires_at": int(time.time()) + 3600, "userinfo": user}
    data = base64.b64encode(json.dumps({"oauth_info": info}).encode())
    return TimestampSigner(hashlib.sha256(b"secret-v4").hexdigest()).sign(data).decode()


def visit(chromium, url, session, token=None):
    context = chromium.new_context(locale="en-US")
    cookies = [{"name": COOKIE, "value": session, "url": url, "httpOnly": True}]
    if token:
        cookies.append({"name": "session", "value": signed_in(token), "url": url, "httpOnly": True})
    context.add_cookies(cookies)
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(url)
    page.locator("#kd-status .kd-status").wait_for(state="attached")
    page.locator("#kd-away button").first.click()
    return page


@pytest.mark.slow
def test_a_visitor_runs_a_recipe_as_a_job_of_their_own(space, chromium, session):
    url, hub = space
    client = Client(url, verbose=False)
    run = client.predict(preset="denoise", seconds=2, settings=SMALL, session=session, api_name="/distill")["run"]
    client.predict(run=run, session=session, api_name="/stop")
    page = visit(chromium, url, session, USERS["writer"])
    page.locator("#kd-price").get_by_text("$0.01 an hour").wait_for()
    page.locator("#kd-away-seconds input").fill("3")
    page.locator("#kd-away-seconds input").blur()
    page.locator("#kd-price").get_by_text("ended after 30:06, so $0.01 at most").wait_for()
    page.locator("#kd-away-name").locator("input, textarea").first.fill("acme/page-student")
    page.locator("#kd-away-go").click()
    page.locator("#kd-job").get_by_text("cpu-basic").wait_for()
    page.locator("#kd-job").get_by_text(f"Done. The student: {hub}/acme/page-student").wait_for(timeout=240_000)
    assert USERS["writer"] not in page.content()
    job = page.locator("#kd-job .kd-title a").get_attribute("href").rpartition("/")[2]
    asked = urllib.request.Request(f"{hub}/api/jobs/ada/{job}", headers={"authorization": f"Bearer {USERS['writer']}"})
    info = json.loads(urllib.request.urlopen(asked).read())
    assert info["status"]["stage"] == "COMPLETED"
    assert "3.0" in json.dumps(info) or "acme/page-student" in info["command"]
    page.locator("#kd-away-seconds input").fill("900")
    page.locator("#kd-away-seconds input").blur()
    page.locator("#kd-away-name").locator("input, textarea").first.fill("acme/other-student")
    page.locator("#kd-away-go").click()
    page.locator("#kd-job").get_by_text("running").wait_for()
    page.locator("#kd-away-end").click()
    page.locator("#kd-away-sure").click()
    page.locator("#kd-job").get_by_text("The job was ended").wait_for()


@pytest.mark.slow
def test_without_a_login_or_with_one_that_counts_no_more_a_line_says_so(space, chromium, session):
    url, _ = space
    page = visit(chromium, url, session)
    page.locator("#kd-price").get_by_text("Sign in first").wait_for()
    page = visit(chromium, url, session, USERS["stranger"])
    page.locator("#kd-price").get_by_text("does not accept the token").wait_for()


def test_who_is_not_signed_in_or_no_more_is_told_so(runs, monkeypatch):
    monkeypatch.setattr(gr, "LoginButton", gr.Button)
    monkeypatch.setattr(elsewhere, "signs_in", lambda: True)
    with gr.Blocks() as page:
        elsewhere.panel(runs, watch.view())
    enter = next(each.fn for each in page.fns.values() if each.name == "enter")
    assert "Sign in first" in enter(None, None)[1]
    refused = UserError("the Hub does not accept the token")
    monkeypatch.setattr(elsewhere, "hardware", Mock(side_effect=refused))
    assert str(refused) in enter(None, SimpleNamespace(token="hf_nobody_of_nothing_1"))[1]
