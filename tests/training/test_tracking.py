"""Figures sent to trackers."""

from pathlib import Path

import pytest

from kdgen.training.tracking import track
from kdgen.types import Event, UserError


def events(folder: Path) -> list[Event]:
    return [
        Event(kind="start", data={"folder": str(folder)}),
        Event(kind="step", step=10, data={"loss": 0.1, "lr": 1e-3}),
        Event(kind="step", step=20, data={"loss": 0.05, "lr": 1e-3}),
        Event(kind="evaluate", phase="control_steps", step=20, data={"psnr": 30.0}),
        Event(kind="checkpoint", step=20, data={"path": "x"}),
    ]


def test_tensorboard_gets_every_figure_by_leg_and_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert list(track(events(tmp_path / "mine"), ["tensorboard"])) == events(tmp_path / "mine")
    found = EventAccumulator(str(tmp_path / "mine" / "tracking" / "mine"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {"student/loss", "student/lr", "control_steps/psnr"}
    assert [(e.step, round(e.value, 6)) for e in found.Scalars("student/loss")] == [(10, 0.1), (20, 0.05)]


def test_no_trackers_are_no_trouble(tmp_path: Path) -> None:
    assert list(track(events(tmp_path), [])) == events(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tracker is called 'tensorbord'; the nearest: tensorboard"):
        next(track(events(tmp_path), ["tensorbord"]))
