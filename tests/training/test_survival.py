"""What runs survive: being stopped and killed, damaged checkpoints, losses that are not finite, a full disk."""

import errno
import io
import os
import pickle
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import drain, interrupt, kill_at_random, trained, weights

from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import UserError

Make = Callable[..., Recipe]


def test_a_resumed_run_computes_as_it_began(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make("controls=false", "precision=auto")
    monkeypatch.setattr(run, "bfloat16_pays", lambda device: True)
    trained(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=3)
    monkeypatch.setattr(run, "bfloat16_pays", lambda device: False)
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_stopping_saves_and_resuming_ends_with_the_same_student(make: Make, tmp_path: Path) -> None:
    trained(run.distill(make("controls=false"), tmp_path / "whole"))
    events = []
    for event in run.distill(make("controls=false"), tmp_path / "run"):
        events.append(event)
        if event.kind == "checkpoint" and event.step >= 3:
            os.kill(os.getpid(), signal.SIGTERM)
    assert events[-1].kind == "stopped"
    assert not (tmp_path / "run" / "student").exists()
    assert drain(run.resume(tmp_path / "run"))[-1].kind == "done"
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


ADAPTIVE = (
    'stages=[{"share": 0.7, "methods": [{"name": "output"}, {"name": "feature"}],'
    ' "ratio": {"name": "adaptive", "args": {"alpha": 0.5, "every": 3}}},'
    ' {"share": 0.3, "name": "fine-tune", "optimizer": "muon", "lr": 0.001}]'
)


def test_resume_is_exact_with_regressors_an_adaptive_ratio_and_two_stages(make: Make, tmp_path: Path) -> None:
    recipe = make("controls=false", ADAPTIVE, "steps=20")
    trained(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=7)
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


@pytest.mark.parametrize(("times", "steps"), [(2, 400), pytest.param(5, 700, marks=pytest.mark.slow)])
def test_sigkill_at_random_moments_changes_nothing(make: Make, tmp_path: Path, times: int, steps: int) -> None:
    recipe = make(f"steps={steps}", ADAPTIVE, "checkpoint_every=0.2", "cache.inputs=256", "controls=false")
    trained(run.distill(recipe, tmp_path / "whole"))
    kill_at_random(recipe, tmp_path / "run", times=times, least=times // 2)
    drain(run.resume(tmp_path / "run"))
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(make: Make, tmp_path: Path) -> None:
    trained(run.distill(make("controls=false"), tmp_path / "whole"))
    interrupt(make("controls=false"), tmp_path / "run", step=5)
    last = tmp_path / "run" / "checkpoints" / "student" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    events = drain(run.resume(tmp_path / "run"))
    warnings = [e.data["message"] for e in events if e.kind == "warning"]
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_a_checkpoint_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'sprung'}",)

    checkpoints = Checkpoints(tmp_path)
    checkpoints.last.write_bytes(pickle.dumps(Trap()))
    state, damaged = checkpoints.load()
    assert state is None
    assert len(damaged) == 1
    assert not (tmp_path / "sprung").exists()


def test_a_nan_goes_back_and_the_run_ends_well(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = TeacherCache.__getitem__
    calls = iter(range(10**6))

    def poisoned(self: TeacherCache, index: torch.Tensor) -> object:
        batch, answer = pooled(self, index)
        if next(calls) == 6:
            batch.x[0, 0, 0, 0] = float("nan")
        return batch, answer

    monkeypatch.setattr(TeacherCache, "__getitem__", poisoned)
    events = drain(run.distill(make("controls=false"), tmp_path / "run"))
    warnings = [e.data["message"] for e in events if e.kind == "warning"]
    assert len(warnings) == 1
    assert "learning rate times 0.5" in warnings[0]
    assert all(p.isfinite().all() for p in load(tmp_path / "run").parameters())


def test_a_loss_that_stays_nan_stops_with_an_explanation(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = TeacherCache.__getitem__

    def poisoned(self: TeacherCache, index: torch.Tensor) -> object:
        batch, answer = pooled(self, index)
        batch.x.fill_(float("nan"))
        return batch, answer

    monkeypatch.setattr(TeacherCache, "__getitem__", poisoned)
    with pytest.raises(UserError, match=r"not finite at step \d+, after going back 3 times"):
        drain(run.distill(make("controls=false"), tmp_path / "run"))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints" / "student")
    checkpoints.save({"step": 3, "value": torch.ones(3)})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"is full, so step 4 could not be saved; the checkpoint of step 3 is kept"):
        checkpoints.save({"step": 4, "value": torch.zeros(3)})
    state, damaged = checkpoints.load()
    assert state is not None
    assert state["step"] == 3
    assert not damaged


def test_a_disk_that_fills_anywhere_in_a_checkpoint_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"step": 4, "large": torch.zeros(4000), "many": [torch.zeros(9) for _ in range(9)], "text": "x" * 50}
    folder, opened = tmp_path / "run" / "checkpoints" / "student", Path.open
    checkpoints = Checkpoints(folder)
    checkpoints.save({**state, "step": 3})
    room = [0]

    class Small(io.FileIO):
        def write(self, data: Any) -> int:
            if self.tell() + memoryview(data).nbytes > room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def small(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Small(path, "w") if mode == "wb" else opened(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", small)
    size = checkpoints.last.stat().st_size
    for room[0] in range(0, size, size // 40):
        with pytest.raises(UserError, match="is full, so step 4 could not be saved; the checkpoint of step 3 is kept"):
            checkpoints.save(state)
        assert [path.name for path in folder.iterdir()] == ["last.pt"]
    room[0] = size
    checkpoints.save(state)
    assert (checkpoints.load()[0] or {})["step"] == 4


def test_a_checkpoint_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints" / "student")
    state = {"step": 1, "tensors": [torch.zeros(500_000) for _ in range(4)]}
    tracemalloc.start()
    checkpoints.save(state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000, "the state of 8 MB was copied"
