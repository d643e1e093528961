"""A link's teacher and its answers within a run: held once, said, and asked within the run's seconds."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import drain
from torch import nn

from kdgen import run
from kdgen.compare import Report
from kdgen.recipe import Recipe
from kdgen.tolerance import Bound

Make = Callable[..., Recipe]


def test_a_run_holds_the_weights_of_its_teacher_once(make: Make, tmp_path: Path) -> None:
    recipe, most = make("controls=false", "precision=auto"), 0
    gc.collect()
    for event in run.distill(recipe, tmp_path / "run"):
        if event.kind in ("answers", "step", "evaluate"):
            gc.collect()
            inner = (
                t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter) and t.shape == (24, 24, 3, 3)
            )
            most = max(most, len({t.untyped_storage().data_ptr() for t in inner}))
    assert most == 1


@pytest.mark.parametrize("bound", [1.0, 0.0])
def test_what_the_teacher_answers_in_is_said_and_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: float
) -> None:
    monkeypatch.setattr("kdgen.teacher.BOUND", Bound(own=bound, spread=bound))
    monkeypatch.setattr("kdgen.run.bfloat16_pays", lambda device: True)
    monkeypatch.setattr("kdgen.run.int8_pays", lambda device: False)
    events = drain(run.distill(make("controls=false", "precision=auto"), tmp_path / "run"))
    (note,) = [note for note in Report.read(tmp_path / "run").notes if "The teacher answers in" in note]
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    assert ("in bfloat16: against float32, bfloat16 is off by" in note) == bool(bound)
    assert ("in float32: against float32, bfloat16 would be off by" in note) == (not bound)
    assert warnings == ([] if bound else [note])
