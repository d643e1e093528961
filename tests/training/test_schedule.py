"""Stages and learning rates at a progress, against values worked out by hand."""

import pytest

from kdgen.recipe import Stage
from kdgen.training.schedule import Length, learning_rate, stage_at


def test_length_counts_steps_or_the_seconds_that_are_left() -> None:
    assert Length(steps=8, seconds=None).progress(2, elapsed=99.0) == 0.25
    assert Length(steps=None, seconds=10.0, spent=6.0).progress(10**6, elapsed=1.0) == 0.25
    assert not Length(steps=None, seconds=10.0, spent=6.0).overrun


def test_a_third_of_the_seconds_is_left_for_training_whatever_images_and_answers_took() -> None:
    length = Length(steps=None, seconds=150.0, spent=166.0)
    assert length.overrun
    assert length.training == 50.0
    assert length.progress(1, elapsed=0.3) == pytest.approx(0.006)
    assert length.progress(1, elapsed=50.0) == 1.0


@pytest.mark.parametrize(
    ("decay", "halfway"), [("cosine", 0.1 + 0.9 * 0.5), ("linear", 0.1 + 0.9 * 0.5), ("none", 1.0)]
)
def test_the_rate_rises_then_falls(decay: str, halfway: float) -> None:
    stage = Stage(lr=2.0, warmup=0.2, decay=decay, final=0.1)  # type: ignore[arg-type]
    assert learning_rate(stage, 0.0) == 0.0
    assert learning_rate(stage, 0.1) == pytest.approx(1.0)
    assert learning_rate(stage, 0.2) == pytest.approx(2.0)
    assert learning_rate(stage, 0.6) == pytest.approx(2.0 * halfway)
    assert learning_rate(stage, 1.0) == pytest.approx(2.0 if decay == "none" else 0.2)


def test_stages_share_the_run_in_proportion() -> None:
    stages = (Stage(share=0.3), Stage(share=0.1))
    assert stage_at(stages, 0.0) == (0, 0.0)
    assert stage_at(stages, 0.375) == (0, pytest.approx(0.5))
    assert stage_at(stages, 0.75) == (1, pytest.approx(0.0))
    assert stage_at(stages, 1.0) == (1, 1.0)


def test_seconds_left_are_the_rest_or_told_by_the_speed_after_the_first_steps() -> None:
    assert Length(None, 40.0, spent=10.0).left(3, 6.0, (1, 5.0)) == pytest.approx(24.0)
    assert Length(100, None).left(1, 5.0, (1, 5.0)) is None
    assert Length(100, None).left(11, 6.0, (1, 5.0)) == pytest.approx(8.9)
