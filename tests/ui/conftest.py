import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from serving import TINY, ended, homes, ready

from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.process import STOP
from kdgen.ui.runs import Runs
from kdgen.ui.sessions import COOKIE

ROOT = Path(__file__).parents[2]
CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser")
"""What is looked for, the quickest first: the same browser without a window of its own."""
REQUIRED = os.environ.get("KDGEN_REQUIRE_BROWSER") == "1"


@dataclass(frozen=True)
class Server:
    """The app as a process of its own, in which runs of a minute or more train nothing (see `standing.py`)."""

    url: str
    folder: Path
    log: Path


def missing(what: str) -> None:
    """Skip for want of something, or fail where it is required."""
    if REQUIRED:
        pytest.fail(f"{what}, and KDGEN_REQUIRE_BROWSER is set")
    pytest.skip(what)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "KDGEN_APP_FOLDER": str(folder / "state"),
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPATH": str(ROOT),
        "KDGEN_APP_PER_SESSION": "2",
        "KDGEN_APP_PREPARE": "0",
    }
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("standing.py")],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{url}/config", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log.txt").read_text()
            time.sleep(0.1)
    yield Server(url, folder / "state", folder / "log.txt")
    process.terminate()
    process.wait(60)
    log = (folder / "log.txt").read_text()
    assert "Traceback" not in log, log[-3000:]


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("KDGEN_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        missing("there is no Chromium here: install it, or name it in KDGEN_CHROMIUM")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("there is no Playwright here: pip install playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def chromium(browser):
    """The browser; pages that a test leaves open are closed after it, for they go on asking their server."""
    yield browser
    for context in browser.contexts:
        context.close()


@pytest.fixture
def left_idle(server) -> Iterator[None]:
    """Runs that a test leaves at work end with it, or all that came after would stand in line behind them."""
    yield
    for home in homes(server):
        if json.loads((home / "job.json").read_text())["state"] in ("queued", "running"):
            (home / STOP).touch()


@pytest.fixture
def opened(chromium, server, left_idle):
    """Opens the page as a new visitor; asserts at the end that no console complained."""
    complaints = []

    def visit(*, session: str | None = None, tab: str | None = None, **options):
        still = {"locale": "en-US", "viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = chromium.new_context(**{**still, **options})
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        if session:
            context.add_cookies([{"name": COOKIE, "value": session, "url": server.url, "httpOnly": True}])
        page.goto(server.url)
        ready(page)
        if tab:
            page.get_by_role("tab", name=tab).click()
        return page

    yield visit
    assert complaints == []


@pytest.fixture
def axe() -> str:
    places = [os.environ.get("KDGEN_AXE"), ROOT / "node_modules" / "axe-core" / "axe.min.js"]
    found = next((Path(place) for place in places if place and Path(place).is_file()), None)
    if found is None:
        missing("there is no axe-core here: npm install --no-save axe-core, or name axe.min.js in KDGEN_AXE")
    return found.read_text(encoding="utf-8")


@pytest.fixture
def client(server, left_idle):
    from gradio_client import Client

    return Client(server.url, verbose=False)


@dataclass(frozen=True)
class Finished:
    """A run of the preset `denoise` that is done: its id, its session, and what the endpoints told of it."""

    run: str
    session: str
    begun: dict[str, Any]
    done: dict[str, Any]


@pytest.fixture(scope="session")
def finished(server) -> Finished:
    """A finished run for all tests that look at one and leave it there."""
    from gradio_client import Client

    client, session = Client(server.url, verbose=False), secrets.token_urlsafe(24)
    begun = client.predict(preset="denoise", seconds=3, settings=TINY, session=session, api_name="/distill")
    done = ended(client, begun["run"], session)
    assert done["state"] == "done", done["message"]
    return Finished(begun["run"], session, begun, done)


@pytest.fixture
def session() -> str:
    return secrets.token_urlsafe(24)


class Inline:
    """Answers in this process."""

    def call(self, name, *args):
        from kdgen.ui.answering import CALLS

        return CALLS[name](*args)

    def end(self):
        pass


@pytest.fixture
def runs(tmp_path):
    """Runs of an app that begins none."""
    made = Runs(Limits(folder=tmp_path / "app"), lambda *command: 0, workers=0)
    yield made
    made.close()


@pytest.fixture
def models(runs):
    """Models that are asked in this process."""
    made = Models(runs)
    made.worker = made.questions.worker = Inline()
    yield made
    made.end()
