"""Runs on an accelerator that is lent to visitors, with a stand-in for what schedules it."""

import json
import threading
import time
from types import SimpleNamespace

import gradio as gr
import pytest

from kdgen.presets import preset
from kdgen.types import UserError
from kdgen.ui import lent
from kdgen.ui.job import new_session
from kdgen.ui.lent import LONGEST, LentRuns
from kdgen.ui.limits import Limits
from kdgen.ui.process import STOP
from kdgen.ui.runs import Runs

RECIPE = preset("denoise").lasting(seconds=5)
UP = 130


def advance(home, progress):
    """Leave what a run leaves that has trained so far."""
    run = home / "run"
    run.mkdir(exist_ok=True)
    (run / "recipe.json").write_text((home / "recipe.json").read_text())
    event = {"kind": "step", "phase": "student", "step": 1, "progress": progress, "data": {"loss": 1.0}}
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps(event) + "\n")


def test_without_a_visitor_a_run_waits(tmp_path):
    begun = []
    runs = LentRuns(Limits(folder=tmp_path), lambda *given: begun.append(given) or 0)
    session = new_session()
    job = runs.submit(RECIPE, session)
    time.sleep(0.5)
    assert begun == []
    assert runs.get(job.id, session).state == "queued"
    assert runs.waits(job)
    assert runs.stop(job.id, session).state == "stopped"


def test_a_visitor_holds_slice_after_slice_in_the_own_thread(tmp_path):
    calls = []

    def executing(arguments, home, seconds):
        calls.append((arguments[3], seconds, threading.get_ident()))
        advance(home, len(calls) / 4)
        return UP if len(calls) < 3 else 0

    runs, session = LentRuns(Limits(folder=tmp_path, slice_seconds=7), executing), new_session()
    job = runs.submit(RECIPE.lasting(seconds=20), session)
    states = [runs.hold(job.id, session).state for _ in range(3)]
    assert states == ["running", "running", "done"]
    assert calls == [(what, 7.0, threading.get_ident()) for what in ("distill", "resume", "resume")]
    assert runs.hold(job.id, session).state == "done"
    assert len(calls) == 3


def test_slices_that_pass_while_a_run_goes_on_are_followed_by_longer_ones(tmp_path):
    lengths = []

    def executing(arguments, home, seconds):
        lengths.append(seconds)
        advance(home, len(lengths) / 100)
        return UP

    runs, session = LentRuns(Limits(folder=tmp_path, slice_seconds=10), executing), new_session()
    job = runs.submit(RECIPE.lasting(seconds=100), session)
    while len(lengths) < 5:
        assert runs.hold(job.id, session).state == "running"
    assert lengths == [10, 10, 20, 40, 40]


def test_a_run_between_slices_is_stopped_at_once_and_survives_a_restart(tmp_path):
    def executing(arguments, home, seconds):
        advance(home, 0.5)
        return UP

    runs, session = LentRuns(Limits(folder=tmp_path), executing), new_session()
    job = runs.submit(RECIPE, session)
    assert runs.waits(runs.hold(job.id, session))
    later = LentRuns(Limits(folder=tmp_path), executing)
    assert later.get(job.id, session).state == "queued"
    assert later.hold(job.id, session).state == "running"
    assert later.stop(job.id, session).state == "stopped"
    assert not (later.home(job) / STOP).exists()
    assert later.resume(job.id, session).state == "queued"


def test_one_run_is_held_once_and_as_many_as_may_train(tmp_path):
    free, inside, calls = threading.Event(), threading.Event(), []

    def executing(arguments, home, seconds):
        calls.append(home.name)
        inside.set()
        free.wait(10)
        return 0

    runs, sessions = LentRuns(Limits(folder=tmp_path), executing), [new_session() for _ in range(2)]
    jobs = [runs.submit(RECIPE, session) for session in sessions]
    thread = threading.Thread(target=runs.hold, args=(jobs[0].id, sessions[0]))
    thread.start()
    assert inside.wait(10)
    assert not runs.waits(jobs[0])
    assert runs.hold(jobs[0].id, sessions[0]).state == "running"
    assert runs.hold(jobs[1].id, sessions[1]).state == "queued"
    with pytest.raises(UserError, match="no such run"):
        runs.hold(jobs[0].id, sessions[1])
    free.set()
    thread.join()
    assert calls == [jobs[0].id]
    assert runs.get(jobs[0].id, sessions[0]).state == "done"
    assert runs.hold(jobs[1].id, sessions[1]).state == "done"


@pytest.mark.parametrize("code", [UP, -9])
def test_a_phase_that_no_slice_holds_ends_with_the_true_reason(tmp_path, code, monkeypatch):
    lengths = []

    def executing(arguments, home, seconds):
        lengths.append(seconds)
        clock[0] += seconds
        advance(home, 0.5)
        return code

    clock = [time.monotonic()]
    monkeypatch.setattr(lent, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    runs, session = LentRuns(Limits(folder=tmp_path, slice_seconds=10), executing), new_session()
    job = runs.submit(RECIPE, session)
    while (job := runs.hold(job.id, session)).state == "running":
        assert len(lengths) < 10
    assert job.state == "failed"
    assert lengths == [10, 10, 20, 40]
    assert f"student takes longer than the {10 * LONGEST} s for which an accelerator is lent" in job.message


def test_a_quota_that_is_used_up_stops_the_run_and_says_so(tmp_path):
    def executing(arguments, home, seconds):
        raise gr.Error("You have exceeded your free ZeroGPU quota", print_exception=False)

    runs, session = LentRuns(Limits(folder=tmp_path), executing), new_session()
    job = runs.submit(RECIPE, session)
    with pytest.raises(UserError, match="exceeded your free ZeroGPU quota"):
        runs.hold(job.id, session)
    assert runs.get(job.id, session).state == "stopped"
    assert runs.get(job.id, session).message == "You have exceeded your free ZeroGPU quota"
    assert runs.resume(job.id, session).state == "queued"


def test_a_visitor_who_leaves_the_queue_leaves_the_run_waiting(tmp_path):
    def executing(arguments, home, seconds):
        raise RuntimeError("Connection closed by visitor while queueing")

    runs, session = LentRuns(Limits(folder=tmp_path), executing), new_session()
    job = runs.submit(RECIPE, session)
    assert runs.hold(job.id, session).state == "running"
    assert runs.waits(runs.get(job.id, session))


def test_a_run_of_this_machines_has_all_its_time_at_once(tmp_path):
    calls = []

    def executing(arguments, home, seconds):
        calls.append(seconds)
        return UP

    runs, session = Runs(Limits(folder=tmp_path, slice_seconds=7, wall_seconds=300), executing), new_session()
    job = runs.submit(RECIPE, session)
    until = time.monotonic() + 10
    while not runs.get(job.id, session).over:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert calls == [300]
    assert not runs.waits(runs.get(job.id, session))
