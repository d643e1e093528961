"""The loop: batches that do not fit into memory, figures that are read late."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import drain, interrupt, trained, weights
from torch import Tensor, nn

from kdgen import register
from kdgen.recipe import Recipe
from kdgen.training import run
from kdgen.training.teacher_cache import TeacherCache
from kdgen.training.trainer import Trainer
from kdgen.types import Batch, TeacherOutput, UserError

Make = Callable[..., Recipe]


class Greedy(nn.Conv2d):
    """A net whose training takes no more than so many images at a time."""

    def __init__(self, channels: int, most: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        self.most = most

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:  # type: ignore[override]
        if self.training and torch.is_grad_enabled() and len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB.")
        return super().forward(x)


@register("net")
def greedy(channels: int = 1, most: int = 1) -> Greedy:
    """For tests."""
    return Greedy(channels, most)


def greedy_student(most: int) -> str:
    return f'student={{"name": "greedy", "args": {{"most": {most}}}}}'


ADAPTIVE = (
    'stages=[{"methods": [{"name": "output"}, {"name": "adversarial"}],'
    ' "ratio": {"name": "adaptive", "args": {"alpha": 0.5, "every": 3}}}]'
)


def test_a_batch_that_does_not_fit_is_split_and_teaches_the_same(make: Make, tmp_path: Path) -> None:
    for most, name in ((99, "whole"), (2, "split")):
        events = trained(run.distill(make("controls=false", "batch_size=6", greedy_student(most)), tmp_path / name))
        said = [event.data["message"] for event in events if event.kind == "warning"]
        if name == "whole":
            assert not said
    assert len(said) == 2
    assert "each step now takes 4 parts of at most 2" in said[1]
    whole, split = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("whole", "split"))
    for key, value in whole.items():
        torch.testing.assert_close(split[key], value, atol=1e-5, rtol=1e-4)


def test_a_split_run_resumes_bit_for_bit(make: Make, tmp_path: Path) -> None:
    recipe = make("controls=false", greedy_student(2), ADAPTIVE)
    trained(run.distill(recipe, tmp_path / "whole"))
    interrupt(recipe, tmp_path / "run", step=5)
    events = drain(run.resume(tmp_path / "run"))
    assert not [event for event in events if event.kind == "warning"]
    assert weights(tmp_path / "whole") == weights(tmp_path / "run")


def test_where_not_one_image_fits_the_error_says_so(make: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not even one image at a time fits into the memory of cpu"):
        drain(run.distill(make("controls=false", greedy_student(0)), tmp_path / "run"))


def test_reading_figures_late_changes_nothing_and_still_catches_a_nan(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(run.distill(make("controls=false"), tmp_path / "each"))
    monkeypatch.setattr(Trainer, "read_every", 5)
    trained(run.distill(make("controls=false"), tmp_path / "late"))
    assert weights(tmp_path / "each") == weights(tmp_path / "late")
    pooled, calls = TeacherCache.__getitem__, itertools.count()

    def poisoned(self: TeacherCache, index: Tensor) -> tuple[Batch, TeacherOutput | None]:
        batch, answer = pooled(self, index)
        if next(calls) == 6:
            batch.x[0, 0, 0, 0] = float("nan")
        return batch, answer

    monkeypatch.setattr(TeacherCache, "__getitem__", poisoned)
    events = drain(run.distill(make("controls=false", "evaluate_every=null"), tmp_path / "poisoned"))
    (said,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert "not finite at step 10: back to step 5" in said
    assert all(value.isfinite().all() for value in load_file(tmp_path / "poisoned/student/model.safetensors").values())
