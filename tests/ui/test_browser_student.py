"""A student on the visitor's own device: the same picture as the server's, and nothing of it for anybody else."""

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from kdgen.models.hub_cache import WorldError
from kdgen.ui import browser_student, onnxruntime_web
from kdgen.ui.job import new_session, owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.onnxruntime_web import VERSION, runtime
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import COOKIE


@pytest.fixture(scope="module")
def npm() -> None:
    try:
        runtime()
    except WorldError as error:
        pytest.skip(str(error))


def finished(client, preset: str) -> dict:
    settings = "controls=false\nevaluate_every=null\ncache.inputs=64"
    run = client.predict(preset=preset, seconds=0, steps=20, settings=settings, api_name="/distill")
    for _ in range(2400):
        state = client.predict(run=run["run"], session=run["session"], api_name="/status")
        if state["state"] not in ("queued", "running"):
            break
        time.sleep(0.25)
    assert state["state"] == "done", state
    return run


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize("preset", ["denoise", "gan"])
def test_the_picture_made_in_the_browser_is_the_servers(opened, client, server, preset: str) -> None:
    run = finished(client, preset)
    page = opened(session=run["session"])
    element = page.locator("kd-browser-student")
    element.get_by_role("button", name="Run it on this device").click()
    page.wait_for_function("() => document.querySelector('kd-browser-student').dataset.milliseconds")
    assert element.get_attribute("data-largest") in ("0", "1")
    assert float(element.get_attribute("data-milliseconds")) > 0
    line = element.locator(".kd-local-line").inner_text()
    assert "ms on this device" in line
    assert "e+" not in line
    assert element.locator("canvas").count() == (3 if preset == "denoise" else 2)
    for session in ("", "s" * 30):
        request = urllib.request.Request(f"{server.url}/browser/{run['run']}/student.onnx",
                                         headers={"Cookie": f"kdgen-session={session}"})  # fmt: skip
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(request)


@pytest.mark.parametrize("name", ["../package.json", "ort.all.mjs", "%2e%2e%2fREADME.md"])
def test_nothing_else_of_the_runtime_is_served(server, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{server.url}/onnxruntime-web/{VERSION}/{name}")


def test_a_registry_that_sends_something_else_is_refused(tmp_path, monkeypatch, answering) -> None:
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", answering(b"not a package"))
    with pytest.raises(WorldError, match=f"sent something else than onnxruntime-web {VERSION}"):
        onnxruntime_web.runtime()
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(WorldError, match=r"could not be fetched from http://127.0.0.1:9 .*on the server alone"):
        onnxruntime_web.runtime()


@pytest.fixture
def answering():
    """A server that answers everything with the same bytes."""
    import http.server
    import threading

    servers = []

    def start(data: bytes) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(made)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made.server_port}"

    yield start
    for each in servers:
        each.shutdown()


@pytest.fixture
def finished_run(tmp_path):
    """The line of runs with one that is done, and the cookie of its owner."""
    session = new_session()
    home = tmp_path / "runs" / "0123456789ab"
    home.mkdir(parents=True)
    job = {"id": home.name, "owner": owner_of(session), "name": "x", "task": "denoise", "created": 1.0, "ended": 9e9,
           "state": "done"}  # fmt: skip
    (home / "job.json").write_text(json.dumps(job))
    runs = Runs(Limits(folder=tmp_path), lambda *_: 0)
    yield runs, {"cookie": f"{COOKIE}={session}"}
    runs.close()


def test_a_refusal_is_asked_for_once(finished_run, monkeypatch):
    runs, cookie = finished_run
    asked = []

    def execute(arguments, home, seconds, **more):
        asked.append(arguments)
        (home / "log.txt").write_text("noise\nkdgen: draws in many steps\n")
        return 2

    monkeypatch.setattr(browser_student, "execute", execute)
    browser = TestClient(Starlette(routes=browser_student.routes(runs)))
    for _ in range(3):
        answer = browser.get("/browser/0123456789ab/facts.json", headers=cookie)
        assert (answer.status_code, answer.json()) == (404, {"error": "draws in many steps"})
    assert len(asked) == 1


def test_many_that_wait_for_a_student_leave_everything_else_answered(finished_run, monkeypatch):
    runs, cookie = finished_run
    free = threading.Event()
    monkeypatch.setattr(browser_student, "_make", lambda *given: free.wait(60))

    async def page(request):
        return PlainTextResponse(await run_in_threadpool(lambda: "here"))

    app = Starlette(routes=[*browser_student.routes(runs), Route("/page", page)])

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            waiting = [asyncio.create_task(client.get("/browser/0123456789ab/facts.json", headers=cookie))
                       for _ in range(60)]  # fmt: skip
            await asyncio.sleep(0.5)
            try:
                answer = await asyncio.wait_for(client.get("/page"), 10)
            finally:
                free.set()
                await asyncio.gather(*waiting, return_exceptions=True)
            return answer.text

    with ThreadPoolExecutor() as beside:
        assert beside.submit(asyncio.run, ask()).result() == "here"
