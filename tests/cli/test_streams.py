"""Streams that are closed, narrow, or left by their reader, and signals, as a shell has them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import call

from kdgen.cli import console
from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.training.run_log import stop_on_signals
from kdgen.types import Event

Make = Callable[..., Recipe]


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``$K`` is the command."""
    env = {**os.environ, "K": f"{sys.executable} -m kdgen", **environment}
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str, tmp_path: Path) -> None:
    status = tmp_path / "status"
    done = shell(f"$K resume --help {closed}; echo $? > {status}")
    assert (status.read_text(), done.stdout, done.stderr) == ("0\n", "", "")


def test_a_file_that_is_written_is_never_a_closed_stream(tmp_path: Path) -> None:
    """The first file opened gets the number of the closed stream, and what is printed would go into it."""
    file = tmp_path / "a.txt"
    code = f"from kdgen.cli.streams import secure; secure(); f = open({str(file)!r}, 'w'); print('said'); assert f.fileno() > 2"
    assert shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-').returncode == 0
    assert file.read_text() == ""


def test_streams_of_narrow_encodings_get_what_they_can_hold() -> None:
    done = shell("$K distill --help", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "kdgen distill denoise" in done.stdout
    assert done.stdout.isascii()


@pytest.fixture
def quick(make: Make, tmp_path: Path) -> Callable[..., Recipe]:
    """Recipes that draw no images."""
    images = {"name": "folder", "args": {"path": str(tmp_path / "pictures")}}
    return lambda *settings: make("controls=false", f"task.args.images={json.dumps(images)}", *settings)


@pytest.fixture
def long(quick: Make, tmp_path: Path) -> list[str]:
    """The command of a long run that leaves no checkpoint by itself."""
    file = tmp_path / "recipe.json"
    file.write_text(quick("steps=100000", "checkpoint_every=1000").to_json())
    return ["distill", str(file), "--out", str(tmp_path / "run")]


def saved(folder: Path) -> bool:
    return (folder / "checkpoints" / "student" / "last.pt").is_file()


def test_a_reader_that_leaves_ends_a_run_as_sigterm_does(long: list[str], tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "kdgen", *long, "--json"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    while json.loads(process.stdout.readline())["kind"] != "step":
        pass
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(60) == 130
    assert "nobody reads this any more: saving" in said
    assert f"everything is saved, go on with: kdgen resume {tmp_path / 'run'}" in said
    assert "Traceback" not in said
    assert saved(tmp_path / "run")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), SystemExit(1)])
def test_a_log_or_a_terminal_that_is_gone_does_too(
    error: BaseException,
    long: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def gone(self: console.Plain, event: Event) -> None:
        if event.kind == "step":
            raise error

    monkeypatch.setattr(console.Plain, "show", gone)
    assert call(*long) == 130
    assert "everything is saved, go on with: kdgen resume" in capsys.readouterr().err
    assert saved(tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_a_hangup_may_come_twice(number: int, quick: Make, tmp_path: Path) -> None:
    asked, events = False, []
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    for event in run.distill(quick(), tmp_path / "run"):
        events.append(event)
        if event.kind == "checkpoint" and not asked:
            asked = True
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGHUP)
    assert events[-1].kind == "stopped"
    assert saved(tmp_path / "run")


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
        with stop_on_signals() as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_quiet_says_the_folder_and_nothing_else(quick: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(quick("steps=3").to_json())
    assert call("distill", str(file), "--out", str(tmp_path / "run"), "--quiet") == 0
    assert tuple(capfd.readouterr()) == (f"{tmp_path / 'run'}\n", "")
