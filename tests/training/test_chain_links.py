"""A link's teacher and its answers within a run: held once, said, and asked within the run's seconds."""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import drain, trained
from torch import Tensor, nn

from kdgen.recipe import Recipe
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.training.chain import Link
from kdgen.training.run_log import Journal
from kdgen.training.teacher import Teacher
from kdgen.training.tolerance import Bound
from kdgen.types import UserError

Make = Callable[..., Recipe]


class Dear(nn.Module):
    """A teacher of which sixteen answers take ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.seconds = nn.Conv2d(1, 1, 3, padding=1), seconds

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        time.sleep(self.seconds * len(x) / 16)
        out: Tensor = self.conv(x)
        return out


def kernels() -> set[int]:
    """Storages of the fixture's teacher's inner layer, and of whatever else has its shape."""
    gc.collect()
    held = (t for t in gc.get_objects() if type(t) in (torch.Tensor, nn.Parameter) and t.shape == (24, 24, 3, 3))
    return {t.untyped_storage().data_ptr() for t in held}


def test_a_run_holds_the_weights_of_its_teacher_once(make: Make, tmp_path: Path) -> None:
    recipe, looked, most = make("controls=false", "precision=auto"), set[str](), 0
    earlier = kernels()
    for event in run.distill(recipe, tmp_path / "run"):
        if event.kind in {"answers", "evaluate", "checkpoint"} - looked:
            looked.add(event.kind)
            most = max(most, len(kernels() - earlier))
    assert most == 1
    assert len(looked) == 3


@pytest.mark.parametrize("bound", [1.0, 0.0])
def test_what_the_teacher_answers_in_is_said_and_why(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: float
) -> None:
    monkeypatch.setattr("kdgen.training.teacher.BOUND", Bound(own=bound, spread=bound))
    monkeypatch.setattr("kdgen.training.run.bfloat16_pays", lambda device: True)
    events = drain(run.distill(make("controls=false", "precision=auto"), tmp_path / "run"))
    (note,) = [note for note in Report.read(tmp_path / "run").notes if "The teacher answers in" in note]
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    assert ("in bfloat16: against float32, bfloat16 is off by" in note) == bool(bound)
    assert ("in float32: against float32, bfloat16 would be off by" in note) == (not bound)
    assert warnings == ([] if bound else [note])


@pytest.mark.parametrize(
    ("share", "asked", "trained"),
    [("0.25", (1.4, 2.9), (2.5, 4.8)), pytest.param("null", (3.9, 5.5), (1.5, 3.0), marks=pytest.mark.slow)],
)
def test_a_dear_teacher_stops_at_its_share_of_the_seconds_and_the_run_says_so(
    make: Make, tmp_path: Path, share: str, asked: tuple[float, float], trained: tuple[float, float]
) -> None:
    recipe = make("seconds=6", "controls=false", "cache.inputs=2000", "teacher=dear", "cache.augment=false",
                  f"cache.share={share}")  # fmt: skip
    events = drain(run.distill(recipe, tmp_path / "run", teacher=Dear(0.3)))
    answers = [event.data for event in events if event.kind == "answers"]
    noted = Journal(tmp_path / "run").phase("student")
    assert answers[-1]["done"] == answers[-1]["total"], "the bar ends full"
    assert ["equivariance" in each for each in answers] == [True] + [False] * (len(answers) - 1)
    assert 16 <= answers[-1]["done"] == (noted.inputs or 0) < 600
    assert asked[0] < noted.answers < asked[1]
    assert trained[0] < noted.seconds < trained[1]
    (said,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert said.startswith(
        f"The teacher answered {answers[-1]['done']} of 2,000 inputs in {noted.answers:.0f} s, its share"
    )
    assert said in Report.read(tmp_path / "run").notes


def test_a_resumed_run_keeps_to_the_answers_that_it_began_to_train_on(make: Make, tmp_path: Path) -> None:
    recipe = make("seconds=1.5", "controls=false", "cache.inputs=800", "cache.augment=false")
    folder = tmp_path / "run"
    running = run.distill(recipe, folder, teacher=Dear(0.3))
    for event in running:
        if event.kind == "checkpoint":
            break
    running.close()
    noted = Journal(folder).phase("student").inputs
    trained(run.distill(recipe, tmp_path / "more", teacher=Dear(0.3)))
    again = trained(run.resume(folder, teacher=Dear(0.3)))
    (answers,) = [event.data for event in again if event.kind == "answers"]
    assert (answers["done"], answers["from_disk"]) == (noted, True)
    more = Journal(tmp_path / "more").phase("student").inputs
    assert more > noted


@pytest.mark.parametrize("lost", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_teacher_in_int8_is_asked_for_settled_once_counted_and_said(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    running = run.distill(make("controls=false", "precision=int8"), tmp_path / "run")
    for event in running:
        if event.kind == "answers":
            break
    running.close()
    before = Journal(tmp_path / "run").phase("student")
    if lost:
        (tmp_path / "run" / "state.json").unlink()
    monkeypatch.setattr(Link, "_try_int8", lambda *nets: pytest.fail("found out again"))
    drain(run.resume(tmp_path / "run"))
    noted = Journal(tmp_path / "run").phase("student")
    assert noted.trying == before.trying
    assert noted.int8
    assert noted.trying > 0
    assert noted.preparing == pytest.approx(noted.trying + noted.answers)
    assert any("The teacher answers in int8" in note for note in Report.read(tmp_path / "run").notes)


@pytest.mark.parametrize(("worth", "answers"), [(0.0, 0), (60.0, 0), pytest.param(0.0, 10**6, marks=pytest.mark.slow)])
def test_a_teacher_is_tried_in_int8_where_it_is_asked_long_enough_and_often(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: float, answers: int
) -> None:
    tries: list[bool] = []
    monkeypatch.setattr("kdgen.training.chain.WORTH", worth)
    monkeypatch.setattr("kdgen.training.chain.ANSWERS", answers)
    monkeypatch.setattr(Teacher, "try_int8", lambda *args, **kwargs: tries.append(True) or False)
    drain(run.distill(make("controls=false", "precision=auto"), tmp_path / "run"))
    assert len(tries) == (worth == answers == 0)


def test_without_onnxruntime_a_teacher_in_int8_is_refused_in_a_line(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"kdgen\[export\]"):
        drain(run.distill(make("controls=false", "precision=int8"), tmp_path / "run"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (('stages.0.methods=[{"name": "feature", "args": {"pairs": [["0", "0"]]}}]',), "nothing but the output"),
        (("shard_teacher=true", "cache.inputs=0"), "a whole teacher on the CPU"),
    ],
)
def test_int8_that_nothing_would_be_asked_in_is_refused(
    make: Make, tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        drain(run.distill(make("controls=false", "precision=int8", *settings), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
