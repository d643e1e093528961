import json
import threading
import time
from dataclasses import replace

import pytest

from kdgen.presets import preset
from kdgen.types import UserError
from kdgen.ui.gallery import teacher_of
from kdgen.ui.job import new_session
from kdgen.ui.limits import Limits
from kdgen.ui.process import STOP, complaint, environment, execute
from kdgen.ui.runs import Runs
from kdgen.ui.watch import packed

RECIPE = preset("denoise").lasting(seconds=5)


class Slow:
    """Stands for the process of a run: works until it is told to stop, or let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.begun: list[str] = []
        self.code = 0

    def __call__(self, arguments, home, seconds):
        self.begun.append(home.name)
        until = time.monotonic() + seconds
        while not self.free.is_set():
            if (home / STOP).exists() or time.monotonic() > until:
                return 130
            time.sleep(0.01)
        return self.code


@pytest.fixture
def slow():
    made = Slow()
    yield made
    made.free.set()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_runs_wait_in_line_and_places_go_down(tmp_path, slow):
    runs = Runs(Limits(folder=tmp_path), slow)
    sessions = [new_session() for _ in range(3)]
    jobs = [runs.submit(RECIPE, session) for session in sessions]
    until(lambda: slow.begun == [jobs[0].id])
    assert [runs.place(job.id) for job in jobs] == [0, 1, 2]
    assert runs.stop(jobs[1].id, sessions[1]).state == "stopped"
    assert runs.place(jobs[2].id) == 1
    runs.stop(jobs[0].id, sessions[0])
    until(lambda: slow.begun == [jobs[0].id, jobs[2].id])
    assert runs.get(jobs[0].id, sessions[0]).state == "stopped"
    slow.free.set()
    until(lambda: runs.get(jobs[2].id, sessions[2]).state == "done")


def test_a_session_sees_its_own_runs_alone(tmp_path, slow):
    runs = Runs(Limits(folder=tmp_path), slow)
    mine, yours = new_session(), new_session()
    job = runs.submit(RECIPE, mine)
    assert [each.id for each in runs.owned_by(mine)] == [job.id]
    assert runs.owned_by(yours) == []
    for act in (runs.get, runs.stop, runs.delete, runs.resume):
        with pytest.raises(UserError, match="no such run"):
            act(job.id, yours)
    for id in ("", "../..", "x" * 12, None):
        with pytest.raises(UserError, match="no such run"):
            runs.get(id, mine)
    with pytest.raises(UserError, match="no session"):
        runs.submit(RECIPE, "short")
    assert mine not in (tmp_path / "runs" / job.id / "job.json").read_text()


def test_line_and_share_are_bounded(tmp_path, slow):
    runs = Runs(Limits(folder=tmp_path, per_session=2, in_line=3), slow)
    session = new_session()
    first = runs.submit(RECIPE, session)
    until(lambda: slow.begun == [first.id])
    runs.submit(RECIPE, session)
    with pytest.raises(UserError, match="2 runs"):
        runs.submit(RECIPE, session)
    runs.submit(RECIPE, new_session())
    runs.submit(RECIPE, new_session())
    with pytest.raises(UserError, match="line is full"):
        runs.submit(RECIPE, new_session())


def test_a_failure_leaves_the_line_going(tmp_path):
    def executing(arguments, home, seconds):
        if home.name == broken[0]:
            raise RuntimeError("secret /path")
        return 0

    broken = [""]
    runs = Runs(Limits(folder=tmp_path), lambda *given: time.sleep(0.2) or executing(*given))
    session = new_session()
    first = runs.submit(RECIPE, session)
    broken[0] = first.id
    second = runs.submit(RECIPE, session)
    until(lambda: runs.get(second.id, session).over)
    assert runs.get(first.id, session).state == "failed"
    assert "secret" not in runs.get(first.id, session).message
    assert runs.get(second.id, session).state == "done"


def stopped(runs, slow, session):
    """A run of a session that was stopped."""
    job = runs.submit(RECIPE, session)
    until(lambda: job.id in slow.begun)
    runs.stop(job.id, session)
    until(lambda: runs.get(job.id, session).state == "stopped")
    return job


def at_once(runs, *acts):
    """What acts give that all arrive while somebody else is at the line, in the order in which they got through."""
    gave = []

    def go(act):
        try:
            gave.append(act())
        except UserError as error:
            gave.append(error)

    threads = [threading.Thread(target=go, args=(act,)) for act in acts]
    with runs._changed:
        for thread in threads:
            thread.start()
            time.sleep(0.05)
    for thread in threads:
        thread.join()
    return gave


def test_two_resumes_at_once_run_a_job_once(tmp_path, slow):
    runs, session = Runs(Limits(folder=tmp_path, per_session=9), slow), new_session()
    job = stopped(runs, slow, session)
    gave = at_once(runs, *[lambda: runs.resume(job.id, session)] * 4)
    assert sorted(type(each).__name__ for each in gave) == ["Job", "UserError", "UserError", "UserError"]
    slow.free.set()
    until(lambda: runs.get(job.id, session).state == "done")
    last = runs.submit(RECIPE, session)
    until(lambda: runs.get(last.id, session).state == "done")
    assert slow.begun == [job.id, job.id, last.id]


@pytest.mark.parametrize("first", ["resume", "delete"])
def test_resume_and_delete_at_once_leave_the_line_going(tmp_path, slow, first):
    runs, session = Runs(Limits(folder=tmp_path, per_session=9), slow), new_session()
    job = stopped(runs, slow, session)
    busy = runs.submit(RECIPE, session)
    until(lambda: busy.id in slow.begun)
    acts = {"resume": lambda: runs.resume(job.id, session), "delete": lambda: runs.delete(job.id, session)}
    gave = at_once(runs, acts.pop(first), *acts.values())
    assert sum(isinstance(each, UserError) for each in gave) == 1
    slow.free.set()
    last = runs.submit(RECIPE, session)
    until(lambda: runs.get(last.id, session).state == "done")
    kept = [each.id for each in runs.owned_by(session)]
    assert (job.id in kept) == (slow.begun.count(job.id) == 2) == (tmp_path / "runs" / job.id).exists()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_no_failure_of_a_run_ends_the_line(tmp_path, error):
    def executing(arguments, home, seconds):
        if not done:
            done.append(home.name)
            raise error

    done = []
    runs, session = Runs(Limits(folder=tmp_path), lambda *given: executing(*given) or 0), new_session()
    jobs = [runs.submit(RECIPE, session) for _ in range(2)]
    until(lambda: all(runs.get(job.id, session).over for job in jobs))
    assert [runs.get(job.id, session).state for job in jobs] == ["failed", "done"]


def test_a_deleted_run_leaves_nothing_to_download(tmp_path, slow):
    slow.free.set()
    runs, session = Runs(Limits(folder=tmp_path), slow), new_session()
    job = runs.submit(RECIPE, session)
    until(lambda: runs.get(job.id, session).state == "done")
    (tmp_path / "runs" / job.id / "run" / "student").mkdir(parents=True)
    recipe = {**RECIPE.model_dump(mode="json"), "teacher": str(tmp_path / "runs" / "0123456789ab" / "run")}
    (tmp_path / "runs" / job.id / "run" / "recipe.json").write_text(json.dumps(recipe))
    assert teacher_of(runs, job) == "run:0123456789ab"
    student, downloaded = packed(runs, replace(job, name="upscaler-student"))
    assert student.name == "upscaler-student.zip", "said once"
    assert str(tmp_path) not in downloaded.read_text()
    assert student.is_file()
    runs.delete(job.id, session)
    assert not student.exists()
    with pytest.raises(UserError, match="deleted"):
        packed(runs, job)


def test_a_new_server_takes_up_what_the_last_one_left(tmp_path, slow):
    before = Runs(Limits(folder=tmp_path), slow)
    session = new_session()
    job = before.submit(RECIPE, session)
    until(lambda: slow.begun == [job.id])
    before.close()
    assert before.get(job.id, session).state == "queued"
    slow.free.set()
    after = Runs(Limits(folder=tmp_path), slow)
    until(lambda: after.get(job.id, session).state == "done")


def test_old_runs_are_swept_and_the_oldest_go_first(tmp_path, slow):
    slow.free.set()
    runs = Runs(Limits(folder=tmp_path, disk_bytes=3000, per_session=9), slow)
    session = new_session()
    jobs = []
    for _ in range(3):
        jobs.append(runs.submit(RECIPE, session))
        until(lambda: runs.get(jobs[-1].id, session).over)
        (tmp_path / "runs" / jobs[-1].id / "weights").write_bytes(b"0" * 1000)
    runs.sweep()
    left = [job.id for job in runs.owned_by(session)]
    assert jobs[0].id not in left
    assert not (tmp_path / "runs" / jobs[0].id).exists()


def test_a_process_is_stopped_by_a_file_and_sees_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    env = environment(tmp_path)
    assert not any("TOKEN" in key and "DISABLE" not in key for key in env)
    assert "hf_xxx" not in str(env)
    (tmp_path / STOP).touch()
    begun = time.monotonic()
    assert execute(["sleep", "30"], tmp_path, 60, env=env) == -15
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "pid").exists()


def test_time_is_up(tmp_path):
    assert execute(["sleep", "30"], tmp_path, 0.3) == -15


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("kdgen: student has 3 channels: take 1\n", 2, "student has 3 channels: take 1"),
        ("", -9, "memory"),
        ("Traceback\nRuntimeError: can't allocate memory: you tried\n", 1, "smaller student"),
        ("Traceback\nOSError: [Errno 28] No space left on device: 'x'\n", 1, "the disk of this machine is full"),
        ("Traceback\nFileNotFoundError: [Errno 2] No such file: 'run/x'\n", 1, "its folder is gone"),
        ("Traceback\nValueError: odd\n", 1, "it broke off: ValueError: odd"),
    ],
)
def test_a_failure_is_told_in_a_line(tmp_path, log, code, said):
    (tmp_path / "log.txt").write_text(log)
    assert said in complaint(tmp_path, code)
    assert str(tmp_path) not in complaint(tmp_path, code)


def test_a_process_whose_id_cannot_be_written_down_is_watched_nevertheless(tmp_path):
    (tmp_path / "pid").symlink_to("/dev/full")
    assert execute(["sleep", "30"], tmp_path, 0.3) == -15
