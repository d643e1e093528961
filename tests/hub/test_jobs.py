"""A recipe as a job of the Hub: begun, followed, published and ended, from the command line."""

import json
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from huggingface_hub import HfApi

import kdgen
from kdgen.cli.commands import elsewhere
from kdgen.hub import jobs
from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.types import Event, UserError

from .conftest import WRITER, RunContext, call
from .server import Fault, Hub

TINY = ["controls=false", "cache.inputs=16", "evaluate_every=null", "precision=float32",
        'student={"name": "dncnn", "args": {"depth": 3, "width": 4}}']  # fmt: skip
SET = [word for each in TINY for word in ("--set", each)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "AGAIN", 0.2)


def test_a_job_trains_with_the_code_of_here_and_publishes(
    hub: Hub, place: RunContext, capsys: pytest.CaptureFixture[str]
) -> None:
    name = place.name("far")
    hub.breaks.append(4)
    assert call("distill", "denoise", "--steps", "2", *SET, "--on", "hf:t4-small", "--push", name) == 0
    out, err = capsys.readouterr()
    assert "t4-small: Nvidia T4 - small, 4 vCPU, 15 GB memory, 1x T4, 16 GB, $0.40 an hour" in err
    assert "$2.40 at most" in err
    assert err.count("Installed 60 packages") == 1
    assert "student: 2 steps" in err
    assert "PSNR" in out
    assert name in out
    assert kdgen.load(name).task["name"] == "denoise"
    assert hub.store.repos["model", name].private
    job = list(hub.jobs.values())[-1]
    assert job.stage == "COMPLETED"
    assert job.spec["secrets"] == {"HF_TOKEN": WRITER}
    assert WRITER not in json.dumps({**job.spec, "secrets": None}) + out + err + "\n".join(job.lines)
    assert job.spec["timeoutSeconds"] == 6 * 3600
    code = hub.store.repos["model", "ada/kdgen-jobs"]
    assert code.private
    assert all(WRITER.encode() not in hub.store.read(file) for file in code.commits[code.commit("main")].values())
    assert call("jobs") == 0
    assert job.id in capsys.readouterr().out


