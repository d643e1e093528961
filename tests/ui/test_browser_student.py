"""A student on the visitor's own device: the same picture as the server's, and nothing of it for anybody else."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from serving import ended
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


@pytest.fixture
def generator(client, session) -> tuple[str, str]:
    """A student that draws: the id of its finished run, and whose it is."""
    settings = "controls=false\nevaluate_every=null\ncache.inputs=64"
    begun = client.predict(preset="gan", seconds=0, steps=20, settings=settings, session=session, api_name="/distill")
    assert ended(client, begun["run"], session)["state"] == "done"
    return begun["run"], session


@pytest.mark.usefixtures("npm")
@pytest.mark.parametrize("preset", ["denoise", pytest.param("gan", marks=pytest.mark.slow)])
def test_the_picture_made_in_the_browser_is_the_servers(opened, server, request, preset: str) -> None:
    if preset == "gan":
        run, session = request.getfixturevalue("generator")
    else:
        done = request.getfixturevalue("finished")
        run, session = done.run, done.session
    page = opened(session=session)
    element = page.locator("kd-browser-student")
    element.get_by_role("button", name="Run it on this device").click()
    page.wait_for_function("() => document.querySelector('kd-browser-student').dataset.milliseconds")
    assert element.get_attribute("data-largest") in ("0", "1")
    assert float(element.get_attribute("data-milliseconds")) > 0
    line = element.locator(".kd-local-line").inner_text()
    assert "ms on this device" in line
    assert "e+" not in line
    assert element.locator("canvas").count() == (3 if preset == "denoise" else 2)
    for stranger in ("", "s" * 30):
        request = urllib.request.Request(f"{server.url}/browser/{run}/student.onnx",
                                         headers={"Cookie": f"kdgen-session={stranger}"})  # fmt: skip
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
