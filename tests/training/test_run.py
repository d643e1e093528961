"""Whole runs on tiny nets: what they leave behind, and what they refuse."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import drain, interrupt, trained, weights

import kdgen
from kdgen import registry
from kdgen.models.model import load
from kdgen.recipe import Recipe
from kdgen.report.compare import Report
from kdgen.report.loss_curves import curves
from kdgen.tasks import Denoise
from kdgen.training import run, run_report
from kdgen.types import UserError

Make = Callable[..., Recipe]


def test_a_run_leaves_everything_behind(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "curves", curves)
    events = drain(run.distill(make(), tmp_path / "run"))
    assert events[-1].kind == "done"
    assert {e.kind for e in events} >= {"start", "answers", "phase", "report", "done"}
    for name in ("recipe.json", "metrics.jsonl", "report.json", "report.md", "samples.png", "curves.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    with Image.open(tmp_path / "run" / "curves.png") as drawn:
        assert drawn.width > 1000
    rows = {row.role: row for row in Report.read(tmp_path / "run").rows}
    assert set(rows) == {"input", "teacher", "student", "control_steps", "control_seconds"}
    assert rows["control_steps"].steps == rows["student"].steps == 12
    assert rows["control_seconds"].seconds == pytest.approx(rows["student"].seconds, abs=0.3)
    assert {"psnr", "ssim", "sharpness"} <= rows["student"].metrics.keys()
    assert rows["student"].num_params < rows["teacher"].num_params
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [e.kind for e in events]
    image = torch.zeros(1, 9, 7)
    assert load(tmp_path / "run")(image).shape == image.shape


def test_the_same_recipe_gives_the_same_student(make: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        trained(run.distill(make("controls=false"), tmp_path / name))
    trained(run.distill(make("controls=false", "seed=1"), tmp_path / "c"))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["cache.crop=8"], ["answers were flipped and rotated|Inputs were flipped and rotated once", "cropped"]),
        (['stages.0.methods=[{"name": "feature", "args": {"pairs": [["1", "1"]]}}]'], ["features do not follow"]),
        (["cache.augment=false"], []),
    ],
)
def test_the_report_says_whether_answers_were_turned_and_a_resumed_run_keeps_to_it(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], said: list[str]
) -> None:
    interrupt(make("controls=false", *settings), tmp_path / "run", step=2)
    monkeypatch.setattr("kdgen.training.teacher_cache.measured", None)
    drain(run.resume(tmp_path / "run"))
    notes = [note for note in Report.read(tmp_path / "run").notes if "nputs" in note]
    assert len(notes) == len(said)
    assert all(re.search(pattern, note) for pattern, note in zip(said, notes, strict=True))


def test_a_run_is_never_overwritten(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("controls=false"), tmp_path / "run"))
    with pytest.raises(UserError, match="kdgen resume"):
        drain(run.distill(make(), tmp_path / "run"))


def test_the_second_of_two_runs_in_one_folder_is_refused(make: Make, tmp_path: Path) -> None:
    first = run.distill(make(), tmp_path / "run")
    next(first)
    with pytest.raises(UserError, match="another process"):
        next(run.resume(tmp_path / "run"))
    first.close()


def test_without_ground_truth_the_teacher_is_the_only_guide(make: Make, tmp_path: Path) -> None:
    from PIL import Image

    noisy = tmp_path / "noisy"
    noisy.mkdir()
    for number in range(3):
        pixels = torch.randint(256, (24, 24), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(noisy / f"{number}.png")
    images = json.dumps({"name": "folder", "args": {"path": str(noisy)}})
    recipe = make("task.args={}", 'task.args={"patch": 16, "clean": false, "images": ' + images + "}")
    drain(run.distill(recipe, tmp_path / "run"))
    report = Report.read(tmp_path / "run")
    assert {row.role for row in report.rows} == {"input", "teacher", "student"}
    assert "alpha was 1" in (tmp_path / "run" / "report.md").read_text()


def test_the_report_says_that_a_ground_truth_did_not_count(make: Make, tmp_path: Path) -> None:
    plain = '{"methods": [{"name": "output"}], "share": 0.5}'
    half = '{"name": "fine", "methods": [{"name": "output"}], "ratio": {"name": "fixed", "args": {"alpha": 0.5}}}'
    said = {}
    for name, stages in (("alone", plain), ("both", half), ("first", f"{plain}, {half}")):
        drain(run.distill(make(f"stages=[{stages}]", "controls=false", "steps=4"), tmp_path / name))
        report = (tmp_path / name / "report.md").read_text()
        said[name] = [line for line in report.splitlines() if "Alpha stayed at 1" in line]
    assert "Alpha stayed at 1 throughout: the teacher was the only guide" in said["alone"][0]
    assert said["both"] == []
    assert "Alpha stayed at 1 in the stages transfer: the teacher" in said["first"][0]


def test_the_report_says_where_controls_see_new_noise_and_the_student_does_not(make: Make, tmp_path: Path) -> None:
    view = {"name": "views", "args": {"task": make().task.model_dump(mode="json"), "student": [
        {"name": "noise", "args": {"sigma": 20}}]}}  # fmt: skip
    for number, settings in enumerate(([], ["cache.inputs=0"], [f"task={json.dumps(view)}"], ["controls=false"])):
        drain(run.distill(make("steps=2", *settings), tmp_path / str(number)))
    said = ["the controls see images under new noise" in " ".join(map(str, Report.read(tmp_path / str(number)).notes))
            for number in range(4)]  # fmt: skip
    assert said == [True, False, False, False]


def test_an_objective_that_cannot_count_is_refused_before_anything_is_written(make: Make, tmp_path: Path) -> None:
    recipe = make('stages.0.objectives=[{"name": "sharpness"}]')
    with pytest.raises(UserError, match=r"stages\.0\.ratio.* \(sharpness\) would never count: lower its alpha"):
        next(run.distill(recipe, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_crop_is_never_passed_over_in_silence(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"cache\.crop is 48, and inputs have 16x16 pixels: set it to at most 16, or to"
    ):
        next(run.distill(make("cache.crop=48"), tmp_path / "larger"))
    assert not (tmp_path / "larger").exists()
    events = run.distill(make("cache.crop=8", "cache.inputs=0", "controls=false", "steps=1"), tmp_path / "fresh")
    said = [event.data["message"] for event in drain(events) if event.kind == "warning"]
    assert said == ["cache.crop is for cached inputs: with cache.inputs 0 the student trains on whole inputs"]


def test_uncached_and_without_a_teacher(make: Make, tmp_path: Path) -> None:
    drain(run.distill(make("cache.inputs=0", "controls=false"), tmp_path / "uncached"))
    drain(run.distill(make("teacher=null", 'stages=[{"name": "train"}]', "cache.inputs=0"), tmp_path / "alone"))
    assert {row.role for row in Report.read(tmp_path / "alone").rows} == {"input", "student"}


@pytest.mark.parametrize("student", [{"name": "half_res", "args": {"sigma_map": True}}, {"name": "patch_mlp"}])
def test_colour_and_a_range_of_levels(make: Make, tmp_path: Path, student: dict[str, object]) -> None:
    recipe = make(
        "task.args.sigma=[5, 50]",
        "task.args.channels=3",
        "teacher=soft",
        f"student={json.dumps(student)}",
        "controls=false",
        "steps=3",
    )
    drain(kdgen.distill(recipe, tmp_path / "run", teacher=kdgen.from_module(torch.nn.Hardtanh())))
    metrics = Report.read(tmp_path / "run").rows[-1].metrics
    assert {"psnr", "psnr@15", "psnr@25", "psnr@50"} <= metrics.keys()
    restored = load(tmp_path / "run")(torch.zeros(3, 1, 5), sigma=10)
    assert restored.shape == (3, 1, 5)


def test_a_student_that_gives_nan_is_told_in_the_run_the_report_and_the_card(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BreaksOnLarge(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor, **cond: torch.Tensor) -> torch.Tensor:
            return self.conv(x) / (x.shape[-1] <= 16)

    monkeypatch.setitem(registry._registered, "net", {**registry._registered["net"], "breaks": BreaksOnLarge})
    recipe = make('student={"name": "breaks"}', "steps=8")
    events = drain(run.distill(recipe, tmp_path / "run"))
    said = [event.data["message"] for event in events if event.kind == "warning" and event.phase == "student"]
    assert len(said) == 1
    assert "gives NaN or infinite values in 1 of 1 answers" in said[0]
    looks = [event.data for event in events if event.kind == "evaluate" and event.phase != "teacher"]
    assert looks
    assert all(look["psnr"] is None and look["not_finite"] == 1 for look in looks)
    report = Report.read(tmp_path / "run")
    for role in ("student", "control, equal steps", "control, equal seconds"):
        assert f"BROKEN: the {role} tiny" in report.verdict
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "**Do not use it: it gave NaN or infinite values in 1 of 1 answers when it was measured.**" in card
    assert "model-index" not in card


def test_a_plain_module_is_a_teacher(make: Make, tmp_path: Path) -> None:
    class Blur(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.min() > -1.5
            return torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)

    net = kdgen.from_module(Blur(), range=(0.0, 1.0))
    drain(kdgen.distill(make("teacher=blur", "controls=false"), tmp_path / "run", teacher=net))
    teacher = Report.read(tmp_path / "run").find("teacher")
    assert teacher is not None
    assert (teacher.name, teacher.num_params) == ("blur", 0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            'stages=[{"methods": [{"name": "feature", "args": {"pairs": [["no.such", "1"]]}}]}]',
            r"stages\.0\.methods\.0 \(feature\) names a layer of the student, and \w+ has no layer 'no\.such'",
        ),
        (
            'stages=[{"methods": [{"name": "output"}, {"name": "feature", "args": {"pairs": [["1", "not"]]}}]}]',
            r"stages\.0\.methods\.1 \(feature\) names a layer of the teacher, and \w+ has no layer 'not'",
        ),
        ('stages.0.ratio={"name": "fixed", "args": {"alpha": 1.5}}', r"alpha"),
        ('stages.0.methods=[{"name": "outputt"}]', "output"),
        ('student={"name": "dncnn", "args": {"widht": 3}}', "width"),
        ("teacher=no-such-model", "no model at 'no-such-model'"),
        ('task.args={"images": {"name": "folder", "args": {"path": "/no/such/folder"}}}', "/no/such/folder"),
        ("device=cuda:99", "cuda:99"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(make: Make, tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        drain(run.distill(make(setting), tmp_path / "run"))
    assert "\n" not in str(caught.value)


def test_measuring_takes_none_of_the_seconds_for_training(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, pause = Denoise.evaluate, 0.4

    def slowly(self: Denoise, net: torch.nn.Module, **more: object) -> object:
        time.sleep(pause if more.get("limit") else 0)
        return measured(self, net, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Denoise, "evaluate", slowly)
    events = drain(run.distill(make("evaluate_every=0.001", "controls=false"), tmp_path / "run"))
    (phase,) = [event for event in events if event.kind == "phase"]
    looks = [event.kind for event in events if event.phase == "student"].count("evaluate")
    assert looks == 3
    assert phase.data["seconds"] < looks * pause


def test_the_first_lines_of_progress_tell_no_more_time_than_there_is(make: Make, tmp_path: Path) -> None:
    recipe = make("controls=false", "evaluate_every=null").lasting(seconds=1.0)
    left = [event.data["seconds_left"] for event in run.distill(recipe, tmp_path / "run") if event.kind == "step"]
    assert left
    assert max(left) < 1.0


def test_the_report_does_not_say_alpha_was_1_where_methods_weigh_nothing(make: Make, tmp_path: Path) -> None:
    stage = '{"methods": [{"name": "output", "weight": 0}], "objectives": [{"name": "sharpness"}], "share": 0.5}'
    drain(run.distill(make(f"stages=[{stage}]", "controls=false", "steps=2"), tmp_path / "run"))
    assert "Alpha stayed at 1" not in (tmp_path / "run" / "report.md").read_text()
