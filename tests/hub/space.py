"""The app as a Space, from nothing: ``python -m tests.hub.space FOLDER [SECONDS]`` in a checkout.

It is deployed to a Hub on the loopback with a student to preload, its files are pulled into a clean folder and installed
from their own requirements into a new environment (torch as it is here, gradio and `spaces` as a Space brings them), it
is started, and its page must answer. With SECONDS a run of that length must end well there.
"""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from gradio_client import Client
from huggingface_hub import RepoCard

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_writer_of_acme_0001"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def page_of(
    folder: Path, python: str | Path, environment: Mapping[str, str], *, patience: float = 240.0, seconds: int = 0
) -> tuple[int, str]:
    """The status and the text of the page that a Space's ``app.py`` serves, started with nothing else in its path.

    With ``seconds`` a run of that length must end well there.
    """
    port = free_port()
    env = {"HOME": str(folder.parent), "PATH": "/usr/bin:/bin", "GRADIO_ANALYTICS_ENABLED": "False",
           "GRADIO_SERVER_PORT": str(port), **environment}  # fmt: skip
    log = folder.parent / "app.log"
    with log.open("wb") as out:
        app = subprocess.Popen([python, "app.py"], cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
        try:
            started = time.monotonic()
            while time.monotonic() - started < patience:
                if app.poll() is not None:
                    raise AssertionError(log.read_text())
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                        answer = response.status, response.read().decode()
                    if seconds:
                        distilled(f"http://127.0.0.1:{port}", seconds)
                    return answer
                except OSError:
                    time.sleep(0.25)
            raise AssertionError(f"no answer in {patience} s: {log.read_text()}")
        finally:
            app.terminate()
            app.wait()


def distilled(url: str, seconds: int) -> None:
    """Let the Space distil a student and wait for its report."""
    client = Client(url, verbose=False)
    state = client.predict(preset="denoise", seconds=seconds, api_name="/distill")
    run, session, started = state["run"], state["session"], time.monotonic()
    while state["state"] in ("queued", "running"):
        time.sleep(2)
        state = client.predict(run=run, session=session, api_name="/status")
    assert state["state"] == "done", state
    print(f"a run of {seconds} s is done after {time.monotonic() - started:.0f} s: {state['report']['verdict']}")


def title_of(page: str) -> str | None:
    """What gradio calls a page, where it has a name of its own."""
    found: list[str] = re.findall(r'"og:title" content="(.*?)"', page)
    return found[-1] if found else None


def main(folder: Path, seconds: int = 0) -> None:
    folder.mkdir(parents=True)
    port = free_port()
    env = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DISABLE_XET": "1"}
    hub = {**os.environ, **env, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf"),
           "PYTHONPATH": str(ROOT)}  # fmt: skip
    server = subprocess.Popen([sys.executable, "-m", "tests.hub.server", folder / "hub", str(port)], cwd=ROOT, env=hub)
    try:
        kdgen = [sys.executable, "-m", "kdgen"]
        student = ROOT / "kdgen" / "models" / "nets" / "weights" / "denoiser"
        subprocess.run([*kdgen, "push", student, "acme/denoiser"], env=hub, cwd=ROOT, check=True)
        subprocess.run([*kdgen, "deploy", "acme/kdgen", "--student", "acme/denoiser"], env=hub, cwd=ROOT, check=True)
        pull = "import sys, huggingface_hub as h; h.snapshot_download('acme/kdgen', repo_type='space', local_dir=sys.argv[1])"
        space = folder / "space"
        subprocess.run([sys.executable, "-c", pull, space], env=hub, cwd=folder, check=True)
        needed = [
            line
            for line in (space / "requirements.txt").read_text().splitlines()
            if not re.match("torch\\b(?!-)|--", line)
        ]
        needed.append(f"gradio[oauth]=={RepoCard.load(space / 'README.md').data['sdk_version']}")
        (folder / "requirements.txt").write_text("\n".join(needed) + "\n")
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, f"torch=={version('torch').partition('+')[0]}"], check=True)
        subprocess.run([*pip, "-r", folder / "requirements.txt"], check=True)
        subprocess.run([*pip, "spaces"], check=True)
        status, page = page_of(space, python, env, seconds=seconds)
    finally:
        server.terminate()
        server.wait()
    print(f"the page answers: HTTP {status}, title {title_of(page)!r}, {len(page):,} characters")
    assert (status, (title_of(page) or "")[:5]) == (200, "kdgen")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:3]))
