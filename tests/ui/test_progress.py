"""How far a run is, and how long it has left: measured, phase by phase."""

import json
import time

import pytest

from kdgen.presets import preset
from kdgen.ui.estimates import SPANS, Estimates
from kdgen.ui.preparing import Preparing
from kdgen.ui.process import EVENTS
from kdgen.ui.progress import follow

SPANNED = {
    "start": 1.0,
    "answers": 10.0,
    "student": 30.0,
    "control_steps": 20.0,
    "control_seconds": 30.0,
    "report": 9.0,
}


@pytest.fixture
def home(tmp_path):
    """The home of a run, of which everything is expected."""
    (tmp_path / "run").mkdir()
    (tmp_path / SPANS).write_text(json.dumps(SPANNED))
    (tmp_path / "run" / "recipe.json").write_text(preset("denoise").lasting(seconds=40).to_json())
    return tmp_path


def log(home, *events, ago=0.0):
    """Write events, each so many seconds before the last one, which was ``ago``."""
    now = time.time() - ago
    lines = []
    for before, kind, phase, progress, data in events:
        lines.append(json.dumps({"kind": kind, "phase": phase, "step": 1, "progress": progress, "data": data,
                                 "time": now - before}))  # fmt: skip
    (home / "run" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return follow(home / "run")


START = (21.0, "start", "student", 0, {"state": {}, "guided": True})
ANSWERED = (20.0, "answers", "student", 0, {"done": 1, "total": 10, "seconds": 0.1, "from_disk": False})
BEGUN = (10.0, "part", "student", 0, {"part": "begin", "done": 0, "total": 1})


def test_before_the_first_event_everything_is_left(home):
    assert follow(home / "run").seconds_left == 100


def test_images_are_counted_before_there_is_a_run(home):
    (home / SPANS).write_text(json.dumps({"start": 1.0, "images": 50.0, **SPANNED}))
    (home / EVENTS).write_text(json.dumps({"kind": "images", "phase": "student", "step": 0, "progress": 0.4,
                                           "data": {"done": 40, "total": 100}}))  # fmt: skip
    progress = follow(home / "run")
    assert (progress.phase, progress.share, progress.part) == ("images", 0.4, ("images", 40, 100))
    assert progress.seconds_left == pytest.approx(150 - 0.4 * 50)


def test_every_phase_is_named_from_its_first_event_on(home):
    assert log(home, START, ANSWERED).phase == "answers"
    assert log(home, START, ANSWERED, BEGUN).phase == "student"
    report = (0.0, "part", "report", 0.2, {"part": "teacher", "done": 1, "total": 5})
    progress = log(home, START, ANSWERED, BEGUN, report)
    assert (progress.phase, progress.part) == ("report", ("teacher", 1, 5))


def test_time_left_is_as_expected_while_things_go_as_expected(home):
    step = (0.0, "step", "student", 1 / 3, {"loss": 1.0, "images_per_second": 9.0})
    progress = log(home, START, ANSWERED, BEGUN, step)
    assert progress.seconds_left == pytest.approx(20 + 20 + 30 + 9, rel=0.1)
    assert progress.overall == pytest.approx(0.21, abs=0.03)


def test_a_busy_machine_has_more_time_left(home):
    ended = (0.0, "phase", "student", 1, {"steps": 9, "seconds": 30.0, "tried": 0})
    slow = [(61.0, *START[1:]), (60.0, *ANSWERED[1:]), (50.0, *BEGUN[1:]), (-10.0, *ended[1:])]
    begun = (-10.0, "part", "control_steps", 0, {"part": "begin", "done": 0, "total": 1})
    progress = log(home, *slow, begun, ago=10)
    ratio = (1 + 10 + 60) / (1 + 10 + 30)
    assert progress.seconds_left == pytest.approx(ratio * (20 + 30 + 9), rel=0.15)


def test_a_pause_is_no_work(home):
    stopped = (1005.0, "stopped", "student", 0.5, {"reason": "", "resume": ""})
    again = (5.0, *START[1:])
    step = (0.0, "step", "student", 0.5, {"loss": 1.0, "images_per_second": 9.0})
    progress = log(home, (1021.0, *START[1:]), (1020.0, *ANSWERED[1:]), (1015.0, *BEGUN[1:]), stopped, again, step)
    assert progress.seconds_left < 120


def test_done_is_done(home):
    progress = log(home, START, (0.0, "done", "student", 0, {}))
    assert (progress.seconds_left, progress.overall) == (0, 1)


def test_estimates_know_what_was_measured_and_ask_for_what_was_not(tmp_path):
    wanted = []
    preparing = Preparing({}, lambda: True, enabled=False)
    preparing.enabled, preparing.want = True, lambda *recipes, first=False: wanted.extend(recipes)
    estimates = Estimates(tmp_path, preparing)
    assert estimates.spans(preset("denoise")) is None
    assert wanted == [preset("denoise")]
    preparing.enabled = False
    assert sum(estimates.spans(preset("denoise")).values()) > 100
    preparing.close()
