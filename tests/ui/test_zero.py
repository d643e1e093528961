"""The Space on ZeroGPU in a browser: the package `spaces` as it is, with a stand-in for CUDA and for what schedules."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from gradio_client import Client
from serving import TINY, ended, free_port

from kdgen.ui.sessions import COOKIE

pytestmark = pytest.mark.skipif(find_spec("spaces") is None, reason="the package spaces is not installed")
HERE = Path(__file__).parent
TOKEN = "eyJhbGciOiJub25lIn0.eyJ1c2VyIjoiYWRhIn0.x"


@pytest.fixture
def space(tmp_path):
    port = free_port()
    env = {**os.environ, "KDGEN_APP_FOLDER": str(tmp_path / "state"), "GRADIO_ANALYTICS_ENABLED": "False",
           "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "KDGEN_APP_SLICE_SECONDS": "10",
           "SPACE_ID": "acme/kdgen"}  # fmt: skip
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, HERE / "zero.py", str(port)], cwd=tmp_path, env=env, stdout=log,
                                   stderr=subprocess.STDOUT)  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{url}/config", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(60)


def slices(folder):
    file = folder / "slices.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.slow
def test_a_visitor_holds_slices_under_their_own_token_while_they_watch(space, chromium, tmp_path, session):
    client = Client(space, verbose=False)
    settings = f"{TINY}\ncheckpoint_every=5\nevaluate_every=null"
    begun = client.predict(preset="denoise", seconds=40, settings=settings, session=session, api_name="/distill")
    time.sleep(4)
    state = client.predict(run=begun["run"], session=session, api_name="/status")
    assert (state["state"], state["waits"]) == ("queued", True)
    assert slices(tmp_path) == []

    context = chromium.new_context(locale="en-US", extra_http_headers={"x-ip-token": TOKEN})
    page = context.new_page()
    enter(page, space, session)
    page.get_by_text("under your own quota").wait_for()
    page.locator(".kd-running").wait_for(timeout=120_000)
    until = time.monotonic() + 120
    while len(slices(tmp_path)) < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    context.close()
    while not client.predict(run=begun["run"], session=session, api_name="/status")["waits"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    held = len(slices(tmp_path))
    time.sleep(6)
    assert len(slices(tmp_path)) == held
    assert client.predict(run=begun["run"], session=session, api_name="/status")["state"] == "running"

    (tmp_path / "quota").touch()
    context = chromium.new_context(locale="en-US", extra_http_headers={"x-ip-token": TOKEN})
    page = context.new_page()
    enter(page, space, session)
    page.locator(".kd-stopped").get_by_text("exceeded your").wait_for(timeout=60_000)
    (tmp_path / "quota").unlink()
    page.locator("#kd-resume").click()
    page.locator(".kd-done, .kd-failed").first.wait_for(timeout=240_000)
    assert {each["token"] for each in slices(tmp_path)} == {TOKEN}
    assert {int(each["durationSeconds"]) for each in slices(tmp_path)} <= {33, 43, 63}
    assert page.locator("#kd-kept").inner_text().startswith("This Space has no persistent storage")
    assert ended(client, begun["run"], session)["state"] == "done"


def enter(page, url, session):
    """Open the page as the visitor of a session."""
    page.context.add_cookies([{"name": COOKIE, "value": session, "url": url, "httpOnly": True}])
    page.goto(url)