@pytest.mark.usefixtures("hub")
def test_prices_are_the_hubs(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("jobs", "--hardware") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "cpu-basic: CPU Basic, 2 vCPU, 16 GB memory, $0.01 an hour"
    assert second.endswith("$0.40 an hour")


@pytest.mark.parametrize(
    ("words", "fault", "token", "line"),
    [
        ([], None, None, "nobody is logged in to the Hub"),
        (["--on", "hf:a10g-smal"], None, WRITER, "no hardware is called 'a10g-smal'"),
        (["--on", "hf:huge"], None, WRITER, r"there is cpu-basic ($0.01 an hour), t4-small ($0.40 an hour)"),
        (["--on", "t4-small"], None, WRITER, "--on takes hf: and the name of hardware"),
        ([], Fault("POST /api/jobs/ada", 402, message="Pre-paid credit balance is insufficient"), WRITER,
         "may not run jobs: it takes credit"),
        ([], Fault("POST /api/jobs/ada", 403, message="missing scope"), WRITER, "may not run jobs"),
        ([], None, "hf_token_of_nobody_0001", "does not accept the token"),
        (["--out", "x"], None, WRITER, "leave out --code, --track and --out"),
        (["--push", "acme/theirs"], None, WRITER, "taken by something"),
        (["--set", 'task.args.images={"name": "folder", "args": {"path": "pictures"}}'], None, WRITER, "of this machine"),
        (["--set", "teacher=runs/mine"], None, WRITER, "of this machine"),
    ],
)  # fmt: skip
def test_what_cannot_begin_is_one_line(
    hub: Hub, place: RunContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], fault: Fault | None, token: str | None, line: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    (Path("runs") / "mine").mkdir(parents=True)
    hub.store.create("model", "acme/theirs")
    hub.store.write(hub.store.repos["model", "acme/theirs"], "main", {"game.py": hub.store.keep(b"theirs")})
    hub.faults += [fault] if fault else []
    begun = len(hub.jobs)
    on = [] if "--on" in words else ["--on", "hf:t4-small"]
    assert call("distill", "denoise", "--steps", "2", *SET, *on, *words) == 2
    err = capsys.readouterr().err
    assert line in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("kdgen: ")
    assert len(hub.jobs) == begun


def test_a_job_that_fails_says_its_last_line(hub: Hub, place: RunContext, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--set", 'student={"name": "dncnn", "args": {"depth": 3, "width": 4, "channels": 3}}']
    code = call("distill", "denoise", "--steps", "2", *SET, *wrong, "--on", "hf:cpu-basic", "--push", place.name("bad"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    job = list(hub.jobs.values())[-1]
    assert last.startswith(f"kdgen: job {job.id} failed: kdgen: ")
    assert "channel" in last
    assert job.spec["environment"]["UV_INDEX"].endswith("/whl/cpu")


@pytest.mark.parametrize("end", [True, False])
def test_an_interruption_asks_whether_the_job_ends_too(
    hub: Hub, place: RunContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, end: bool
) -> None:
    recipe = override(preset("denoise"), ["seconds=600", *TINY])
    job = jobs.begin(recipe, "cpu-basic", repo_id=place.name("cut"))
    real = jobs.follow

    def interrupted(id: str):  # type: ignore[no-untyped-def]
        for each in real(id):
            yield each
            if isinstance(each, Event):
                raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "follow", interrupted)
    monkeypatch.setattr(elsewhere.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(elsewhere.typer, "confirm", lambda *given, **more: end)
    assert call("jobs", job.id) == 130
    err = capsys.readouterr().err
    assert ("is cancelled" in err) == end
    assert (f"`kdgen jobs {job.id}` follows it again" in err) != end
    assert jobs.inspect(job.id).over == end
    if not end:
        assert call("jobs", job.id, "--cancel") == 0
    with pytest.raises(UserError, match="was cancelled"):
        list(real(job.id))


def test_a_hub_out_of_reach_leaves_the_job_at_work_and_says_how_to_go_on(
    hub: Hub, place: RunContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs.begin(override(preset("denoise"), ["seconds=600", *TINY]), "cpu-basic", repo_id=place.name("lost"))
    monkeypatch.setattr(jobs, "PATIENCE", 1.0)
    fault = Fault(f"GET /api/jobs/ada/{job.id}/logs", times=10_000)
    hub.faults.append(fault)
    inspect = jobs.inspect

    def once(id: str, *, token: str | None = None) -> jobs.Job:
        hub.faults.append(Fault(f"GET /api/jobs/ada/{job.id}$", times=10_000))
        return inspect(id, token=token) if len(hub.faults) > 2 else job

    monkeypatch.setattr(jobs, "inspect", once)
    monkeypatch.setattr("kdgen.models.hub_cache.failures.PATIENCE", 0.1)
    assert call("jobs", job.id) == 3
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"the job goes on: `kdgen jobs {job.id}` follows it again")
    hub.faults.clear()
    monkeypatch.setattr(jobs, "inspect", inspect)
    assert not inspect(job.id).over
    assert jobs.glance(job.id).job.hardware == "cpu-basic"
    jobs.cancel(job.id)


def test_a_glance_at_a_job_that_never_pauses_has_its_newest_lines(
    hub: Hub, place: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs.begin(override(preset("denoise"), ["seconds=600", *TINY]), "cpu-basic", repo_id=place.name("chatty"))
    while jobs.inspect(job.id).stage == "SCHEDULING":
        time.sleep(0.1)
    monkeypatch.setattr(HfApi, "fetch_job_logs", lambda self, **given: (f"line {number}" for number in count()))
    monkeypatch.setattr(jobs, "GLANCE_SECONDS", 0.1)
    numbers = [int(line.removeprefix("line ")) for line in jobs.glance(job.id).lines]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert numbers[0] > jobs.TAIL
    jobs.cancel(job.id)


def test_what_is_of_this_machine_does_not_go_along(hub: Hub, place: RunContext, make: Callable[..., object]) -> None:
    with pytest.raises(UserError, match="of this machine"):
        jobs.begin(make(), "cpu-basic")  # type: ignore[arg-type]
    assert not [line for line in hub.seen if line.startswith("POST")]
