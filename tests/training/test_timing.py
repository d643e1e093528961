"""The time of a run, before it and after it."""

import json
import time

import pytest

from kdgen.presets import preset
from kdgen.recipe import override
from kdgen.training import run, timing
from kdgen.training.schedule import asking

RATES = timing.Rates(start=1, answer=0.01, step=0.1, look=2, reference=3, teacher=8, student=4, closing=2)
RECIPE = preset("denoise")


def test_all_of_a_run_is_counted():
    spans = timing.spans(RECIPE.lasting(seconds=100), RATES)
    assert list(spans) == ["start", "answers", "student", "control_steps", "control_seconds", "report"]
    assert spans["answers"] == 25  # 30 s for all 3000, of which a quarter of 100 s is for asking
    assert spans["student"] == 75 + 3 * 2 + 3
    assert spans["control_steps"] == 75 + 3 * 2
    assert spans["control_seconds"] == 100 + 5 * 2
    assert spans["report"] == 8 + 3 * 4 + 2


def test_what_is_on_disk_is_not_asked_again():
    asked = timing.spans(RECIPE.lasting(seconds=100), RATES.model_copy(update={"filled": 2000}))["answers"]
    assert asked == pytest.approx(25 / 3)
    assert timing.spans(RECIPE.lasting(seconds=100), RATES.model_copy(update={"filled": 3000}))["answers"] == 0


def test_steps_take_what_they_were_measured_to_take():
    spans = timing.spans(override(RECIPE, ["steps=50", "controls=false"]), RATES)
    assert spans["answers"] == 30
    assert spans["student"] == 50 * 0.1 + 3 * 2 + 3
    assert not any(name.startswith("control") for name in spans)


def test_images_that_a_model_draws_come_first():
    rates = RATES.model_copy(update={"drawing": 40.0})
    assert timing.spans(preset("diffusion"), rates)["images"] == 40
    assert "images" not in timing.spans(preset("diffusion"), rates.model_copy(update={"drawn": True}))


@pytest.mark.parametrize(("seconds", "spent", "share", "answered", "expected"), [
    (30, 0, 0.25, 0, 7.5), (30, 0, None, 0, 20), (30, 15, None, 0, 10), (30, 15, 0.25, 0, 7.5),
    (None, 0, 0.25, 0, None), (30, 0, 0.25, 0.5, 3.75), (30, 0, None, 0.5, 20),
])  # fmt: skip
def test_how_long_the_teacher_is_asked(seconds, spent, share, answered, expected):
    assert asking(seconds, spent, share, answered) == (None if expected is None else pytest.approx(expected))


@pytest.fixture
def finished(make, tmp_path):
    """A short run with its events."""
    recipe = make("seconds=2", "cache.inputs=64")
    began = time.time()
    list(run.distill(recipe, tmp_path / "run"))
    return recipe, [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()], began


def test_a_run_that_ended_corrects_the_rates(finished):
    recipe, events, began = finished
    assert all(began <= event["time"] <= time.time() for event in events)
    walls = timing.walls(events)
    assert sum(walls.values()) == pytest.approx(events[-1]["time"] - events[0]["time"])
    assert walls["student"] > 0.6
    parts = [event["data"] for event in events if event["kind"] == "part" and event["phase"] == "report"]
    assert [part["part"] for part in parts] == ["teacher", "student", "control_steps", "control_seconds", "compare",
                                                "pictures"]  # fmt: skip
    assert [part["done"] for part in parts] == list(range(6))
    better = timing.learned(recipe, events, RATES, began)
    assert better.runs == 1
    expected, spans = walls["report"], timing.spans(recipe, RATES)["report"]
    assert timing.spans(recipe, better)["report"] == pytest.approx(0.6 * expected + 0.4 * spans, rel=0.05)
    assert better.step < RATES.step


def test_rates_are_measured_and_kept(make, tmp_path, monkeypatch):
    monkeypatch.setenv("KDGEN_CACHE", str(tmp_path / "cache"))
    recipe = make("seconds=2", "cache.inputs=64")
    assert timing.known(recipe) is None
    rates = timing.measure(recipe, tmp_path / "trial")
    assert rates.step > 0
    assert rates.answer > 0
    assert rates.student > 0
    timing.keep(recipe, rates)
    assert timing.known(recipe.lasting(seconds=50)) == rates
    assert timing.known(override(recipe, ["batch_size=3"])) is None
    assert list(timing.fill(recipe, tmp_path))[-1] == 64
