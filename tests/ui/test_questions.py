"""What the setup side asks of models: in a bounded process, each once, and never held by it."""

import time
from dataclasses import replace

import pytest

from kdgen.presets import preset
from kdgen.types import UserError
from kdgen.ui import questions
from kdgen.ui.job import new_session
from kdgen.ui.limits import Limits
from kdgen.ui.models import Models
from kdgen.ui.questions import Questions, Waiting
from kdgen.ui.runs import Runs

RECIPE = preset("denoise")


@pytest.fixture
def models(tmp_path):
    runs = Runs(Limits(folder=tmp_path), lambda *command: 0)
    made = Models(runs)
    yield made
    made.end()
    runs.close()


def test_a_cost_is_not_waited_for_and_there_once_it_is_counted(models):
    began = time.monotonic()
    with pytest.raises(Waiting):
        models.costs(RECIPE, "", wait=0)
    assert time.monotonic() - began < 1
    teacher, student = models.costs(RECIPE, "", wait=120)
    assert teacher.macs > 10 * student.macs
    models.questions.worker.end()
    assert models.costs(RECIPE, "", wait=0) == (teacher, student)


def test_a_student_is_proposed_beside_a_comparison(models):
    with models.worker._free:  # something is compared
        assert models.task("denoiser", "", wait=120)["name"] == "denoise"
        use = models.proposed(RECIPE, "denoiser", new_session(), 0.125, None, wait=120)
    assert use != RECIPE.student
    assert list((models.runs.limits.folder / "cache" / "proposals").iterdir())


def test_what_takes_too_long_is_ended_and_said_and_asked_anew(models):
    limits = models.questions.worker.limits
    models.questions.worker.limits = replace(limits, request_seconds=0)
    with pytest.raises(UserError, match="longer than the 0 s"):
        models.costs(RECIPE, "", wait=60)
    models.questions.worker.limits = limits
    assert models.costs(RECIPE, "", wait=120)


def test_questions_that_wait_are_bounded(monkeypatch):
    class Slow:
        def call(self, name, *args):
            time.sleep(1)
            raise UserError("late")

        def end(self):
            pass

    monkeypatch.setattr(questions, "MOST", 3)
    asked = Questions(Slow())
    for number in range(3):
        with pytest.raises(Waiting):
            asked.ask("costs", number, wait=0)
    with pytest.raises(UserError, match="many others"):
        asked.ask("costs", 3, wait=0)
    with pytest.raises(Waiting):
        asked.ask("costs", 0, wait=0)
    with pytest.raises(UserError, match="late"):
        asked.ask("costs", 0, wait=10)
    asked.end()
