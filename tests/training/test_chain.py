"""Chains: teacher, assistants, student; each link trained, reported and resumed."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import drain, interrupt, kill_at_random, trained, weights

from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.report.compare import Report
from kdgen.training import run
from kdgen.training.run_log import Journal
from kdgen.training.teacher_cache import TeacherCache
from kdgen.types import Event, UserError

Make = Callable[..., Recipe]
PHASES = ("assistant_1", "assistant_2", "student")


def assistant(width: int, **more: object) -> dict[str, object]:
    return {"student": {"name": "dncnn", "args": {"depth": 3, "width": width}}, "share": 0.25, **more}


TWO = f"assistants={json.dumps([assistant(20), assistant(18)])}"


@pytest.fixture
def chain(make: Make) -> Make:
    return lambda *settings: make(TWO, "steps=40", "controls=false", *settings)


def of(events: list[Event], kind: str) -> list[str]:
    return [event.phase for event in events if event.kind == kind]


def test_each_link_is_taught_by_the_one_before_it_and_reported(chain: Make, tmp_path: Path) -> None:
    events = drain(run.distill(chain(), tmp_path / "run"))
    assert of(events, "phase") == list(PHASES)
    assert list(dict.fromkeys(of(events, "answers"))) == list(PHASES)
    rows = Report.read(tmp_path / "run").rows
    assert [row.role for row in rows] == ["input", "teacher", "assistant", "assistant", "student"]
    assert [row.name for row in rows[2:]] == ["tiny-assistant-1", "tiny-assistant-2", "tiny"]
    assert [row.steps for row in rows[2:]] == [10, 10, 20]
    sizes = [row.num_params for row in rows[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert len(list((tmp_path / "cache" / "answers").glob("*/"))) == 3
    for phase in PHASES:
        home = tmp_path / "run" / ("student" if phase == "student" else f"assistants/{phase}")
        assert load(home).use.args["width"] == {"assistant_1": 20, "assistant_2": 18, "student": 16}[phase]  # type: ignore[union-attr]


def test_a_student_of_an_assistant_is_another_than_the_teachers(make: Make, tmp_path: Path) -> None:
    one = f"assistants={json.dumps([assistant(20, share=0.5)])}"
    trained(run.distill(make(one, "steps=20", "controls=false"), tmp_path / "chain"))
    trained(run.distill(make("steps=10", "controls=false"), tmp_path / "alone"))
    assert weights(tmp_path / "chain") != weights(tmp_path / "alone")


def test_the_control_at_equal_seconds_gets_those_of_the_whole_chain(chain: Make, tmp_path: Path) -> None:
    drain(run.distill(chain("controls=true"), tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    phases = [Journal(tmp_path / "run").phase(phase) for phase in PHASES]
    whole = sum(phase.seconds + phase.answers for phase in phases)
    rows = {row.role: row for row in report.rows}
    assert rows["student"].seconds == pytest.approx(whole)
    assert rows["control_seconds"].seconds == pytest.approx(whole, rel=0.2, abs=0.3)
    assert rows["control_steps"].steps == rows["student"].steps == 20
    assert report.seconds is not None
    assert report.seconds.assistants + report.seconds.answers + report.seconds.training == pytest.approx(whole)
    assert "It had the assistants' seconds too." in report.to_markdown()


def test_an_assistant_may_have_stages_of_its_own_and_start_from_the_teacher(make: Make, tmp_path: Path) -> None:
    own = assistant(24, init="teacher", stages=[{"methods": [{"name": "output"}], "lr": 1e-12}])
    drain(run.distill(make(f"assistants={json.dumps([own])}", "steps=8", "controls=false"), tmp_path / "run"))
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert rows["assistant"].metrics["psnr"] == pytest.approx(rows["teacher"].metrics["psnr"], abs=0.01)


def test_shares_that_leave_nothing_are_refused(chain: Make) -> None:
    with pytest.raises(UserError, match="leave nothing to the student") as refused:
        chain(f"assistants={json.dumps([assistant(20, share=0.5), assistant(18, share=0.5)])}")
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="assistants need a teacher"):
        chain("teacher=null", 'stages=[{"name": "train"}]')


def test_a_link_that_does_not_fit_is_refused_before_anything_is_trained(make: Make, tmp_path: Path) -> None:
    taps = {"name": "feature", "args": {"pairs": [["0", "no.such"]]}}
    wrong = assistant(20, stages=[{"methods": [taps]}])
    for chained in ([wrong], [assistant(22), wrong]):
        with pytest.raises(UserError, match=r"no\.such"):
            next(run.distill(make(f"assistants={json.dumps(chained)}"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_stopped_between_and_inside_links_it_ends_with_the_same_student(chain: Make, tmp_path: Path) -> None:
    trained(run.distill(chain(), tmp_path / "whole"))
    out = tmp_path / "run"
    interrupt(chain(), out, step=3, phase="assistant_1")
    for kind, phase in (("phase", "assistant_1"), ("answers", "assistant_2"), ("phase", "assistant_2"),
                      ("checkpoint", "student")):  # fmt: skip
        events = []
        for event in run.resume(out):
            events.append(event)
            if (event.kind, event.phase) == (kind, phase):
                os.kill(os.getpid(), signal.SIGTERM)
        assert events[-1].kind == "stopped"
        assert str(out) in events[-1].data["resume"]
        assert not (out / "report.json").exists()
    assert drain(run.resume(out))[-1].kind == "done"
    for phase in PHASES:
        assert weights(tmp_path / "whole", phase) == weights(out, phase)


@pytest.mark.slow
def test_sigkill_at_random_moments_changes_nothing(chain: Make, tmp_path: Path) -> None:
    recipe = chain("steps=600", "checkpoint_every=0.2", "cache.inputs=128")
    trained(run.distill(recipe, tmp_path / "whole"))
    kill_at_random(recipe, tmp_path / "run", times=2, least=1)
    drain(run.resume(tmp_path / "run"))
    for phase in PHASES:
        assert weights(tmp_path / "whole", phase) == weights(tmp_path / "run", phase)


def test_finished_links_are_asked_for_nothing_again(
    chain: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drain(run.distill(chain(), tmp_path / "run"))
    for shard in (tmp_path / "cache" / "answers").glob("*/*.safetensors"):
        shard.unlink()
    monkeypatch.setattr(TeacherCache, "fill", lambda self: pytest.fail("asked again"))
    events = drain(run.resume(tmp_path / "run"))
    assert [event.kind for event in events if event.kind != "part"] == ["start", "report", "done"]


def test_controls_get_their_inputs_again_where_these_made_room_for_others(chain: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    running = run.distill(chain("controls=true"), out)
    for event in running:
        if (event.kind, event.phase) == ("phase", "student"):
            break
    running.close()
    for shard in (tmp_path / "cache" / "answers").glob("*/*.safetensors"):
        shard.unlink()
    before = Journal(out).phase("student").answers
    events = drain(run.resume(out))
    assert set(of(events, "phase")) == {"control_steps", "control_seconds"}
    assert Journal(out).phase("student").answers == before
